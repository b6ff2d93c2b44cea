package admin

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
)

// withKeys is a box with two keys, a backup key and a stick.
func withKeys(t *testing.T) (w *world, shares []backup.Share, plug func()) {
	t.Helper()
	w = enrolled(t)
	for _, line := range []string{"access add legal-team", "key generate p256 for legal-team", "key generate mlkem768p256 for legal-team"} {
		w.do(line)
	}
	shares = backedUp(t, w)
	plug = func() { w.body.rack.Plug(diskstest.Disk{Name: "sdb", Model: "Ultra", Serial: "4C53", Size: 4 << 20}) }
	return w, shares, plug
}

func onDisk(t *testing.T, w *world) []byte {
	t.Helper()
	b, err := os.ReadFile(w.body.rack.File("sdb"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overwrite fills the beginning of the stick.
func overwrite(t *testing.T, w *world, with string) {
	t.Helper()
	f, err := os.OpenFile(w.body.rack.File("sdb"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(with), 0); err != nil {
		t.Fatal(err)
	}
}

// TestBackupToDisk: an officer picks a disk from the list, is told what it holds and that this is lost, and the backup is there, as it would
// have been printed; who has not seen what is lost overwrites nothing.
func TestBackupToDisk(t *testing.T) {
	w, shares, plug := withKeys(t)
	w.has("backup disks", "no disk but the box's own")
	w.fail("backup make to disk sdb", []string{"yes"}, "here is no disk sdb, or it is the box's own")
	w.fail("backup make to disk "+diskstest.Own, []string{"yes"}, "or it is the box's own")
	plug()
	w.has("backup disks", "sdb", "Ultra, serial 4C53, 4.2 MB, by usb: empty")
	w.has("backup show", "last backup", "never")
	if _, o := w.try("backup make to disk sdb"); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "which is empty") {
		t.Errorf("asks %+v", o.Ask)
	}
	w.fail("backup make to disk sdb", []string{"no"}, "ot confirmed")
	if out := w.do("backup make to disk sdb", "yes"); strings.Contains(out, "BEGIN KRA") || !strings.Contains(strings.Join(strings.Fields(out), " "), "was read back") {
		t.Errorf("says\n%s", out)
	}
	if b := onDisk(t, w); !bytes.HasPrefix(b[512:], []byte("-----BEGIN KRA BACKUP-----\n")) {
		t.Errorf("on the disk: %.80q", b[512:])
	}
	w.has("backup disks", "a backup of box box1")
	if out := w.do("backup show"); strings.Contains(out, "last backup   never") {
		t.Errorf("it was not noted:\n%s", out)
	}
	if out := w.do("backup verify from disk sdb"); !strings.Contains(strings.Join(strings.Fields(out), " "), "box box1 of this domain, whole") {
		t.Errorf("verify says\n%s", out)
	}
	w.do("backup share", shares[0].Text())
	if out := w.do("backup share", shares[2].Text()); !strings.Contains(out, "The backup opens") {
		t.Errorf("says\n%s", out)
	}

	_, o := w.try("backup make to disk sdb")
	if o.Ask == nil || !strings.Contains(o.Ask.Prompt, "ALL THAT IT HOLDS IS LOST: a backup of box box1, made 2") || !strings.Contains(o.Ask.Prompt, "Ultra, serial 4C53") {
		t.Errorf("asks %+v", o.Ask)
	}
	w.do("log show 5")
	overwrite(t, w, "somebody's thesis")
	before := onDisk(t, w)
	w.failAgain("backup make to disk sdb", []string{"yes"}, "not the one that the question was about")
	if !bytes.Equal(before, onDisk(t, w)) {
		t.Error("it was overwritten")
	}
	w.fail("backup verify from disk sdb", nil, "t holds no backup")
	_, o = w.try("backup make to disk sdb")
	if o.Ask == nil || !strings.Contains(o.Ask.Prompt, "ALL THAT IT HOLDS IS LOST: something else") {
		t.Errorf("asks %+v", o.Ask)
	}
	if _, o := w.try("backup make to disk sdb", "yes"); o.Error != "" {
		t.Error(o.Error)
	}
}

// failAgain says what was asked about before, without asking anew.
func (w *world) failAgain(line string, answers []string, want string) {
	w.t.Helper()
	if _, o := w.try(line, answers...); !strings.Contains(o.Error, want) {
		w.t.Errorf("%s: %q, want %q", line, o.Error, want)
	}
}

// TestDiskIsPulled: a disk that is pulled, or does not take what is written, is no backup, and the box goes on.
func TestDiskIsPulled(t *testing.T) {
	w, _, plug := withKeys(t)
	plug()
	for name, pulled := range map[string]func(){
		"pulled":             func() { w.body.rack.Unplug("sdb") },
		"another one":        func() { w.body.rack.Unplug("sdb"); plug() },
		"with other content": func() { overwrite(t, w, "x") },
	} {
		w.try("backup make to disk sdb")
		w.body.pulled = pulled
		_, o := w.try("backup make to disk sdb", "yes")
		if !strings.Contains(o.Error, "o backup was made: ") {
			t.Errorf("%s: %q", name, o.Error)
		}
		w.has("backup show", "last backup", "never")
		w.body.pulled = nil
		if name == "pulled" {
			plug()
		}
	}
	w.has("log show 5", "failed backup make to disk sdb")
	w.do("backup make", "yes")
}

// TestRestoreFromDisk: a new box is made what the lost one was from a disk, with two officers where there are two; and what the second one
// approves is what was on the disk when the first one asked.
func TestRestoreFromDisk(t *testing.T) {
	one, shares, plug := withKeys(t)
	plug()
	one.try("backup make to disk sdb")
	one.do("backup make to disk sdb", "yes")
	first := onDisk(t, one)
	one.try("backup make to disk sdb")
	one.do("backup make to disk sdb", "yes")
	second := onDisk(t, one)

	w := factoryOf(t, one.desk)
	w.body.rack.Plug(diskstest.Disk{Name: "sdb", Size: 4 << 20})
	w.enrolAs("box2")
	w.login()
	w.do("officer add paul", "what olga typed for him", "what olga typed for him")
	w.as(paul, "what olga typed for him", func() { w.do("officer passphrase", "what olga typed for him", paulPass, paulPass) })
	w.fail("backup restore box1 from disk sdb", []string{"yes"}, "t holds no backup")
	overwrite(t, w, string(first))
	w.try("backup restore box3 from disk sdb")
	w.fail("backup restore box3 from disk sdb", []string{"yes"}, "not of box3")
	w.try("backup restore box1 from disk sdb")
	w.do("backup restore box1 from disk sdb", "yes")
	overwrite(t, w, string(second))
	w.as(paul, paulPass, func() { w.fail("approve 1", []string{"yes"}, "what it depends on is not what it was") })
	overwrite(t, w, string(first))
	w.as(paul, paulPass, func() { w.do("approve 1", "yes") })
	w.do("backup share", shares[0].Text())
	w.do("backup share", shares[2].Text(), "yes")
	if len(w.store.State().Keys()) != 2 {
		t.Errorf("restored %d keys", len(w.store.State().Keys()))
	}
}

// TestDisksOfProcess1: what process 1 refuses is said, and names of disks are completed.
func TestDisksOfProcess1(t *testing.T) {
	w, _, plug := withKeys(t)
	plug()
	if got := w.Names(t.Context(), w.session, "disk"); len(got) != 1 || got[0] != "sdb" {
		t.Errorf("completes %q", got)
	}
	w.body.refuse = errors.New("nothing is mounted")
	for _, line := range []string{"backup disks", "backup make to disk sdb", "backup verify from disk sdb"} {
		w.fail(line, nil, "othing is mounted")
	}
	if got := w.Names(t.Context(), w.session, "disk"); len(got) != 0 {
		t.Errorf("completes %q", got)
	}
	w.Agent.c.Machine = nil
	w.fail("backup disks", nil, "ordinary host")
	if bytesOf(999) != "999 B" || bytesOf(64_000_000_000) != "64.0 GB" || diskWords(machine.Disk{}) != "of unknown make, serial unknown, 0 B, by " {
		t.Errorf("words: %s, %s", bytesOf(64_000_000_000), diskWords(machine.Disk{}))
	}
}

var many = flag.Int("keys", 1100, "how many keys TestLargeBackup has in its backup")

// TestLargeBackup: a box with more keys than a paste takes is told so, and that a disk takes them; from there another box gets all of them.
func TestLargeBackup(t *testing.T) {
	w := enrolled(t)
	if _, err := w.store.Commit(t.Context(), store.KeyModeSet{Mode: hsm.Vault}); err != nil {
		t.Fatal(err)
	}
	var keys []store.Change
	for range *many {
		k, files, err := w.fault.Generate(t.Context(), hsm.P256, hsm.Replicable, hsm.Vault)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, store.KeyAdd{Key: k, Made: time.Now(), Files: files})
	}
	if _, err := w.store.Commit(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	shares := backedUp(t, w)
	w.fail("backup make", []string{"yes"}, "t fits on a disk: backup make to disk")
	w.has("backup show", "disks only")
	stick := diskstest.Disk{Name: "sdb", Model: "Ultra", Serial: "4C53", Size: 2 * machine.MaxBackup}
	w.body.rack.Plug(stick)
	w.try("backup make to disk sdb")
	w.do("backup make to disk sdb", "yes")
	text, err := w.body.ReadDisk(t.Context(), must(w.body.rack.Drawer.List())[0])
	if err != nil {
		t.Fatal(err)
	}

	two := factoryOf(t, w.desk)
	two.body.rack.Plug(stick)
	two.enrolAs("box2")
	if _, err := two.store.Commit(t.Context(), store.KeyModeSet{Mode: hsm.Vault}); err != nil {
		t.Fatal(err)
	}
	two.login()
	rack := two.body.rack.Drawer
	if err := rack.Write("sdb", must(rack.List())[0].Mark, machine.Title{Box: "box1", Made: time.Now()}, []byte(text)); err != nil {
		t.Fatal(err)
	}
	two.try("backup restore box1 from disk sdb")
	two.do("backup restore box1 from disk sdb", "yes")
	two.do("backup share", shares[0].Text())
	two.do("backup share", shares[2].Text(), "yes")
	if n := len(two.store.State().Keys()); n != *many {
		t.Errorf("restored %d keys of %d", n, *many)
	}
	if r, err := two.fault.Status(t.Context()); err != nil || int(r.Report.Keys) != *many {
		t.Errorf("the token has %d keys, %v", r.Report.Keys, err)
	}
	t.Logf("%d keys, %d bytes", *many, len(text))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
