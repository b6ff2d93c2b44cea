package kra

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// maintainerKey is the same each time: its signatures are part of a vector.
func maintainerKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func certOf(t *testing.T, key crypto.Signer, usage x509.KeyUsage) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mia"}, NotAfter: time.Now().Add(time.Hour), KeyUsage: usage}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func who(t *testing.T, ids ...string) (out []Decryptor) {
	t.Helper()
	for _, s := range ids {
		d, err := ParseDecryptor(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// TestGroupEditVector is the wire form of a maintainer's statement, and what it is good for.
func TestGroupEditVector(t *testing.T) {
	want, err := os.ReadFile("testdata/group-edit.json")
	if err != nil {
		t.Fatal(err)
	}
	made, err := SignGroupEdit("example", "box1", "legal", who(t, "corp:CN=bob,O=Example", "corp:CN=alice,O=Example"), who(t, "corp:CN=mallory"), 3, maintainerKey())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := made.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("made %s, %v", got, err)
	}
	e, err := ParseGroupEdit(want)
	if err != nil {
		t.Fatal(err)
	}
	if e.Group() != "legal" || e.Version() != 3 || strings.Join(e.Add(), " ") != "corp:CN=alice,O=Example corp:CN=bob,O=Example" || strings.Join(e.Remove(), " ") != "corp:CN=mallory" {
		t.Errorf("parsed %+v", e)
	}
	cert := certOf(t, maintainerKey(), x509.KeyUsageDigitalSignature)
	if err := e.Verify("example", "box1", cert); err != nil {
		t.Error(err)
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	for what, err := range map[string]error{
		"another box":    e.Verify("example", "box2", cert),
		"another domain": e.Verify("examples", "box1", cert),
		"another key":    e.Verify("example", "box1", certOf(t, other, x509.KeyUsageDigitalSignature)),
		"not for that":   e.Verify("example", "box1", certOf(t, maintainerKey(), x509.KeyUsageKeyAgreement)),
		"the zero edit":  GroupEdit{}.Verify("example", "box1", cert),
	} {
		if err == nil {
			t.Errorf("%s: verified", what)
		}
	}
}

// TestGroupEditIsBound: a statement that was changed anywhere is nobody's.
func TestGroupEditIsBound(t *testing.T) {
	text, err := os.ReadFile("testdata/group-edit.json")
	if err != nil {
		t.Fatal(err)
	}
	cert := certOf(t, maintainerKey(), 0)
	changed := 0
	for i := range text {
		for _, c := range []byte{text[i] ^ 1, 'a', '4'} {
			if c == text[i] {
				continue
			}
			b := bytes.Clone(text)
			b[i] = c
			e, err := ParseGroupEdit(b)
			if err != nil {
				continue
			}
			if changed++; e.Verify("example", "box1", cert) == nil {
				t.Errorf("verified %s", b)
			}
		}
	}
	if changed == 0 {
		t.Error("no change parses")
	}
}

// TestGroupEditKeys: each kind of key that certificates have can state.
func TestGroupEditKeys(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p256, rsa2048, maintainerKey()} {
		e, err := SignGroupEdit("example", "box1", "legal", who(t, "corp:CN=bob"), nil, 1, key)
		if err == nil {
			err = e.Verify("example", "box1", certOf(t, key, 0))
		}
		if err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
}

func TestGroupEditRefused(t *testing.T) {
	const sig = `,"signature":"AAAA"}`
	for what, body := range map[string]string{
		"nothing":             ``,
		"no group":            `{"add":["corp:CN=bob"],"version":1` + sig,
		"bad group":           `{"group":"Legal","add":["corp:CN=bob"],"version":1` + sig,
		"nobody":              `{"group":"legal","version":1` + sig,
		"empty list":          `{"group":"legal","add":[],"version":1` + sig,
		"no decryptor":        `{"group":"legal","add":["bob"],"version":1` + sig,
		"other spelling":      `{"group":"legal","add":["corp:cn=bob, o=x"],"version":1` + sig,
		"twice":               `{"group":"legal","add":["corp:CN=bob","corp:CN=bob"],"version":1` + sig,
		"out of order":        `{"group":"legal","add":["corp:CN=bob","corp:CN=alice"],"version":1` + sig,
		"added and removed":   `{"group":"legal","add":["corp:CN=bob"],"remove":["corp:CN=bob"],"version":1` + sig,
		"no version":          `{"group":"legal","add":["corp:CN=bob"]` + sig,
		"negative version":    `{"group":"legal","add":["corp:CN=bob"],"version":-1` + sig,
		"no signature":        `{"group":"legal","add":["corp:CN=bob"],"version":1}`,
		"other base64":        `{"group":"legal","add":["corp:CN=bob"],"version":1,"signature":"AAA"}`,
		"unknown field":       `{"group":"legal","add":["corp:CN=bob"],"version":1,"maintainer":"corp:CN=x"` + sig,
		"field repeated":      `{"group":"legal","group":"legal","add":["corp:CN=bob"],"version":1` + sig,
		"field miscased":      `{"Group":"legal","add":["corp:CN=bob"],"version":1` + sig,
		"fields out of order": `{"add":["corp:CN=bob"],"group":"legal","version":1` + sig,
		"white space":         `{"group": "legal","add":["corp:CN=bob"],"version":1` + sig,
		"something after it":  `{"group":"legal","add":["corp:CN=bob"],"version":1` + sig + `{}`,
		"signature of 2000":   `{"group":"legal","add":["corp:CN=bob"],"version":1,"signature":"` + strings.Repeat("AAAA", 500) + `"}`,
		"too long":            `{"group":"` + strings.Repeat("l", MaxGroupBody) + `"`,
	} {
		if e, err := ParseGroupEdit([]byte(body)); err == nil {
			t.Errorf("%s: parsed %+v", what, e)
		}
	}
	many := make([]Decryptor, MaxGroupEdit+1)
	if _, err := SignGroupEdit("example", "box1", "legal", many, nil, 1, maintainerKey()); err == nil {
		t.Error("signed an edit of too many")
	}
}

func TestGroupState(t *testing.T) {
	const text = `{"group":"legal","version":3,"size":5,"members":["corp:CN=alice","corp:CN=bob"],"more":true}`
	s, err := ParseGroupState([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Encode(); err != nil || string(again) != text {
		t.Errorf("encoded %s, %v", again, err)
	}
	for _, bad := range []string{`{}`, strings.Replace(text, "5", "1", 1), strings.Replace(text, "CN=alice", "CN=carol", 1),
		strings.Replace(text, ":CN=bob", "bob", 1), strings.Replace(text, "legal", "Legal", 1), `{"group":"legal","version":3,"size":5,"more":true}`} {
		if s, err := ParseGroupState([]byte(bad)); err == nil {
			t.Errorf("parsed %s as %+v", bad, s)
		}
	}
}

func FuzzGroupEdit(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzGroupEdit")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds: ", err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ParseGroupEdit(body)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, body) {
			t.Errorf("%q is encoded again as %q, %v", body, again, err)
		}
		if n := len(e.Add()) + len(e.Remove()); n == 0 || n > MaxGroupEdit || CheckName(e.Group()) != nil {
			t.Errorf("parsed %+v", e)
		}
	})
}
