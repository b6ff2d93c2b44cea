package desk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/tpm"
)

// A P-256 endorsement key is certified for key agreement; an issuer that only the TPM holds completes the path.
func TestEndorsementP256(t *testing.T) {
	d := newDesk(t)
	v, err := tpm.VerifyRequest(parsedRequest(t, asking(t, d).request()), d.domain)
	if err != nil {
		t.Fatal(err)
	}
	root, rootKey := authorityOf(t, nil, nil, "maker")
	issuer, issuerKey := authorityOf(t, root, rootKey, "maker's issuer")
	if err := d.TrustVendor("maker", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})); err != nil {
		t.Fatal(err)
	}
	certify := func(usage x509.KeyUsage, until time.Time) []byte {
		name, err := asn1.Marshal(pkix.RDNSequence{{{Type: tpmManufacturer, Value: "id:494E5443"}}, {{Type: tpmModel, Value: "PTT"}}, {{Type: tpmVersion, Value: "id:00010002"}}})
		if err != nil {
			t.Fatal(err)
		}
		explicit, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, BasicConstraintsValid: true, KeyUsage: usage,
			UnknownExtKeyUsage: []asn1.ObjectIdentifier{endorsementUsage}, ExtraExtensions: []pkix.Extension{{Id: alternativeName, Critical: true, Value: explicit}}}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, v.Endorser, issuerKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	later := time.Now().Add(time.Hour)
	v.Request.EK.Certificate = certify(x509.KeyUsageKeyAgreement, later)
	_, err = d.genuine(v)
	wantText(t, err, "no vendor in")
	v.Request.EK.Chain = [][]byte{issuer.Raw}
	if m, err := d.genuine(v); err != nil || m.manufacturer != "INTC" || m.model != "PTT" {
		t.Errorf("genuine() = %+v, %v", m, err)
	}
	v.Request.EK.Certificate = certify(x509.KeyUsageKeyEncipherment, later)
	_, err = d.genuine(v)
	wantText(t, err, "its key usage is not that of an endorsement key")
	v.Request.EK.Certificate = certify(x509.KeyUsageKeyAgreement, time.Now().Add(-time.Hour))
	_, err = d.genuine(v)
	wantText(t, err, "expired")
	v.Request.EK.Chain = [][]byte{[]byte("no certificate")}
	_, err = d.genuine(v)
	wantText(t, err, "issuer")
}

func authorityOf(t *testing.T, parent *x509.Certificate, by *ecdsa.PrivateKey, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newSigner(t).(*ecdsa.PrivateKey)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// An RSA key under the name that some makers give it is compared as the key that it is.
func TestKeyNamedOAEP(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	named := func(last byte) *x509.Certificate {
		return &x509.Certificate{RawSubjectPublicKeyInfo: bytes.Replace(spki, []byte{0x86, 0xf7, 0x0d, 1, 1, 1}, []byte{0x86, 0xf7, 0x0d, 1, 1, last}, 1)}
	}
	if !certifies(named(7), &key.PublicKey) {
		t.Error("the key named RSAES-OAEP is not known again")
	}
	if certifies(named(7), &other.PublicKey) || certifies(named(10), &key.PublicKey) || certifies(&x509.Certificate{}, &key.PublicKey) || certifies(named(7), nil) {
		t.Error("another key, or a key of another kind, is taken for it")
	}
}

// The description of a TPM comes from whoever makes a request: it is plain text or refused.
func FuzzDescribe(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzDescribe"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := describe(&x509.Certificate{Extensions: []pkix.Extension{{Id: alternativeName, Value: value}}})
		if err != nil {
			return
		}
		for _, s := range []string{m.manufacturer, m.model, m.version} {
			if !plain(s) || strings.ContainsAny(s, "\n\x1b") {
				t.Errorf("described as %q", s)
			}
		}
	})
}
