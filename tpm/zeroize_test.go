package tpm

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// copied is a copy of the disk.
func (b *bench) copied() string {
	b.t.Helper()
	dir := filepath.Join(b.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// restore puts a copy in the place of the disk.
func (b *bench) restore(copied string) {
	b.t.Helper()
	b.down()
	if err := removeIn(b.dir); err != nil {
		b.t.Fatal(err)
	}
	if err := os.CopyFS(b.dir, os.DirFS(copied)); err != nil {
		b.t.Fatal(err)
	}
}

// clear is what the firmware's set-up does when it clears the TPM.
func (b *bench) clear() {
	b.t.Helper()
	b.foreign(func(d *Device) {
		platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
		if _, err := (tpm2.Clear{AuthHandle: platform}).Execute(d); err != nil {
			b.t.Fatal(err)
		}
	})
}

// wantState checks what a box is after a start.
func (b *bench) wantState(when string, want wire.State, reason string) {
	b.t.Helper()
	b.boot(v1)
	if s := b.status(); s.State != want || !strings.Contains(s.Reason, reason) {
		b.t.Errorf("%s: %v, %q; want %v, %q", when, s.State, s.Reason, want, reason)
	}
}

// What a zeroized box held opens from no copy of its disk, neither the last nor the first, and with the TPM that it was made with; and the
// box that was so sealed signs nothing more. A locked box is not zeroized by its console but by clearing its TPM.
func TestZeroize(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	b.stage(label.Running)
	wantRefused(t, b.Zeroize(t.Context()), "not enrolled")
	b.enrol()
	first := b.copied()
	b.boot(v1)
	before := b.serves()
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Fatal(err)
	}
	last := b.copied()

	for _, c := range []string{first, last} {
		b.restore(c)
		b.boot(v1)
		if !equal(t, before, b.serves()) {
			t.Fatal("control: a copy of the disk does not open before")
		}
	}
	b.boot(version{"other", 1})
	b.stage(label.Locked)
	wantRefused(t, b.Zeroize(t.Context()), "overwrite half of the state key", "clear the TPM in the firmware's set-up")
	b.boot(v1)
	if !equal(t, before, b.serves()) {
		t.Fatal("control: a refusal has changed something")
	}

	if err := b.Zeroize(t.Context()); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&newKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.LeafTLS(t.Context(), spki)
	wantRefused(t, err, "it was zeroized")
	wantRefused(t, b.WriteRecord(t.Context(), record(3)), "it was zeroized")
	b.wantState("zeroized", wire.Inconsistent, "it was zeroized")
	b.stage(label.Open)
	_, _, err = b.Unseal(t.Context())
	wantRefused(t, err, "it was zeroized")
	for name, c := range map[string]string{"the first copy": first, "the last copy": last} {
		b.restore(c)
		b.boot(v1)
		b.stage(label.Open)
		o, _, err := b.Unseal(t.Context())
		if err == nil && halfOf(t, o) == halfOf(t, before) {
			t.Errorf("%s of the disk opens", name)
		}
	}

	b.clear()
	b.wantState("TPM cleared, an old disk", wire.Inconsistent, "the TPM was cleared")
	b.stage(label.Locked)
	if err := b.Zeroize(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantState("TPM cleared, disk emptied", wire.Factory, "")
	b.enrol()
	b.boot(v1)
	if equal(t, before, b.serves()) {
		t.Error("enrolled anew, it has the secrets of before")
	}
}

// A zeroized box whose TPM was cleared is a factory box, without another word on its console.
func TestZeroizedAndCleared(t *testing.T) {
	b := enrolled(t)
	if err := b.Zeroize(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.clear()
	b.wantState("cleared", wire.Factory, "")
	b.enrol()
	b.wantState("enrolled anew", wire.Enrolled, "")
	if err := os.Remove(filepath.Join(b.dir, sealedFile)); err != nil {
		t.Fatal(err)
	}
	b.wantState("its state is gone", wire.Inconsistent, "record without state")
}

func halfOf(t *testing.T, o wire.Opened) (half string) {
	t.Helper()
	if err := o.Use(func(_, h []byte) error { half = string(h); return nil }); err != nil {
		t.Fatal(err)
	}
	return half
}
