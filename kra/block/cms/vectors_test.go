package cms_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block/cms"
)

const vectorDir = "testdata/vectors"

var update = flag.Bool("update", false, "write the vectors anew, with new keys")

// A vector is a message that stock OpenSSL wrote, and what it must give.
type vector struct {
	File    string   `json:"file"`
	Made    string   `json:"made"`              // by openssl cms -encrypt, with these words
	Cipher  string   `json:"cipher"`            // of the content
	Wraps   []string `json:"wraps"`             // suite and reference, in order
	Why     string   `json:"why,omitempty"`     // words of the error where there is no wrap
	Key     string   `json:"key,omitempty"`     // the file of the private key that opens it
	Payload string   `json:"payload,omitempty"` // SHA-256 of the content, hexadecimal
}

func vectors(t testing.TB) (out []vector) {
	t.Helper()
	if err := json.Unmarshal(read(t, filepath.Join(vectorDir, "vectors.json")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// vectorKey reads the key and certificate of a vector.
func vectorKey(t testing.TB, name string) holder {
	t.Helper()
	p, _ := pem.Decode(read(t, filepath.Join(vectorDir, name+".key")))
	key, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h := holderOf(t, t.TempDir(), name, key, nil)
	p, _ = pem.Decode(read(t, filepath.Join(vectorDir, name+".pem")))
	if h.cert, err = x509.ParseCertificate(p.Bytes); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	all := vectors(t)
	if len(all) < 10 {
		t.Fatalf("%d vectors; want 10 or more", len(all))
	}
	for _, v := range all {
		t.Run(v.File, func(t *testing.T) {
			raw := read(t, filepath.Join(vectorDir, v.File))
			h, content, err := cms.ReadHead(cms.Binary(bytes.NewReader(raw)))
			if err != nil {
				t.Fatal(err)
			}
			if h.Cipher() != v.Cipher {
				t.Errorf("cipher %s; want %s", h.Cipher(), v.Cipher)
			}
			var wraps []string
			e, err := h.Envelope()
			for _, w := range e.Wraps() {
				wraps = append(wraps, w.Suite().String()+" "+w.Ref().String())
			}
			if got, want := strings.Join(wraps, "\n"), strings.Join(v.Wraps, "\n"); got != want {
				t.Errorf("wraps\n%s\nwant\n%s", got, want)
			}
			if v.Why != "" && (err == nil || !strings.Contains(err.Error(), v.Why)) {
				t.Errorf("error %v; want %q", err, v.Why)
			}
			if v.Key == "" {
				return
			}
			plain, err := content.Decrypt(release(t, h, vectorKey(t, v.Key)))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(plain)
			if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != v.Payload {
				t.Errorf("content is %x, %v; want %s", sum, err, v.Payload)
			}
		})
	}
}

// writeVectors has openssl write the messages. What must come of them stays as it is in vectors.json, but for the names
// of the new keys.
func writeVectors(t *testing.T) {
	for name, key := range map[string]any{"rsa": keys().rsa, "ec": keys().ec} {
		holderOf(t, vectorDir, name, key, []byte{1, 2, 3, 4})
	}
	all := vectors(t)
	for i, v := range all {
		plain := filepath.Join(t.TempDir(), "plain")
		content := []byte(strings.Repeat(v.File+"\n", 100))
		write(t, plain, content)
		openssl(t, append([]string{"cms", "-encrypt", "-binary", "-in", plain, "-out", filepath.Join(vectorDir, v.File)}, strings.Fields(v.Made)...)...)
		sum := sha256.Sum256(content)
		if v.Key != "" {
			all[i].Payload = hex.EncodeToString(sum[:])
		}
		h, _, err := cms.ReadHead(cms.Binary(bytes.NewReader(read(t, filepath.Join(vectorDir, v.File)))))
		if err != nil {
			t.Fatal(err)
		}
		all[i].Wraps = []string{}
		for _, r := range h.Recipients() {
			if w, err := r.Wrap(); err == nil {
				all[i].Wraps = append(all[i].Wraps, w.Suite().String()+" "+w.Ref().String())
			}
		}
	}
	b, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorDir, "vectors.json"), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
