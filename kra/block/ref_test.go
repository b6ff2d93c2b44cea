package block_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/blocktest"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// TestIndexesOfOneKey: the id, the subject key identifier of a certificate that Go made and of one that OpenSSL made,
// the thumbprint of the JWK and the age recipient all lead to the one key.
func TestIndexesOfOneKey(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	refs, err := block.RefsOf(spki)
	if err != nil {
		t.Fatal(err)
	}
	id := block.KeyIDOfSPKI(spki)
	if got, ok := refs[0].KeyID(); !ok || got != id {
		t.Errorf("the first name is %v, want the id %v", refs[0], id)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for who, ski := range map[string][]byte{"Go": cert.SubjectKeyId, "OpenSSL": opensslSKI(t, k)} {
		r, err := block.SKIRef(ski)
		if err != nil || !slices.Contains(refs, r) {
			t.Errorf("the subject key identifier by %s, %v, is not among %v", who, r, refs)
		}
	}
	point, _ := k.PublicKey.Bytes()
	jwk, _ := json.Marshal(map[string]string{"crv": "P-256", "kty": "EC", "x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])})
	if r := block.ThumbprintRef(block.KeyIDOfSPKI(jwk)); !slices.Contains(refs, r) { // SHA-256 of the members in order
		t.Errorf("the thumbprint %v is not among %v", r, refs)
	}
	s, err := block.AgeRecipient(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := block.ParseAgeRecipient(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := block.KeyIDOf(pub); got != id {
		t.Errorf("the age recipient leads to %v, want %v", got, id)
	}
	issuer := block.IssuerSerialRef(cert.RawIssuer, []byte{2, 1, 7})
	if issuer == block.IssuerSerialRef(cert.RawIssuer, []byte{2, 1, 8}) || issuer.Kind() != block.RefIssuerSerial {
		t.Error("two certificates have one name")
	}
}

// opensslSKI is the identifier that openssl req gives a certificate.
func opensslSKI(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	key, cert := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	if err := os.WriteFile(key, der, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "req", "-x509", "-key", key, "-keyform", "DER", "-subj", "/CN=x", "-outform", "DER", "-out", cert).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c.SubjectKeyId
}

// TestThumbprintVector is RFC 7638 section 3.1.
func TestThumbprintVector(t *testing.T) {
	n, err := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	refs, err := block.RefsOf(spki)
	if err != nil || refs[len(refs)-1].String() != "thumbprint:NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("RefsOf = %v, %v", refs, err)
	}
}

func TestRefHasOneForm(t *testing.T) {
	id := block.KeyID{1}
	ski, _ := block.SKIRef([]byte{0xab})
	for _, r := range []block.Ref{block.KeyIDRef(id), ski, block.IssuerSerialRef([]byte{1}, []byte{2}), block.ThumbprintRef([32]byte{3})} {
		got, err := block.ParseRef(r.String())
		if err != nil || got != r {
			t.Errorf("ParseRef(%q) = %v, %v", r, got, err)
		}
		b, err := json.Marshal(map[block.Ref]int{r: 1})
		m := map[block.Ref]int{}
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil || m[r] != 1 {
			t.Errorf("JSON %s: %v, %v", b, m, err)
		}
	}
	if _, err := (block.Ref{}).MarshalText(); err == nil || (block.Ref{}).String() != "" {
		t.Error("the zero name is written")
	}
	for _, s := range []string{"", "ski", "ski:", "ski:AB", "ski:a", "ski:ab ", "SKI:ab", "id:" + strings.Repeat("0", 64), "id:00", "tag:0011", "tag:0011223344", "x:00",
		"ski:" + strings.Repeat("00", block.MaxSKI+1), "thumbprint:AA", "thumbprint:" + strings.Repeat("A", 42) + "B", ":", "issuer-serial:ff"} {
		if r, err := block.ParseRef(s); err == nil {
			t.Errorf("ParseRef(%q) = %v", s, r)
		}
	}
	if _, err := block.SKIRef(nil); err == nil {
		t.Error("a key identifier of no bytes is accepted")
	}
	if _, err := block.SKIRef(make([]byte, block.MaxSKI+1)); err == nil {
		t.Error("a key identifier too long is accepted")
	}
}

// FuzzRef asserts the one form of a name.
func FuzzRef(f *testing.F) {
	blocktest.Seeds(f, "FuzzRef")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := block.ParseRef(s); err == nil && r.String() != s {
			t.Fatalf("ParseRef(%q) = %q", s, r)
		}
	})
}

// FuzzPublicKey asserts the one form of a public key, by SubjectPublicKeyInfo and by age recipient.
func FuzzPublicKey(f *testing.F) {
	blocktest.Seeds(f, "FuzzPublicKey")
	f.Fuzz(func(t *testing.T, spki []byte, recipient string) {
		if pub, err := block.ParsePublicKey(spki); err == nil {
			if again, err := block.MarshalPublicKey(pub); err != nil || !bytes.Equal(again, spki) {
				t.Fatalf("%x is accepted and written as %x, %v", spki, again, err)
			}
			if _, err := block.RefsOf(spki); err != nil {
				t.Fatal(err)
			}
		}
		if pub, err := block.ParseAgeRecipient(recipient); err == nil {
			if again, err := block.AgeRecipient(pub); err != nil || again != recipient {
				t.Fatalf("%q is accepted and written as %q, %v", recipient, again, err)
			}
		}
	})
}

func TestPublicKeyHasOneForm(t *testing.T) {
	h := newHybrid(t).Public().(*block.HybridKey)
	spki, err := block.MarshalPublicKey(h)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := block.ParsePublicKey(spki)
	if err != nil || !h.Equal(pub) || h.Equal(newHybrid(t).Public()) || h.Equal(h.Point()) {
		t.Fatalf("ParsePublicKey(MarshalPublicKey) = %v, %v", pub, err)
	}
	if *update {
		writeKeySeeds(t, spki)
	}
	for name, b := range map[string][]byte{"cut": spki[:len(spki)-1], "longer": append(bytes.Clone(spki), 0), "nothing": nil, "half": spki[:40]} {
		if _, err := block.ParsePublicKey(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	bad := bytes.Clone(spki)
	bad[len(bad)-1] ^= 1
	if _, err := block.ParsePublicKey(bad); err == nil {
		t.Error("a point off the curve is accepted")
	}
}

func writeKeySeeds(t *testing.T, hybrid []byte) {
	pq, _ := block.AgeRecipient(newHybrid(t).Public())
	p, _ := block.AgeRecipient(newKey(t).PublicKey())
	ec, _ := x509.MarshalPKIXPublicKey(newKey(t).PublicKey())
	for name, s := range map[string][2]string{"hybrid": {string(hybrid), pq}, "p256": {string(ec), p}, "nothing": {"", ""}} {
		if err := os.MkdirAll("testdata/fuzz/FuzzPublicKey", 0o755); err != nil {
			t.Fatal(err)
		}
		text := "go test fuzz v1\n[]byte(" + quote(s[0]) + ")\nstring(" + quote(s[1]) + ")\n"
		if err := os.WriteFile(filepath.Join("testdata/fuzz/FuzzPublicKey", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
