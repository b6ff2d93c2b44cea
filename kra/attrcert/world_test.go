package attrcert_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/attrcert"
)

// now is the time of every test here; certificates are valid from a day before to a day after.
var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

type keyPair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate; without by, a self-signed one.
func issue(t testing.TB, by *keyPair, key crypto.Signer, tmpl x509.Certificate) *keyPair {
	t.Helper()
	if tmpl.SerialNumber == nil {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
		if err != nil {
			t.Fatal(err)
		}
		tmpl.SerialNumber = n
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = now.AddDate(0, 0, -1), now.AddDate(0, 0, 1)
	}
	parent, signer := &tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &keyPair{c, key}
}

// A corp is a certification authority, an attribute authority under it, and alice.
type corp struct{ ca, aa, alice *keyPair }

// newCorp gives all of them one key.
func newCorp(t testing.TB, key crypto.Signer) corp {
	t.Helper()
	var c corp
	c.ca = issue(t, nil, key, x509.Certificate{Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Corp CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	c.aa = issue(t, c.ca, key, x509.Certificate{Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Corp AA"},
		KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: []byte("the attribute authority")})
	c.alice = c.person(t, "alice")
	return c
}

func (c corp) person(t testing.TB, name string) *keyPair {
	t.Helper()
	return issue(t, c.ca, c.ca.key, x509.Certificate{Subject: pkix.Name{Organization: []string{"Example"}, CommonName: name},
		EmailAddresses: []string{name + "@example.com"}, DNSNames: []string{name + ".example.com"}})
}

// template is a certificate for alice that is valid now and cannot be revoked.
func (c corp) template() attrcert.Template {
	return attrcert.Template{Holder: c.alice.cert, From: now.Add(-time.Hour), Until: now.Add(time.Hour), Groups: []string{"legal", "board"}}
}

func (c corp) issue(t testing.TB, tmpl attrcert.Template) []byte {
	t.Helper()
	raw, err := attrcert.Issue(tmpl, c.aa.cert, c.aa.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (c corp) check() attrcert.Check { return attrcert.Check{Issuer: c.aa.cert, Holder: c.alice.cert} }

func parse(t testing.TB, raw []byte) attrcert.Certificate {
	t.Helper()
	c, err := attrcert.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verify(t testing.TB, raw []byte, k attrcert.Check) attrcert.Verified {
	t.Helper()
	v, err := parse(t, raw).Verify(k)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// write puts a PEM file into a fresh folder.
func write(t testing.TB, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run returns what a program writes.
func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s %q: %v\n%s", name, args, err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return out
}
