package qemu_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/qemu"
)

// An attack changes a box that is switched off, and what it changed can be put back.
type attack struct {
	do, undo func() error
	reasons  []string // what the console must say
	mode     string   // of the box that suffers it; empty: locked
}

// suffer carries out an attack on a box that has released: it must be locked, or in maintenance where the registers alone show the attack,
// say why and serve nothing; with the attack undone it must release again.
func (g *guest) suffer(t *testing.T, s *inService, a attack) {
	t.Helper()
	if err := a.do(); err != nil {
		t.Fatal(err)
	}
	if err := g.up(cmp.Or(a.mode, "locked")); err != nil {
		t.Fatal(err)
	}
	said := spaces.ReplaceAllString(g.greeting.Text, " ")
	for _, want := range a.reasons {
		if !strings.Contains(said, want) {
			t.Errorf("the console does not say %q:\n%s", want, g.greeting.Text)
		}
	}
	if g.serves() {
		t.Error("a box that was attacked answers on its port")
	}
	if err := g.off(); err != nil {
		t.Fatal(err)
	}
	if err := a.undo(); err != nil {
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatalf("the attack was undone: %v", err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("the attack was undone: %v", err)
	}
	if !g.serves() {
		t.Error("the check for a silent port sees nothing on one that serves")
	}
	g.cut()
}

var spaces = regexp.MustCompile(`\s+`)

// TestBoxRefusesChangedInitramfs changes one byte in the initramfs, in a file that no program depends on. The firmware starts it, for the
// domain's key signed it; that it signed no approval of it is what counts.
func TestBoxRefusesChangedInitramfs(t *testing.T) {
	g, s := copyOf(t)
	good := builtUKI(t)
	changed, err := otherCommit(good, g.lab.manifest.Commit)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := g.lab.desk.SignUKI(changed)
	if err != nil {
		t.Fatal(err)
	}
	g.suffer(t, s, attack{
		do:      func() error { return image.InstallUKI(g.box.Disk(), bad) },
		undo:    func() error { return image.InstallUKI(g.box.Disk(), good) },
		reasons: []string{"PCR 4 (boot loader): expected", "PCR 11 (kernel, initramfs and command line): expected", "by approval", "found"},
		mode:    "maintenance",
	})
}

func builtUKI(t *testing.T) []byte {
	t.Helper()
	uki, err := os.ReadFile(filepath.Join(*dist, image.FileSigned))
	if err != nil {
		t.Fatal(err)
	}
	return uki
}

const debianStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// otherCommit changes the first character of the commit in the image's own manifest.
func otherCommit(uki []byte, commit string) ([]byte, error) {
	sections, err := image.ReadUKI(uki)
	if err != nil {
		return nil, err
	}
	initrd := &sections[len(sections)-1]
	r, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	archive, err := r.DecodeAll(initrd.Data, nil)
	if err != nil {
		return nil, err
	}
	at := bytes.Index(archive, []byte(`"commit": "`+commit))
	if at < 0 {
		return nil, fmt.Errorf("the image has no commit %q", commit)
	}
	archive[at+len(`"commit": "`)] ^= 1
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(4<<20))
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(archive); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	initrd.Data = packed.Bytes()
	stub, err := os.ReadFile(debianStub)
	if err != nil {
		return nil, err
	}
	return image.BuildUKI(stub, sections)
}

// TestBoxIgnoresLoadOptions gives the boot loader another kernel command line, in the firmware's variable store. Where Secure Boot is on,
// the loader takes none but its own: nothing is measured into PCR 12, and the box opens as ever.
func TestBoxIgnoresLoadOptions(t *testing.T) {
	g, s := copyOf(t)
	if err := qemu.SetLoadOptions(g.box.Vars(), g.lab.manifest.CommandLine+" lockdown=none"); err != nil {
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	if err := g.operator.Must("PCR 12"+strings.Repeat(" ", 8)+strings.Repeat("0", 64), "status"); err != nil {
		t.Error(err)
	}
}

// TestBoxRefusesCredential drops a file on the ESP that systemd-stub adds to the initramfs: PCR 4 and 11 stay.
func TestBoxRefusesCredential(t *testing.T) {
	g, s := copyOf(t)
	const file = image.BootPath + ".extra.d/x.cred"
	g.suffer(t, s, attack{
		do:      func() error { return image.PutFile(g.box.Disk(), file, []byte("a credential")) },
		undo:    func() error { return image.RemoveFile(g.box.Disk(), file) },
		reasons: []string{"PCR 12", "expected 000000000000", "by approval", "found"},
		mode:    "maintenance",
	})
}

// TestBoxRefusesAnotherTPM moves the disk into another machine, whose TPM has never run.
func TestBoxRefusesAnotherTPM(t *testing.T) {
	g, s := copyOf(t)
	stranger, err := qemu.NewBox(filepath.Join(t.TempDir(), "stranger"), g.box.Disk(), g.lab.keys)
	if err != nil {
		t.Fatal(err)
	}
	g.suffer(t, s, attack{
		do:      func() error { return g.box.TakeTPM(stranger) },
		undo:    func() error { return g.box.TakeTPM(s.box) },
		reasons: []string{"state"},
	})
}

// Files of the state partition.
const (
	storeFile = "krad/store.db"
	logDir    = "krad/log"
	labelFile = "tpm/label-key-release.json"
)

// TestBoxRefusesOlderState puts back copies that are older than an acknowledged change: all of the state, the store alone, the log alone.
func TestBoxRefusesOlderState(t *testing.T) {
	g, s := copyOf(t)
	older, newer := filepath.Join(t.TempDir(), "older"), filepath.Join(t.TempDir(), "newer")
	if err := image.CopyPartition(g.box.Disk(), image.PartitionState, older); err != nil {
		t.Fatal(err)
	}
	if err := g.change(`access title legal-team "Legal department"`); err != nil {
		t.Fatal(err)
	}
	if err := image.CopyPartition(g.box.Disk(), image.PartitionState, newer); err != nil {
		t.Fatal(err)
	}
	put := func(partition string) error {
		return image.RestorePartition(g.box.Disk(), image.PartitionState, partition)
	}
	// mixed is the state of one copy with the store of the other.
	mixed := func(state, store string) error {
		if err := put(store); err != nil {
			return err
		}
		data, err := image.ReadStateFile(g.box.Disk(), storeFile)
		if err != nil {
			return err
		}
		if err := put(state); err != nil {
			return err
		}
		return image.WriteStateFile(g.box.Disk(), storeFile, data)
	}
	for _, c := range []struct {
		name   string
		do     func() error
		reason string
	}{
		{"store and log", func() error { return put(older) }, "state rolled back: generation"},
		{"store", func() error { return mixed(newer, older) }, "state rolled back: generation"},
		{"log", func() error { return mixed(older, newer) }, "the log was edited: it was cut"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.suffer(t, s, attack{do: c.do, undo: func() error { return put(newer) }, reasons: []string{c.reason}})
			// The good boot went on from newer: what it left is the newest now.
			if err := image.CopyPartition(g.box.Disk(), image.PartitionState, newer); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// change starts the box, has its officer do one thing and switches it off.
func (g *guest) change(command string, answers ...string) error {
	if err := g.up("enrolled"); err != nil {
		return err
	}
	if err := g.login(); err != nil {
		return err
	}
	if _, err := g.operator.Do(command, answers...); err != nil {
		return err
	}
	return g.off()
}

// TestBoxRefusesFork makes two histories: the power is cut after a change is on
// the disk and before the TPM knows it; an older copy goes on with another
// change; then the first disk comes back.
func TestBoxRefusesFork(t *testing.T) {
	g, s := copyOf(t)
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	before, err := g.machine.Snapshot(filepath.Join(t.TempDir(), "before"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.operator.Do(`access title legal-team "First history"`); err != nil {
		t.Fatal(err)
	}
	g.cut()
	first := filepath.Join(t.TempDir(), "first")
	if err := image.CopyPartition(g.box.Disk(), image.PartitionState, first); err != nil {
		t.Fatal(err)
	}
	// The TPM as it was before it heard of the change, with the disk that has it: as the cut would leave them.
	if err := g.box.TakeTPM(before); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second")
	if err := image.CopyPartition(before.Disk(), image.PartitionState, second); err != nil {
		t.Fatal(err)
	}
	if err := image.RestorePartition(g.box.Disk(), image.PartitionState, second); err != nil {
		t.Fatal(err)
	}
	if err := g.change(`access title legal-team "Second history"`); err != nil {
		t.Fatal(err)
	}
	if err := image.CopyPartition(g.box.Disk(), image.PartitionState, second); err != nil {
		t.Fatal(err)
	}
	g.suffer(t, s, attack{
		do:      func() error { return image.RestorePartition(g.box.Disk(), image.PartitionState, first) },
		undo:    func() error { return image.RestorePartition(g.box.Disk(), image.PartitionState, second) },
		reasons: []string{"state"},
	})
}

// TestBoxRefusesEditedRecord flips a bit of a log record.
func TestBoxRefusesEditedRecord(t *testing.T) {
	g, s := copyOf(t)
	names, err := image.ListState(g.box.Disk(), logDir)
	if err != nil {
		t.Fatal(err)
	}
	file := ""
	for _, n := range names {
		if strings.HasPrefix(n, "seg-") && file == "" {
			file = logDir + "/" + n
		}
	}
	if file == "" {
		t.Fatalf("no log segment among %q", names)
	}
	good, err := image.ReadStateFile(g.box.Disk(), file)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bytes.TrimRight(bad, "\x00"))/2] ^= 1
	g.suffer(t, s, attack{
		do:      func() error { return image.WriteStateFile(g.box.Disk(), file, bad) },
		undo:    func() error { return image.WriteStateFile(g.box.Disk(), file, good) },
		reasons: []string{"the log was edited"},
	})
}

// TestBoxRefusesWeakenedLabelKey lets the label key sign with an empty password, in its public area on the disk.
func TestBoxRefusesWeakenedLabelKey(t *testing.T) {
	g, s := copyOf(t)
	good, err := image.ReadStateFile(g.box.Disk(), labelFile)
	if err != nil {
		t.Fatal(err)
	}
	var blob map[string][]byte
	if err := json.Unmarshal(good, &blob); err != nil {
		t.Fatal(err)
	}
	// TPMT_PUBLIC: type, name algorithm, attributes; bit 6 is userWithAuth.
	attributes := blob["public"][4:8]
	binary.BigEndian.PutUint32(attributes, binary.BigEndian.Uint32(attributes)|1<<6)
	bad, err := json.Marshal(blob)
	if err != nil {
		t.Fatal(err)
	}
	g.suffer(t, s, attack{
		do:      func() error { return image.WriteStateFile(g.box.Disk(), labelFile, bad) },
		undo:    func() error { return image.WriteStateFile(g.box.Disk(), labelFile, good) },
		reasons: []string{"label key"},
	})
}
