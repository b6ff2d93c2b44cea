package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestKeyKeepsItsNames: what a certificate called the key, it is called when another one has taken its place, and when its
// access identifier has another key.
func TestKeyKeepsItsNames(t *testing.T) {
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var refs []block.Ref
	certify := func(serial int64) [][]byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Issuer: pkix.Name{CommonName: "ca"}, Subject: pkix.Name{CommonName: "ca"},
			SubjectKeyId: []byte{1, byte(serial)}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), ca)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		number, err := asn1.Marshal(cert.SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		ski, err := block.SKIRef(cert.SubjectKeyId)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, block.IssuerSerialRef(cert.RawIssuer, number), ski)
		return [][]byte{der}
	}
	id := block.KeyIDOfSPKI(spki)
	other := testKeyNumbered(1)
	k := hsm.Key{ID: id, SPKI: spki, Suite: hsm.P256, Custody: hsm.Bound, Origin: hsm.Generated, Mode: hsm.Resident}
	s, err := Apply(newState(), AccessAdd{"legal-team", ""}, KeyAdd{Key: k, Access: "legal-team", Chain: certify(1)},
		CertificateSet{"legal-team", id, certify(300)}, KeyAdd{Key: other, Access: "legal-team"}, AccessKeys{"legal-team", []block.KeyID{other.ID}})
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := block.RefsOf(spki)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := s.Key(id)
	have, err := got.Refs()
	if err != nil || len(have) != len(fixed)+len(refs) {
		t.Errorf("Refs = %v, %v", have, err)
	}
	for _, want := range append(fixed, refs...) {
		if !slices.Contains(have, want) {
			t.Errorf("%s is not among the names", want)
		}
	}
	var changes []Change
	for serial := range int64(maxKeyNames) {
		changes = append(changes, AccessKeys{"legal-team", []block.KeyID{id}}, CertificateSet{"legal-team", id, certify(1000 + serial)})
	}
	if s, err = Apply(s, changes...); err != nil {
		t.Fatal(err)
	}
	if got, _ = s.Key(id); len(got.Names) != maxKeyNames || got.Names[maxKeyNames-1] != refs[len(refs)-1] {
		t.Errorf("after many certificates the key has %d names", len(got.Names))
	}
}
