package admin

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// backedUp makes a box with a backup key, as far as this package's token process goes: it is of another domain than the desk.
func backedUp(t *testing.T, w *world) (shares []backup.Share) {
	t.Helper()
	seed := backup.NewSeed()
	public, err := seed.Public()
	if err != nil {
		t.Fatal(err)
	}
	if shares, err = backup.Split(seed, hsm.PeerOf(public), 2, 3); err != nil {
		t.Fatal(err)
	}
	k := store.BackupKey{Public: public, Threshold: 2, Shares: commitments(shares), Nonce: label.Digest{1}, Number: 1, Made: time.Now()}
	pins := w.store.State().PINs()
	var files hsm.Files
	if k.Letter, files, err = w.fault.Admit(t.Context(), hsm.Token{PIN: pins.User.Bytes(), SOPIN: pins.SO.Bytes()}, hsmtest.BackupApproval(t, hsmtest.Box, public, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Commit(t.Context(), store.BackupKeySet{Key: k, Files: files}); err != nil {
		t.Fatal(err)
	}
	return shares
}

// TestBackupLeavesAfterItsRecord: with no room in the log no key is shown.
func TestBackupLeavesAfterItsRecord(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	backedUp(t, w)
	var broken failing
	w.Agent.c.Log = &broken
	told := 0
	w.Agent.c.Unlogged = func() { told++ }
	for after := range 3 {
		broken = failing{auditLog: w.log, after: after}
		out, o := w.try("backup make", "yes")
		leaves := after == 2 // asked and sends are recorded, and what came of it is not
		if o.Error == "" || strings.Contains(out, "BEGIN KRA BACKUP") != leaves {
			t.Errorf("log fails after %d records: %q\n%s", after, o.Error, out)
		}
	}
	if told != 1 {
		t.Errorf("told %d times that the module did what the log lacks, want once", told)
	}
}

// TestRestoreIsAllOrNothing: where the last step fails, the box is as it was, and no key stays in its token; then it succeeds.
func TestRestoreIsAllOrNothing(t *testing.T) {
	one := enrolled(t)
	for _, line := range []string{"access add legal-team", "key generate p256 for legal-team", "key generate mlkem768p256 for legal-team", "rule add office true", "access lists legal-team is office"} {
		if line == "rule add office true" {
			line = "rule add office is true"
		}
		one.do(line)
	}
	shares := backedUp(t, one)
	_, text, _ := strings.Cut(one.do("backup make", "yes"), "-----BEGIN")
	text = "-----BEGIN" + text
	fake := forged(t, one.store.State())

	w := factoryOf(t, one.desk)
	w.enrolAs("box2")
	w.login()
	w.do("officer add paul", "what olga typed for him", "what olga typed for him")
	w.as(paul, "what olga typed for him", func() { w.do("officer passphrase", "what olga typed for him", paulPass, paulPass) })
	w.do("backup restore box1", text, "yes")
	w.fail("backup share", []string{shares[0].Text()}, "nows backup key")
	w.as(paul, paulPass, func() { w.do("approve 1", "yes") })
	w.fail("backup share", []string{fake.Text()}, "hare 2 is wrong")
	w.do("backup share", shares[0].Text())
	w.has("system secrets", "1: seed or share of a backup key")
	w.fault.certify = errors.New("no certificate today")
	w.fail("backup share", []string{shares[2].Text(), "yes"}, "othing was restored")
	if i, err := w.fault.Status(t.Context()); err != nil || i.Report.Keys != 0 || w.fault.destroyed != 2 {
		t.Errorf("the token has %d keys, %d were destroyed: %v", i.Report.Keys, w.fault.destroyed, err)
	}
	w.fault.certify = nil
	w.do("backup share", shares[2].Text(), "yes")
	if len(w.store.State().Keys()) != 2 || len(w.store.State().Rules()) != 1 {
		t.Errorf("restored %d keys, %d rules", len(w.store.State().Keys()), len(w.store.State().Rules()))
	}
	w.fail("backup share", []string{shares[0].Text()}, "nows backup key")
}

// forged is a share of a state's backup key with a true checksum and a false value.
func forged(t *testing.T, st *store.State) backup.Share {
	t.Helper()
	k, _ := st.BackupKey()
	all, err := backup.Split(backup.NewSeed(), k.ID(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	return all[1]
}

// TestDestroyedKeyIsNotRestored: what this box has destroyed stays so, whatever a backup has.
func TestDestroyedKeyIsNotRestored(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	k := w.store.State().Keys()[0]
	b := label.Backup{Keys: []label.ReplicaKey{{SPKI: k.SPKI}}}
	s := &step{a: w.Agent}
	if parcels, left := s.arriving(b, nil); len(parcels) != 1 || len(left) != 0 {
		t.Errorf("%d taken, %d left", len(parcels), len(left))
	}
	if parcels, left := s.arriving(b, []store.Record{{Bucket: "gone", Key: k.ID.String()}}); len(parcels) != 0 || len(left) != 1 {
		t.Errorf("destroyed there: %d taken, %d left", len(parcels), len(left))
	}
	if _, err := w.store.Commit(t.Context(), store.AccessRemove{ID: "legal-team"}, store.KeyRemove{ID: k.ID}); err != nil {
		t.Fatal(err)
	}
	if parcels, left := s.arriving(b, nil); len(parcels) != 0 || len(left) != 1 {
		t.Errorf("destroyed here: %d taken, %d left", len(parcels), len(left))
	}
}

// TestBackupKeyTakesTwo: one officer alone makes no backup key, and one that is not written down within an hour is forgotten.
func TestBackupKeyTakesTwo(t *testing.T) {
	w := paired(t)
	w.do("backup key shares 2 of 3", "yes")
	w.fail("backup key next", nil, "No backup key is being made")
	w.as(paul, paulPass, func() { w.do("approve 1", "yes") })
	if out := w.do("backup key next"); !strings.Contains(out, "Share 1 of 3") {
		t.Errorf("shows:\n%s", out)
	}
	x := w.making.shares[0]
	all, err := backup.Split(backup.NewSeed(), w.making.key.ID(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.fail("backup share", []string{all[0].Text()}, "hare 1 is wrong")
	w.do("backup share", x.Text())
	if out := w.do("backup key next"); !strings.Contains(out, "Share 2 of 3") {
		t.Errorf("shows:\n%s", out)
	}
	seed := w.making.seed
	w.Agent.c.Now = func() time.Time { return time.Now().Add(shareLimit) }
	w.fail("backup key next", nil, "No backup key is being made")
	if _, err := seed.Public(); err == nil {
		t.Error("what was forgotten is still there")
	}
	w.fail("backup key shares 1 of 3", []string{"yes"}, "two at least")
	w.fail("backup key shares 2 of 17", []string{"yes"}, "16 at most")
}

// TestRestoreSaysWhetherRevoked: who restores is told whether the domain has revoked the lost box, as far as this one knows; what a revoked
// box has made afterwards is refused; and an auditor who verifies a backup does not end a restore that waits.
func TestRestoreSaysWhetherRevoked(t *testing.T) {
	one := enrolled(t)
	one.do("access add legal-team")
	one.do("key generate p256 for legal-team")
	shares := backedUp(t, one)
	backupOf := func() string {
		_, text, _ := strings.Cut(one.do("backup make", "yes"), "-----BEGIN")
		return "-----BEGIN" + text
	}
	text := backupOf()
	w := factoryOf(t, one.desk)
	w.enrolAs("box2")
	w.login()
	asks := func(text, want string) {
		t.Helper()
		_, o := w.try("backup restore box1", text)
		if o.Ask == nil || !strings.Contains(o.Ask.Prompt, want) {
			t.Errorf("asks %+v, %q; want %q", o.Ask, o.Error, want)
		}
	}
	permit := func(p label.SignedPermissions, err error) {
		t.Helper()
		if err == nil {
			_, err = w.store.Commit(t.Context(), store.PermissionsSet{Signed: p.Bytes()})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	asks(text, "this one does not know")
	permit(one.desk.Publish(desk.Terms{}))
	asks(text, "HAS NOT REVOKED THAT BOX, as of permissions number 1")
	made, err := time.Parse(time.RFC3339, regexp.MustCompile(`made +(\S+Z)`).FindStringSubmatch(w.do("backup verify", text))[1])
	if err != nil {
		t.Fatal(err)
	}
	for !time.Now().After(made.Add(time.Second)) { // revocations are in whole seconds
		time.Sleep(10 * time.Millisecond)
	}
	permit(one.desk.Revoke(desk.Whom{Name: "box1", Reason: "stolen"}))
	asks(text, "(stolen), after this backup was made")
	late := backupOf()
	w.fail("backup restore box1", []string{late, "yes"}, "box box1 is revoked since", "made after that")

	w.do("backup restore box1", text, "yes")
	w.do("backup share", shares[0].Text())
	w.fail("backup verify", []string{text}, "restore of box box1 waits for shares")
	out := w.do("backup share", shares[1].Text(), "yes")
	if strings.Contains(out, "Have box box1 revoked") || !strings.Contains(strings.Join(strings.Fields(out), " "), "Dual control, service, sources of time and syslog are as they were") {
		t.Errorf("says\n%s", out)
	}
}

// TestTooLargeIsKnownBefore: that a backup would not fit is said before a key is wrapped, and a wrapped key is no larger than what was
// set aside for it.
func TestTooLargeIsKnownBefore(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	for _, suite := range []string{"p256", "p384", "rsa3072", "mlkem768p256"} {
		w.do("key generate " + suite + " for legal-team")
	}
	backedUp(t, w)
	s := &step{a: w.Agent}
	k, _ := w.store.State().BackupKey()
	keys, lost := s.cargo()
	b, err := s.newBackup(k, keys, lost)
	if err != nil || len(keys) != 4 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	for i, key := range keys {
		all, _, err := w.fault.Pack(t.Context(), k.ID(), []block.KeyID{key.ID})
		if err != nil {
			t.Fatal(err)
		}
		was, is := parcelLike(key.Suite), all[0]
		if len(is.Wrapped) > len(was.Wrapped) || len(is.Wrapped)+32 < len(was.Wrapped) || len(is.SeedKey) != len(was.SeedKey) || len(is.Seed) != len(was.Seed) || len(b.Keys[i].Wrapped) != len(was.Wrapped) {
			t.Errorf("%s: wrapped %d, seed %d and %d bytes; set aside %d, %d and %d", key.Suite, len(is.Wrapped), len(is.SeedKey), len(is.Seed), len(was.Wrapped), len(was.SeedKey), len(was.Seed))
		}
	}
	i := slices.IndexFunc(keys, func(k store.Key) bool { return k.Suite == hsm.RSA3072 })
	for len(keys) < 1000 {
		keys = append(keys, keys[i])
	}
	if b, err = s.newBackup(k, keys, lost); err != nil {
		t.Fatal(err)
	}
	if err := fits(b, label.MaxDocument); err == nil || !strings.Contains(err.Error(), "KiB with its 1000 keys") || !strings.Contains(err.Error(), "fits on a disk") {
		t.Errorf("1000 keys: %v", err)
	}
	if err := fits(b, label.MaxBackup); err != nil {
		t.Errorf("1000 keys on a disk: %v", err)
	}
}
