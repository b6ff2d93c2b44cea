package boxtest_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
)

var shareLine = regexp.MustCompile(`(?m)^[1-5]: .*$`)

// backupKey makes a backup key, has the domain approve it, and returns its shares, each typed back.
func backupKey(t *testing.T, b *boxtest.Box, line string, n int) (shares []string) {
	t.Helper()
	shares, request := askedKey(t, b, line, n)
	b.Do("backup key accept", approval(t, b, request))
	return shares
}

// askedKey makes a backup key and returns its shares, each typed back, and the request that the domain approve it.
func askedKey(t *testing.T, b *boxtest.Box, line string, n int) (shares []string, request string) {
	t.Helper()
	b.Do(line, "yes")
	for range n {
		s := strings.Join(shareLine.FindAllString(b.Do("backup key next"), -1), "\n")
		request = b.Do("backup share", s)
		shares = append(shares, s)
	}
	return shares, request
}

// approval is the domain's answer to a request for a backup key.
func approval(t *testing.T, b *boxtest.Box, request string) string {
	t.Helper()
	text, err := b.Desk.ApproveBackupKey([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// backupOf cuts the backup out of what was shown.
func backupOf(t *testing.T, shown string) string {
	t.Helper()
	i, j := strings.Index(shown, "-----BEGIN KRA BACKUP-----"), strings.Index(shown, "-----END KRA BACKUP-----\n")
	if i < 0 || j < i {
		t.Fatalf("no backup in %q", shown)
	}
	return shown[i : j+len("-----END KRA BACKUP-----\n")]
}

// TestDomainApprovesBackupKeys: a backup key counts when the domain has approved it, across a restart; what it approved before the newest, for
// another box, or not at all, the token's process does not take.
func TestDomainApprovesBackupKeys(t *testing.T) {
	one := boxtest.Start(t)
	legalTeam(one)
	refuses(t, one, "no backup key waits", "backup key request")
	refuses(t, one, "no backup key waits", "backup key accept")
	_, asked := askedKey(t, one, "backup key shares 2 of 3", 3)
	refuses(t, one, "no backup key", "backup make", "yes")
	refuses(t, one, "no block", "backup key accept", asked)
	first := approval(t, one, asked)
	again := one.Do("backup key request")
	if a, b := fingerprint(t, again), fingerprint(t, one.Do("backup show")); a != b {
		t.Errorf("the request says fingerprint %s, and backup show %s", a, b)
	}
	if lines, err := one.Desk.PreviewBackupKey([]byte(again)); err != nil || !strings.Contains(strings.Join(lines, "\n"), fingerprint(t, again)) {
		t.Errorf("the desk shows %q, %v; want the fingerprint at the console", lines, err)
	}
	one.Reset()
	one.Login()
	one.Do("backup key accept", first)
	one.Do("backup make", "yes")
	one.Do("backup key accept", first)
	one.Do("backup make", "yes")

	_, asked = askedKey(t, one, "backup key shares 3 of 3", 3)
	refuses(t, one, "this box asked for "+fingerprint(t, asked), "backup key accept", first)
	one.Do("backup key accept", approval(t, one, asked))
	refuses(t, one, "this box asked for", "backup key accept", first)
	if out := one.Do("backup show"); !strings.Contains(words(out), "approved as number 2") {
		t.Errorf("backup show says\n%s", out)
	}
	one.Do("backup make", "yes")
	verifyLog(t, one)
}

var fingerprintField = regexp.MustCompile(`fingerprint\s+((?:[0-9a-f]{4}-){7}[0-9a-f]{4})`)

// fingerprint is the one that was shown last.
func fingerprint(t *testing.T, shown string) string {
	t.Helper()
	all := fingerprintField.FindAllStringSubmatch(shown, -1)
	if len(all) == 0 {
		t.Fatalf("no fingerprint in\n%s", shown)
	}
	return all[len(all)-1][1]
}

// TestTotalLoss: a box is lost; another of its domain gets its backup and two of three shares, and releases by its rules what was
// encrypted to its keys. A bound key is named as lost; nothing but that backup, those shares and that domain will do.
func TestTotalLoss(t *testing.T) {
	one := boxtest.Start(t)
	legalTeam(one)
	one.Do("key generate mlkem768p256 for legal-team")
	one.Do("access add secrets")
	one.Do("key generate p256 bound for secrets")
	bob := one.Person("bob")
	h, rest := header(t, one.Agent(&bob), "privileged")
	refuses(t, one, "no backup key", "backup make", "yes")
	shares := backupKey(t, one, "backup key shares 2 of 3", 3)
	other, _ := askedKey(t, one, "backup key age "+one.Desk.Domain().Escrow, 0)
	if len(other) != 0 {
		t.Fatal("shares of a key that is encrypted to recipients")
	}
	if out := one.Do("backup show"); !strings.Contains(words(out), "2 of 3 shares") {
		t.Errorf("an unfinished key took the place of the one before:\n%s", out)
	}
	shown := one.Do("backup make", "yes")
	if !strings.Contains(words(shown), "of secrets, bound to this box: it never leaves") {
		t.Errorf("does not say what it has not:\n%s", shown)
	}
	text := backupOf(t, shown)
	if log := one.Do("log show 20"); !strings.Contains(words(log), "2 keys, backup key") {
		t.Errorf("the log does not say what left:\n%s", log)
	}
	if out := one.Do("backup verify", text); !strings.Contains(words(out), "box box1 of this domain, whole") {
		t.Errorf("verify says:\n%s", out)
	}
	one.Do("backup share", shares[0])
	if out := one.Do("backup share", shares[2]); !strings.Contains(words(out), "the backup opens") {
		t.Errorf("two shares of three say:\n%s", out)
	}
	if out := one.Do("backup share", shares[1]); !strings.Contains(words(out), "right: share 2 of 3") {
		t.Errorf("a share alone says:\n%s", out)
	}
	refuses(t, one, "line 3", "backup share", strings.Replace(shares[1], "\n3: ", "\n3: 7777 ", 1))
	refuses(t, one, "this box has", "backup restore box1", text, "yes")
	verifyLog(t, one)
	one.Stop()

	two, stranger := one.Another("box2"), boxtest.Start(t)
	refuses(t, stranger, "refused", "backup restore box1", text, "yes")
	refuses(t, two, "not of box3", "backup restore box3", text, "yes")
	lines := strings.Split(text, "\n")
	lines[9] = lines[9][:8] + "AAAA" + lines[9][12:]
	refuses(t, two, "line 7 of the backup's", "backup restore box1", strings.Join(lines, "\n"), "yes")
	two.Do("backup restore box1", text, "yes")
	two.Do("backup share", shares[2])
	refuses(t, two, "typed already", "backup share", shares[2], "yes")
	refuses(t, two, "not confirmed", "backup share", shares[1], "no")
	if list := two.Do("access list"); strings.Contains(list, "legal-team") {
		t.Errorf("restored before the last share was confirmed:\n%s", list)
	}
	said := words(two.Do("backup share", shares[1], "yes"))
	for _, want := range []string{"lost: key", "of secrets", "domain revoke -dir dir -key", "access identifier secrets has no current key"} {
		if !strings.Contains(said, want) {
			t.Errorf("lacks %q:\n%s", want, said)
		}
	}
	if list := two.Do("key list"); strings.Count(list, "replica of box1") != 2 {
		t.Errorf("the keys are:\n%s", list)
	}
	two.Reset()
	two.Login()
	if got, err := opened(t, two.Agent(&bob), h, rest); err != nil || got != "privileged" {
		t.Errorf("the restored box opened %q, %v; want what was encrypted to the lost one's key", got, err)
	}
	refuses(t, two, "this box has", "backup restore box1", text, "yes")
	verifyLog(t, two)
}

// TestTotalLossDisk: a box is lost, and another of its domain gets its backup from a disk (a file, behind the code of process 1 that opens one) and
// two of three shares: it releases what was encrypted to the lost one's key. Process 1 itself refuses the box's own disk.
func TestTotalLossDisk(t *testing.T) {
	one := boxtest.Start(t)
	legalTeam(one)
	bob := one.Person("bob")
	h, rest := header(t, one.Agent(&bob), "privileged")
	shares := backupKey(t, one, "backup key shares 2 of 3", 3)
	refuses(t, one, "no disk sdb", "backup make to disk sdb", "yes")
	refuses(t, one, "box's own", "backup make to disk "+diskstest.Own, "yes")
	stick := diskstest.Disk{Name: "sdb", Model: "Ultra", Serial: "4C53", Size: 4 << 20}
	from := one.Disks.Plug(stick)
	refuses(t, one, "asks write on disk sdb (ultra, serial 4c53", "backup make to disk sdb")
	if out := words(one.Do("backup make to disk sdb", "yes")); !strings.Contains(out, "was read back") {
		t.Errorf("says\n%s", out)
	}
	if out := words(one.Do("backup disks")); !strings.Contains(out, "ultra, serial 4c53, 4.2 mb, by usb: a backup of box box1, made 2") {
		t.Errorf("lists\n%s", out)
	}
	if log := words(one.Do("log show 20")); !strings.Contains(log, "done backup make to disk sdb") || !strings.Contains(log, "1 key, backup key") {
		t.Errorf("the log does not say what left:\n%s", log)
	}
	verifyLog(t, one)
	one.Stop()

	two := one.Another("box2")
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(two.Disks.Plug(stick), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := words(two.Do("backup verify from disk sdb")); !strings.Contains(out, "box box1 of this domain, whole") {
		t.Errorf("verify says\n%s", out)
	}
	refuses(t, two, "asks make this box", "backup restore box1 from disk sdb")
	two.Do("backup restore box1 from disk sdb", "yes")
	two.Disks.Unplug("sdb")
	two.Do("backup share", shares[2])
	two.Do("backup share", shares[1], "yes")
	if got, err := opened(t, two.Agent(&bob), h, rest); err != nil || got != "privileged" {
		t.Errorf("the restored box opened %q, %v; want what was encrypted to the lost one's key", got, err)
	}
	verifyLog(t, two)
}
