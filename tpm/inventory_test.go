package tpm

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// What there is of secrets is what the TPM says of itself and of the files, at each step of a box's life: a blob of another TPM, or one
// that was spoilt, is none.
func TestHoldings(t *testing.T) {
	of := newAuthority(t, "example")
	b, other := newBench(t, of), newBench(t, of)
	want := func(when string, want ...wire.Holding) {
		t.Helper()
		got, err := b.Holdings(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: Holdings() = %v, %v; want %v", when, got, err, want)
		}
	}
	seeds := []wire.Holding{{Kind: wire.StorageSeed}, {Kind: wire.EndorsementSeed}}
	keys := []wire.Holding{{Kind: wire.AttestationKey}}
	for _, d := range label.Builtin() {
		keys = append(keys, wire.Holding{Kind: wire.LabelKey, Label: d.Label})
	}
	presence := wire.Holding{Kind: wire.PresencePhrase, Escrowed: true}
	auths := []wire.Holding{{Kind: wire.OwnerAuth, Escrowed: true}, {Kind: wire.LockoutAuth, Escrowed: true}, {Kind: wire.PlatformAuth}}
	b.boot(v1)
	b.stage(label.Running)
	want("factory", append(slices.Clone(seeds), wire.Holding{Kind: wire.PlatformAuth})...)
	b.request()
	want("asked for enrolment", slices.Concat(seeds, keys, []wire.Holding{presence}, auths)...)
	b.enrol()
	state, half := wire.Holding{Kind: wire.StateSecret}, wire.Holding{Kind: wire.StateHalf}
	all := slices.Concat(seeds, keys, []wire.Holding{state, half, presence}, auths)
	want("enrolled", all...)
	b.boot(v1)
	want("started again", all...)
	b.serves()
	want("running", all...)

	other.enrol()
	kept, err := os.ReadFile(filepath.Join(b.dir, labelFile(label.Root)))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(filepath.Join(other.dir, labelFile(label.Root)))
	if err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(b.dir, labelFile(label.Root)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	less := slices.DeleteFunc(slices.Clone(all), func(h wire.Holding) bool { return h.Label == label.Root })
	put(theirs)
	want("a key of another TPM", less...)
	put([]byte("{}"))
	want("a key that was spoilt", less...)
	put(kept)
	want("undone", all...)
	if err := os.Remove(filepath.Join(b.dir, ownerFile)); err != nil {
		t.Fatal(err)
	}
	gone := slices.Clone(all)
	gone[slices.Index(gone, wire.Holding{Kind: wire.OwnerAuth, Escrowed: true})].Escrowed = false
	want("an escrow that was lost", gone...)
}
