package jwe_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/kra/block/jwe"
)

const vectorDir = "testdata/vectors"

var update = flag.Bool("update", false, "write the vectors anew, with new keys")

// A vector is a message that go-jose wrote, and what it must give.
type vector struct {
	File       string   `json:"file"`
	Form       string   `json:"form"` // compact, flattened or general
	Encryption string   `json:"enc"`
	To         []string `json:"to"`                // alg, a colon, the file of the private key
	Wraps      []string `json:"wraps"`             // suite and reference, in order
	Why        string   `json:"why,omitempty"`     // words of the error where there is no wrap
	Payload    string   `json:"payload,omitempty"` // SHA-256 of the content, hexadecimal
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) (out []vector) {
	t.Helper()
	if err := json.Unmarshal(read(t, filepath.Join(vectorDir, "vectors.json")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func vectorKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	p, _ := pem.Decode(read(t, filepath.Join(vectorDir, name+".key")))
	key, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	all := vectors(t)
	if len(all) < 5 {
		t.Fatalf("%d vectors; want 5 or more", len(all))
	}
	for _, v := range all {
		t.Run(v.File, func(t *testing.T) {
			m, err := jwe.Read(bytes.NewReader(read(t, filepath.Join(vectorDir, v.File))))
			if err != nil {
				t.Fatal(err)
			}
			if m.Head().Encryption() != v.Encryption {
				t.Errorf("enc %s; want %s", m.Head().Encryption(), v.Encryption)
			}
			var wraps []string
			e, err := m.Head().Envelope()
			for _, w := range e.Wraps() {
				wraps = append(wraps, w.Suite().String()+" "+w.Ref().String())
			}
			if got, want := strings.Join(wraps, "\n"), strings.Join(v.Wraps, "\n"); got != want {
				t.Errorf("wraps\n%s\nwant\n%s", got, want)
			}
			if v.Why != "" {
				if err == nil || !strings.Contains(err.Error(), v.Why) {
					t.Errorf("error %v; want %q", err, v.Why)
				}
				return
			}
			for _, to := range v.To {
				_, key, _ := strings.Cut(to, ":")
				b, err := m.Open(release(t, m.Head(), vectorKey(t, key)))
				if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != v.Payload {
					t.Errorf("%s: content is %x, %v; want %s", to, sum, err, v.Payload)
				}
			}
		})
	}
}

// writeVectors has go-jose write the messages. What must come of them stays as it is in vectors.json, but for the names
// of the new keys.
func writeVectors(t *testing.T) {
	for name, key := range map[string]any{"rsa": keys().rsa, "ec": keys().ec} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	all := vectors(t)
	for i, v := range all {
		var to []jose.Recipient
		for _, word := range v.To {
			alg, key, _ := strings.Cut(word, ":")
			pub := vectorKey(t, key).Public()
			to = append(to, jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: pub, KeyID: thumbprint(t, pub)})
		}
		e, err := jose.NewMultiEncrypter(jose.ContentEncryption(v.Encryption), to, nil)
		if err != nil {
			t.Fatal(err)
		}
		content := []byte(strings.Repeat(v.File+"\n", 10))
		m, err := e.Encrypt(content)
		if err != nil {
			t.Fatal(err)
		}
		text := m.FullSerialize()
		if v.Form == "compact" {
			if text, err = m.CompactSerialize(); err != nil {
				t.Fatal(err)
			}
		}
		write(t, v.File, []byte(text+"\n"))
		sum := sha256.Sum256(content)
		if all[i].Wraps = []string{}; v.Why == "" {
			all[i].Payload = hex.EncodeToString(sum[:])
		}
		got, err := jwe.Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.Head().Recipients() {
			if w, err := r.Wrap(); err == nil {
				all[i].Wraps = append(all[i].Wraps, w.Suite().String()+" "+w.Ref().String())
			}
		}
	}
	b, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "vectors.json", append(b, '\n'))
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(vectorDir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
