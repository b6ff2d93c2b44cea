package tpm

import (
	"bytes"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// With a fresh half the store's key is another, at once and at every later boot, and no copy of the disk brings the one of before back. The
// module's key stays. In no other state than running and approved does the TPM take a half.
func TestFreshHalf(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	oldStore, oldChain := wire.Derive(b.serves())
	before := b.copied()
	half := bytes.Repeat([]byte{7}, wire.SecretSize)
	wantRefused(t, b.WriteHalf(t.Context(), half[1:]), "has 32 bytes")

	b.boot(version{"other", 1})
	b.stage(label.Running)
	wantRefused(t, b.WriteHalf(t.Context(), half), "write half of the state key")
	b.boot(v1)
	b.stage(label.Locked)
	wantRefused(t, b.WriteHalf(t.Context(), half), "write half of the state key")

	b.boot(v1)
	o := b.serves()
	if store, _ := wire.Derive(o); store != oldStore {
		t.Fatal("a refused half is there")
	}
	if err := b.WriteHalf(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	want := wire.StoreKey(wire.Base(o), half)
	for _, disk := range []string{b.copied(), before} {
		b.restore(disk)
		b.boot(v1)
		store, chain := wire.Derive(b.serves())
		if store == oldStore || store != want || chain != oldChain {
			t.Errorf("with the fresh half: store's key as before %v, as foretold %v; chain's as before %v", store == oldStore, store == want, chain == oldChain)
		}
	}
}
