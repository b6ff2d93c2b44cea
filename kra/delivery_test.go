package kra

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
)

// The committed certificate of the request vectors, and keys for delivery.
var (
	testCert  = readCert("testdata/certificate.pem")
	testSPKI  = base64.StdEncoding.EncodeToString(spkiOf(newECDH(ecdh.P256()).PublicKey()))
	otherSPKI = base64.StdEncoding.EncodeToString(spkiOf(newECDH(ecdh.P384()).PublicKey()))
)

func readCert(file string) *x509.Certificate {
	text, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	b, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		panic(err)
	}
	return c
}

func newECDH(c ecdh.Curve) *ecdh.PrivateKey {
	k, err := c.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func spkiOf(k crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		panic(err)
	}
	return der
}

// holder makes a certificate that signs itself, with that usage.
func holder(t testing.TB, key crypto.Signer, use x509.KeyUsage) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "holder"}, KeyUsage: use,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fileKey(t testing.TB) MessageKey {
	t.Helper()
	k, err := block.NewFileKey(bytes.Repeat([]byte{0xab}, block.FileKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opened reports whether it is fileKey's key.
func opened(k MessageKey, err error) error {
	if err != nil {
		return err
	}
	return k.Use(func(b []byte) error {
		if !bytes.Equal(b, bytes.Repeat([]byte{0xab}, block.FileKeySize)) {
			return fmt.Errorf("another key")
		}
		return nil
	})
}

// TestSealedIsBound seals to an EC and to an RSA certificate: only the key of the certificate opens it, and only as the
// answer to the same request, of the same box, at the same place.
func TestSealedIsBound(t *testing.T) {
	ec, rs, other := ecKey(t, elliptic.P256()), rsaKey(t), ecKey(t, elliptic.P256())
	for name, tt := range map[string]struct {
		cert    *x509.Certificate
		private any
		wrong   []any
	}{
		"EC":  {holder(t, ec, x509.KeyUsageKeyAgreement), ec, []any{other, rs, nil, ec.Public()}},
		"RSA": {holder(t, rs, x509.KeyUsageKeyEncipherment), rs, []any{ec, rsaKey(t), nil, rs.Public()}},
	} {
		to, err := Sealable(tt.cert)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b := NewBinding("example", "box1", []byte("a request"))
		s, err := b.Seal(to, 3, fileKey(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		raw, err := Response{Results: []Result{ReleasedSealed(s, "legal-team", []byte("{}"))}, Checkpoint: "x", Chain: "y"}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseResponse(raw, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, ok := back.Results[0].Sealed()
		if !ok || back.Results[0].Key().Use(func([]byte) error { return nil }) == nil {
			t.Errorf("%s: parsed as %v", name, back.Results[0])
		}
		if err := opened(b.Open(tt.private, 3, s)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, wrong := range tt.wrong {
			if opened(b.Open(wrong, 3, s)) == nil {
				t.Errorf("%s: key %d opens it", name, i)
			}
		}
		for what, open := range map[string]func() (MessageKey, error){
			"another request": func() (MessageKey, error) {
				return NewBinding("example", "box1", []byte("A request")).Open(tt.private, 3, s)
			},
			"another box": func() (MessageKey, error) {
				return NewBinding("example", "box2", []byte("a request")).Open(tt.private, 3, s)
			},
			"another domain": func() (MessageKey, error) {
				return NewBinding("elsewhere", "box1", []byte("a request")).Open(tt.private, 3, s)
			},
			"another place": func() (MessageKey, error) { return b.Open(tt.private, 2, s) },
			"changed": func() (MessageKey, error) {
				c := s
				c.body = bytes.Clone(s.body)
				c.body[len(c.body)-1] ^= 1
				return b.Open(tt.private, 3, c)
			},
			"nothing": func() (MessageKey, error) { return b.Open(tt.private, 3, Sealed{}) },
		} {
			if opened(open()) == nil {
				t.Errorf("%s: opens as %s", name, what)
			}
		}
	}
}

func TestSealable(t *testing.T) { // what the issuer of the certificate says that the key is for, counts
	p256, p384, rs := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), rsaKey(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key  crypto.Signer
		use  x509.KeyUsage
		want bool
	}{
		"EC, agreement":     {p256, x509.KeyUsageKeyAgreement, true},
		"EC, both":          {p256, x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature, true},
		"EC, unsaid":        {p256, 0, true},
		"EC, signature":     {p256, x509.KeyUsageDigitalSignature, false},
		"EC, encipherment":  {p256, x509.KeyUsageKeyEncipherment, false},
		"RSA, encipherment": {rs, x509.KeyUsageKeyEncipherment, true},
		"RSA, unsaid":       {rs, 0, true},
		"RSA, signature":    {rs, x509.KeyUsageDigitalSignature, false},
		"RSA, agreement":    {rs, x509.KeyUsageKeyAgreement, false},
		"P-384":             {p384, 0, false},
		"Ed25519":           {ed, 0, false},
	} {
		if to, err := Sealable(holder(t, tt.key, tt.use)); (err == nil) != tt.want || (to != nil) != tt.want {
			t.Errorf("%s: %v, %v", name, to, err)
		}
	}
	b := NewBinding("d", "b", nil)
	if _, err := b.Seal(p384.Public(), 0, fileKey(t)); err == nil {
		t.Error("sealed to P-384")
	}
	if _, err := b.Seal(nil, 0, fileKey(t)); err == nil {
		t.Error("sealed to nothing")
	}
}

// TestDeliveryKey: the key made for a request counts only with the signature of the certified key over it and over the
// very headers asked for.
func TestDeliveryKey(t *testing.T) {
	headers := [][]byte{[]byte("one"), []byte("two")}
	once := newECDH(ecdh.P256())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger := holder(t, ecKey(t, elliptic.P256()), 0)
	for name, key := range map[string]crypto.Signer{"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA": rsaKey(t), "Ed25519": ed} {
		d, err := SignDelivery("example", "box1", once.PublicKey(), headers, key)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := NewRequest(headers, "corp:CN=holder")
		if err == nil {
			r, err = r.Deliver(d)
		}
		if err == nil {
			r, err = ParseRequest(r.Encode())
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d, cert := r.Delivery(), holder(t, key, x509.KeyUsageDigitalSignature)
		if err := d.VerifyKey("example", "box1", cert, headers); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		other, err := SignDelivery("example", "box1", newECDH(ecdh.P256()).PublicKey(), headers, key)
		if err != nil {
			t.Fatal(err)
		}
		other.signature = d.signature
		for what, err := range map[string]error{
			"other headers":      d.VerifyKey("example", "box1", cert, [][]byte{[]byte("one"), []byte("three")}),
			"headers turned":     d.VerifyKey("example", "box1", cert, [][]byte{[]byte("two"), []byte("one")}),
			"headers joined":     d.VerifyKey("example", "box1", cert, [][]byte{[]byte("onetwo")}),
			"one header":         d.VerifyKey("example", "box1", cert, headers[:1]),
			"another key":        other.VerifyKey("example", "box1", cert, headers),
			"somebody else":      d.VerifyKey("example", "box1", stranger, headers),
			"not for signatures": d.VerifyKey("example", "box1", holder(t, key, x509.KeyUsageKeyAgreement), headers),
			"another box":        d.VerifyKey("example", "box2", cert, headers),
			"another domain":     d.VerifyKey("elsewhere", "box1", cert, headers),
			"parts moved":        d.VerifyKey("example/box1", "", cert, headers),
			"no key":             (Delivery{to: ToCertificate}).VerifyKey("example", "box1", cert, headers),
		} {
			if err == nil {
				t.Errorf("%s: verified with %s", name, what)
			}
		}
	}
	if _, err := SignDelivery("example", "box1", newECDH(ecdh.P384()).PublicKey(), headers, ecKey(t, elliptic.P256())); err == nil {
		t.Error("a P-384 key was signed")
	}
	if _, err := NewDelivery(ToKey); err == nil {
		t.Error("delivery to a key without a key")
	}
	if _, err := NewDelivery(0); err == nil {
		t.Error("delivery to nowhere")
	}
}

func TestSealedRefused(t *testing.T) { // shapes that no agent makes
	enc, body, long := strings.Repeat("A", 86)+"A=", strings.Repeat("A", 43)+"=", strings.Repeat("A", 342)+"=="
	_ = long
	for name, sealed := range map[string]string{
		"no suite":      `{"enc":"` + enc + `","body":"` + body + `"}`,
		"unknown suite": `{"suite":"x25519","enc":"` + enc + `","body":"` + body + `"}`,
		"no enc":        `{"suite":"p256","body":"` + body + `"}`,
		"short enc":     `{"suite":"p256","enc":"AAAA","body":"` + body + `"}`,
		"short body":    `{"suite":"p256","enc":"` + enc + `","body":"AAAA"}`,
		"long body":     `{"suite":"p256","enc":"` + enc + `","body":"` + long + `"}`,
		"RSA with enc":  `{"suite":"rsa-oaep","enc":"` + enc + `","body":"` + long + `"}`,
		"RSA short":     `{"suite":"rsa-oaep","body":"` + body + `"}`,
		"policy":        `{"suite":"rsa-oaep","body":"` + long + `","rule":"true"}`,
		"null":          `null`,
	} {
		raw := `{"results":[{"sealed":` + sealed + `,"access":"a","receipt":{}}]}`
		if r, err := ParseResponse([]byte(raw), 1); err == nil {
			t.Errorf("%s: accepted as %v", name, r)
		}
	}
	both := `{"results":[{"key":"AAECAwQFBgcICQoLDA0ODw==","sealed":{"suite":"rsa-oaep","body":"` + long + `"},"access":"a","receipt":{}}]}`
	if r, err := ParseResponse([]byte(both), 1); err == nil {
		t.Errorf("a key in the clear and sealed: accepted as %v", r)
	}
}

func TestSealedDoesNotPrint(t *testing.T) { // nor do errors say anything of the key
	b := NewBinding("d", "b", nil)
	k := fileKey(t)
	if err := k.Use(func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	_, err := b.Seal(ecKey(t, elliptic.P256()).Public(), 0, k)
	if err == nil || strings.Contains(err.Error(), "abab") {
		t.Errorf("sealing a spent key: %v", err)
	}
}
