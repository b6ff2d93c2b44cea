package desk

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// Every certificate that the desk makes for a box verifies from the root alone, by Go and by OpenSSL.
func TestDomainCertificates(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	text, err := os.ReadFile(filepath.Join(d.dir, boxesDir, "box1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := label.OpenBundle(text, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	e := b.Enrolment
	for what, der := range map[string][]byte{"label": e.Labels[0].Chain[0], "platform": e.Platform, "authority": e.Authority} {
		t.Run(what, func(t *testing.T) {
			goVerify(t, d, [][]byte{der}, nil, true)
			opensslVerify(t, d, [][]byte{der}, true)
		})
	}
	file, err := os.ReadFile(filepath.Join(d.dir, AuthorityFile))
	if p, _ := pem.Decode(file); err != nil || p == nil || !bytes.Equal(p.Bytes, e.Authority) {
		t.Errorf("%s is not the certificate in the bundle: %v", AuthorityFile, err)
	}
	c, err := x509.ParseCertificate(e.Platform)
	if err != nil || c.Subject.CommonName != "box1" || c.Subject.SerialNumber != e.Passport.EK.String() {
		t.Errorf("platform certificate of %v, %v", c.Subject, err)
	}
	if e.Passport.Model != "unknown" || e.Passport.Serial != "unknown" {
		t.Errorf("passport of a machine that says nothing: %+v", e.Passport)
	}
}

// A domain made before there were authority certificates gets one; another key's is not taken for it.
func TestAuthorityCertificate(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(d.dir, AuthorityFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%s: %v", AuthorityFile, err)
	}
	other := newDesk(t)
	theirs, err := os.ReadFile(filepath.Join(other.dir, AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{theirs, []byte("no certificate")} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = Open(d.dir)
		wantText(t, err, AuthorityFile)
	}
}
