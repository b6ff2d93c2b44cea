package attrcert_test

import (
	"bytes"
	"crypto/elliptic"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/attrcert"
)

// FuzzParse asserts that what parses is exactly what was read, that nobody but the signer's key makes it verify, and
// that a refused certificate says nothing.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(files) < 4 {
		f.Fatalf("%d committed seeds; want 4 or more", len(files))
	}
	c := newCorp(f, ecKey(f, elliptic.P256()))
	f.Add(c.issue(f, rich(c)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := attrcert.Parse(raw)
		if err != nil {
			if a.Raw() != nil || a.Issuer() != nil || a.Keys() != nil {
				t.Fatal("a refused certificate is not inert")
			}
			return
		}
		if !bytes.Equal(a.Raw(), raw) || len(a.Keys()) != 1 || a.Serial().Sign() <= 0 {
			t.Fatal("parsed to something else")
		}
		if b, err := attrcert.Parse(a.Raw()); err != nil || b.Keys()[0] != a.Keys()[0] {
			t.Fatalf("parsed again: %v", err)
		}
		other := newCorp(t, c.aa.key)
		if v, err := a.Verify(attrcert.Check{Issuer: other.alice.cert, Holder: other.alice.cert}); err == nil || len(v.Groups()) != 0 {
			t.Fatal("verifies under a stranger")
		}
	})
}
