package release

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// impostors are a certificate and one of an authority with the name, as long as it is, but not the key of its issuer.
func impostors(t *testing.T) []*x509.Certificate {
	t.Helper()
	name := pkix.Name{CommonName: strings.Repeat("é", 3000)}
	form := func(n int64, subject pkix.Name) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(n), Subject: subject, BasicConstraintsValid: true, IsCA: n == 1,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	}
	made := func(c, parent *x509.Certificate) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		if err == nil {
			c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return []*x509.Certificate{made(form(2, aliceName), form(1, name)), made(form(1, name), form(1, name))}
}

// TestStrangersWriteLittle asks with names that crypto/x509 quotes, for as many headers as there may be.
func TestStrangersWriteLittle(t *testing.T) {
	w := newWorld(t)
	w.strangersWorld()
	headers := make([]block.Header, kra.MaxHeaders)
	for i := range headers {
		headers[i] = w.hsm.header(t, "legal")
	}
	w.serveOne(nil, compose(t, "", kra.Presented{Certificates: impostors(t)}, toCertificate(t), headers...).Encode())
	for i, e := range w.jour.last(len(headers)) {
		want := `"reason":"` + asFirst + `"`
		if i == 0 {
			want = "candidate authority certificate \\\"éé"
		}
		if got := entryText(e); len(got) > 2*maxNote || !strings.Contains(got, want) || strings.Contains(got, "\ufffd") {
			t.Fatalf("record %d has %d bytes: %.300s; want %s", i, len(got), got, want)
		}
	}
}
