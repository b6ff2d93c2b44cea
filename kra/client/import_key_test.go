package client_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/client"
)

// TestImportKey: what a private key is wrapped to is the import key of the box that certified it, by the domain's root, and no other key.
func TestImportKey(t *testing.T) {
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	issue := func(pub crypto.PublicKey, uri string, ca bool, by *x509.Certificate, with crypto.Signer) *x509.Certificate {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: uri}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageKeyEncipherment}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign
		}
		if uri != "root" {
			c.URIs = []*url.URL{u}
			c.MaxPathLenZero = ca
		}
		if by == nil {
			by = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, pub, with)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	text := func(all ...*x509.Certificate) (out []byte) {
		for _, c := range all {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out
	}
	rootKey, labelKey, strange := key(), key(), key()
	root := issue(rootKey.Public(), "root", true, nil, rootKey)
	other := issue(strange.Public(), "root", true, nil, strange)
	label := issue(labelKey.Public(), "kra://example/label/key-release/box1", true, root, rootKey)
	wrong := issue(labelKey.Public(), "kra://example/label/maintenance/box1", true, root, rootKey)
	k, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(uri string) *x509.Certificate { return issue(&k.PublicKey, uri, false, label, labelKey) }
	good := leaf("kra://example/import/box1")
	trust, err := client.ParseTrust(text(root))
	if err != nil {
		t.Fatal(err)
	}
	got, err := trust.ImportKey(text(good, label), nil, now)
	if err != nil || got.Box != "box1" || got.Domain != "example" || !got.Public.Equal(&k.PublicKey) {
		t.Fatalf("ImportKey() = %+v, %v", got, err)
	}
	for name, x := range map[string]struct {
		text []byte
		at   time.Time
		why  string
	}{
		"nothing":             {nil, now, "no PEM certificate"},
		"without the label's": {text(good), now, "verify import key"},
		"another box's name":  {text(leaf("kra://example/import/box2"), label), now, "is not the import key of box box1"},
		"another domain's":    {text(leaf("kra://other/import/box1"), label), now, "is not the import key"},
		"a key-release key":   {text(leaf("kra://example/import"), label), now, "not that of a box's import key"},
		"by another label":    {text(issue(&k.PublicKey, "kra://example/import/box1", false, wrong, labelKey), wrong), now, "not with"},
		"by another root":     {text(issue(&k.PublicKey, "kra://example/import/box1", false, other, strange), other), now, "verify import key"},
		"by the root itself":  {text(issue(&k.PublicKey, "kra://example/import/box1", false, root, rootKey)), now, "no label key stands"},
		"expired":             {text(good, label), now.Add(2 * time.Hour), "verify import key"},
		"no RSA key":          {text(issue(strange.Public(), "kra://example/import/box1", false, label, labelKey), label), now, "not that of a box's import key"},
	} {
		if got, err := trust.ImportKey(x.text, nil, x.at); err == nil || !strings.Contains(err.Error(), x.why) || got.Public != nil {
			t.Errorf("%s: %v, want %q", name, err, x.why)
		}
	}
	if got, err := client.UnverifiedImportKey(text(good)); err != nil || got.Box != "" || got.ID == [32]byte{} {
		t.Errorf("UnverifiedImportKey() = %+v, %v", got, err)
	}
}
