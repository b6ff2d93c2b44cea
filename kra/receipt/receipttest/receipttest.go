// Package receipttest makes a domain root, a label certificate and receipt keys for tests, as the box's TPM and the
// signing desk would.
package receipttest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A Domain is a root and one label certificate under it.
type Domain struct {
	Name  string
	Roots *x509.CertPool
	Root  *x509.Certificate

	rootKey  *ecdsa.PrivateKey
	labelKey *ecdsa.PrivateKey
}

// New makes a domain whose certificates hold from an hour ago for twenty years.
func New(t testing.TB, name string) Domain {
	t.Helper()
	rootKey, labelKey := newKey(t), newKey(t)
	from := time.Now().Add(-time.Hour)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + " root"}, NotBefore: from,
		NotAfter: from.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	d := Domain{Name: name, Roots: x509.NewCertPool(), rootKey: rootKey, labelKey: labelKey}
	d.Root = sign(t, root, root, rootKey.Public(), rootKey)
	d.Roots.AddCert(d.Root)
	return d
}

// Key makes a receipt key for box whose certificate holds for a day from the time given.
func (d Domain) Key(t testing.TB, box string, from time.Time) (ed25519.PrivateKey, receipt.Path) {
	t.Helper()
	return d.KeyUnder(t, box, box, from)
}

// KeyUnder makes a receipt key for box, certified by the label key of the box called by.
func (d Domain) KeyUnder(t testing.TB, by, box string, from time.Time) (ed25519.PrivateKey, receipt.Path) {
	t.Helper()
	return d.KeyOf(t, "kra://"+d.Name+"/label/key-release/"+by, box, from)
}

// KeyOf makes a receipt key for box, certified by a key whose certificate has the one name by.
func (d Domain) KeyOf(t testing.TB, by, box string, from time.Time) (ed25519.PrivateKey, receipt.Path) {
	t.Helper()
	name, err := url.Parse(by)
	if err != nil {
		t.Fatal(err)
	}
	start := d.Root.NotBefore
	label := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: by}, NotBefore: start,
		NotAfter: start.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{name}}, d.Root, d.labelKey.Public(), d.rootKey)
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: "receipt " + box},
		NotBefore: from.Add(-time.Minute), NotAfter: from.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		URIs: []*url.URL{{Scheme: "kra", Host: d.Name, Path: "/receipt/" + box}}}
	cert := sign(t, leaf, label, pub, d.labelKey)
	path, err := receipt.NewPath([][]byte{cert.Raw, label.Raw})
	if err != nil {
		t.Fatal(err)
	}
	return key, path
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, c, by *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
