package qemu_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
)

// TestBoxStartsOnlySigned puts images on the disk that the domain's db key did not sign, or not so: the firmware starts none of them, says
// so on the serial line and looks for something to start elsewhere. Then the good one starts again.
func TestBoxStartsOnlySigned(t *testing.T) {
	g, s := copyOf(t)
	unsigned, err := os.ReadFile(filepath.Join(*dist, image.FileUKI))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(builtUKI(t))
	changed[len(unsigned)-1] ^= 1
	for name, uki := range map[string][]byte{"unsigned": unsigned, "signed by another domain": foreignSigned(t, unsigned), "changed after it was signed": changed} {
		if err := image.InstallUKI(g.box.Disk(), uki); err != nil {
			t.Fatal(err)
		}
		if err := g.power(); err != nil {
			t.Fatal(err)
		}
		said, err := g.machine.Expect(`(?s)^(.*BdsDxe: failed to load Boot\d+ [^\n]*: Access Denied.*Start PXE over)`, 2*anyMoment)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if bytes.Contains([]byte(said[0]), []byte("kra: ")) {
			t.Errorf("%s: it started", name)
		}
		g.cut()
	}
	if err := image.InstallUKI(g.box.Disk(), builtUKI(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
}

// foreignSigned is an image that another domain signed well.
func foreignSigned(t *testing.T, uki []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := desk.Init(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	if err := desk.MakeSecureBoot(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := d.SignUKI(uki)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
