package inform_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra/policy"
)

// FuzzAliases asserts that whatever stands in a certificate's alternative names, what is taken is text of a known form.
func FuzzAliases(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzAliases/*")
	if err != nil || len(seeds) < 3 {
		f.Fatalf("%d committed seeds; want 3 or more", len(seeds))
	}
	f.Fuzz(func(t *testing.T, names []byte) {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}}}
		items := inform.Aliases(cert, func(string) {})
		for i := range items {
			if !utf8.ValidString(items[i].Value) || items[i].Kind != policy.Alias {
				t.Fatalf("takes %q", items[i])
			}
			items[i].Authority, items[i].Via = "corp", policy.Channel
		}
		if len(items) > policy.MaxItems {
			return
		}
		if _, err := policy.NewInformation(items, nil); err != nil && len(names) < policy.MaxInformation/2 {
			t.Fatal(err)
		}
	})
}
