package label

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
)

// A certificate refers to one document, by its hash; anything else in that place is refused.
func TestDescription(t *testing.T) {
	d, k := newDomain(t)
	doc := []byte("Hello World!")
	uri := d.DescriptionURI(doc)
	if want := "ni://example.org/sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"; uri != want { // RFC 6920, 8.1
		t.Errorf("DescriptionURI() = %s; want %s", uri, want)
	}
	if got := DescriptionPath(sha256.Sum256(doc)); got != "/.well-known/ni/sha-256/f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk" {
		t.Errorf("DescriptionPath() = %s", got)
	}
	e, err := DescriptionExtension(uri)
	if err != nil {
		t.Fatal(err)
	}
	read := func(e ...pkix.Extension) (string, Digest, error) {
		c, err := x509.ParseCertificate(newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), func(c *x509.Certificate) { c.ExtraExtensions = e }))
		if err != nil {
			t.Fatal(err)
		}
		return Description(c)
	}
	if got, h, err := read(e); err != nil || got != uri || h != sha256.Sum256(doc) {
		t.Errorf("Description() = %s, %s, %v", got, h, err)
	}
	if _, _, err := read(); err == nil {
		t.Error("a certificate without reference has one")
	}
	for _, bad := range []string{"", "https://example.org/x", "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk",
		strings.Replace(uri, "256", "512", 1), uri[:len(uri)-1], uri + "A", uri + "=", strings.Replace(uri, "ni:", "nih:", 1)} {
		if _, err := DescriptionExtension(bad); err == nil {
			t.Errorf("refers to %q", bad)
		}
	}
	twice := e
	twice.Value = append(append([]byte{}, e.Value...), 5, 0)
	if c, err := x509.ParseCertificate(newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{twice} })); err == nil {
		if _, _, err := Description(c); err == nil {
			t.Error("bytes after the policies are ignored")
		}
	}
}
