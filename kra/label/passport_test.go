package label

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// newLeaf has the root sign a certificate as the desk does; change may spoil it.
func newLeaf(t testing.TB, d Domain, k keys, pub any, uri string, change func(*x509.Certificate)) []byte {
	t.Helper()
	root, err := d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{URIs: []*url.URL{u}, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, root, pub, k.root)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func attestation(ek Name) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.UnknownExtKeyUsage, c.Subject = []asn1.ObjectIdentifier{AttestationKeyUsage}, pkix.Name{SerialNumber: ek.String()}
	}
}

func newPlatform(t testing.TB, d Domain, k keys, ek Name, box string) []byte {
	t.Helper()
	return newLeaf(t, d, k, &newKey(t).PublicKey, d.PlatformURI(box), attestation(ek))
}

// A bundle whose certificates do not say what it says is not opened, however well it is signed.
func TestBundleCertificates(t *testing.T) {
	d, k := newDomain(t)
	other, theirs := newDomain(t)
	ek := Name{0, 0x0b, 3}
	authority := func(f func(*x509.Certificate)) []byte {
		return newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), f)
	}
	platform := func(f func(*x509.Certificate)) []byte {
		return newLeaf(t, d, k, &k.label.PublicKey, d.PlatformURI("box1"), func(c *x509.Certificate) { attestation(ek)(c); f(c) })
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Enrolment)
		word   string
	}{
		"authority of another root": {func(e *Enrolment) {
			e.Authority = newLeaf(t, other, theirs, &k.label.PublicKey, d.AuthorityURI(), nil)
		}, "not signed by the domain's root"},
		"authority is another key": {func(e *Enrolment) { e.Authority = newLeaf(t, d, k, &k.recovery.PublicKey, d.AuthorityURI(), nil) }, "is for another key"},
		"authority is P-384":       {func(e *Enrolment) { e.Authority = newLeaf(t, d, k, &p384.PublicKey, d.AuthorityURI(), nil) }, "not a P-256 key"},
		"authority's name":         {func(e *Enrolment) { e.Authority = e.Platform }, "its name is not kra://example.org/authority/label"},
		"authority has two names": {func(e *Enrolment) {
			e.Authority = authority(func(c *x509.Certificate) { c.DNSNames = []string{"x.example"} })
		}, "its name is not"},
		"authority is a CA": {func(e *Enrolment) { e.Authority = authority(func(c *x509.Certificate) { c.IsCA = true }) }, "not for signatures only"},
		"authority may certify": {func(e *Enrolment) {
			e.Authority = authority(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })
		}, "not for signatures only"},
		"authority is no certificate": {func(e *Enrolment) { e.Authority = []byte("no") }, "read authority certificate"},
		"platform of another box":     {func(e *Enrolment) { e.Platform = newPlatform(t, d, k, ek, "box2") }, "its name is not kra://example.org/platform/box1"},
		"platform of another EK":      {func(e *Enrolment) { e.Platform = newPlatform(t, d, k, Name{9}, "box1") }, "names another endorsement key"},
		"platform of another root":    {func(e *Enrolment) { e.Platform = newPlatform(t, other, theirs, ek, "box1") }, "not signed by the domain's root"},
		"platform attests nothing": {func(e *Enrolment) {
			e.Platform = platform(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil })
		}, "not for an attestation key"},
		"platform serves clients too": {func(e *Enrolment) {
			e.Platform = platform(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, "not for an attestation key"},
	} {
		b := newBundle(t, d, k)
		c.change(b.Enrolment)
		text, err := b.Sign(k.label)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenBundle(text, d); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v; want %q", name, err, c.word)
		}
	}
	for name, change := range map[string]func(*Enrolment){
		"no authority":    func(e *Enrolment) { e.Authority = nil },
		"no platform":     func(e *Enrolment) { e.Platform = nil },
		"no EK":           func(e *Enrolment) { e.Passport.EK = Name{} },
		"no AK":           func(e *Enrolment) { e.Passport.AK = Name{} },
		"AK is EK":        func(e *Enrolment) { e.Passport.AK = e.Passport.EK },
		"another SRK":     func(e *Enrolment) { e.Passport.SRK = Name{7} },
		"no model":        func(e *Enrolment) { e.Passport.Model = "" },
		"serial's colour": func(e *Enrolment) { e.Passport.Serial = "\x1b[31m" },
	} {
		b := newBundle(t, d, k)
		change(b.Enrolment)
		if _, err := b.Sign(k.label); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// A bundle that was made once opens with every later version, and has the bytes that STATEMENTS.md gives.
func TestBundleVector(t *testing.T) {
	doc, err := os.ReadFile("testdata/domain.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/bundle.pem")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDomain(doc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(text, d)
	if err != nil {
		t.Fatal(err)
	}
	if p := b.Enrolment.Passport; p.Model != "Example 1000" || p.Serial != "0001" || p.EK != (Name{0, 0x0b, 3}) || p.AK != (Name{0, 0x0b, 4}) {
		t.Errorf("passport %+v", p)
	}
}
