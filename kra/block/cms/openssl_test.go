package cms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
)

// A holder is somebody with a key and a certificate, both also in files for OpenSSL.
type holder struct {
	key       any
	cert      *x509.Certificate
	certFile  string
	keyFile   string
	open      func(w block.Wrap) ([]byte, error)
	publicKey any
}

func holderOf(t testing.TB, dir, name string, key any, ski []byte) holder {
	t.Helper()
	h := holder{key: key, certFile: filepath.Join(dir, name+".pem"), keyFile: filepath.Join(dir, name+".key")}
	var id block.KeyID
	switch k := key.(type) {
	case *rsa.PrivateKey:
		h.publicKey = k.Public()
		h.open = func(w block.Wrap) ([]byte, error) {
			return rsa.DecryptOAEP(w.Suite().OAEPHash().New(), nil, k, w.Body(), w.OAEPLabel())
		}
	case *ecdsa.PrivateKey:
		h.publicKey = k.Public()
		kx, err := k.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		h.open = func(w block.Wrap) ([]byte, error) { return block.OpenEC(ecdh.KeyExchanger(kx), w.Named(id)) }
	}
	id, err := block.KeyIDOf(h.publicKey)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), SubjectKeyId: ski}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, h.publicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if h.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, h.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, h.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return h
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var keys = sync.OnceValue(func() (k struct{ rsa, rsa2, rsa4, ec, ec2, ec384 any }) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.rsa2, _ = rsa.GenerateKey(rand.Reader, 3072)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.ec2, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.rsa4, _ = rsa.GenerateKey(rand.Reader, 4096)
	k.ec384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return k
})

func openssl(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// release finds the content key of a head as an agent does, which is sent nothing else.
func release(t testing.TB, h cms.Head, by holder) []byte {
	t.Helper()
	sent, err := cms.ParseHead(h.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	e, err := sent.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	serial, err := cms.ToCertificate(by.cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range e.Wraps() {
		for _, r := range serial.Refs() {
			if w.Ref() == r {
				key, err := by.open(w)
				if err != nil {
					t.Fatal(err)
				}
				return key
			}
		}
	}
	t.Fatalf("no wrap names the key: %v", e.Wraps())
	return nil
}

// TestStockOpenSSL: what openssl cms -encrypt writes is released from one recipient, read here, and read by openssl cms
// -decrypt after somebody else was spliced in.
func TestStockOpenSSL(t *testing.T) {
	dir := t.TempDir()
	holders := map[string]holder{
		"rsa": holderOf(t, dir, "rsa", keys().rsa, nil),
		"ec":  holderOf(t, dir, "ec", keys().ec, []byte{1, 2, 3}),

		"rsa-4096": holderOf(t, dir, "rsa-4096", keys().rsa4, nil),
		"p384":     holderOf(t, dir, "p384", keys().ec384, []byte{9, 8, 7}),
	}
	readers := map[string]holder{
		"rsa reader": holderOf(t, dir, "rsa-reader", keys().rsa2, []byte{4, 5, 6}),
		"ec reader":  holderOf(t, dir, "ec-reader", keys().ec2, nil),

		"p384 reader": holderOf(t, dir, "p384-reader", keys().ec384, nil),
	}
	oaep := []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}
	for name, c := range map[string]struct {
		to     string
		size   int
		flags  []string
		keyopt []string
	}{
		"rsa, gcm":           {"rsa", 100_000, []string{"-aes-256-gcm"}, oaep},
		"rsa, oaep's sha1":   {"rsa", 1000, []string{"-aes-256-gcm"}, oaep[:2]},
		"rsa, cbc":           {"rsa", 65536, []string{"-aes-256-cbc"}, oaep},
		"rsa, 128-bit cbc":   {"rsa", 15, []string{"-aes-128-cbc"}, oaep},
		"rsa, streamed":      {"rsa", 300_001, []string{"-aes-256-gcm", "-stream"}, oaep},
		"ec, stock":          {"ec", 1000, []string{"-aes-256-gcm"}, nil},
		"ec, sha256":         {"ec", 65536, []string{"-aes-128-gcm"}, []string{"-keyopt", "ecdh_kdf_md:sha256"}},
		"ec, by key id":      {"ec", 1, []string{"-aes-192-gcm", "-keyid"}, []string{"-keyopt", "ecdh_kdf_md:sha256"}},
		"ec, wrapped by 128": {"ec", 131072, []string{"-aes-256-cbc", "-aes128-wrap", "-stream"}, []string{"-keyopt", "ecdh_kdf_md:sha256"}},
		"rsa-4096":           {"rsa-4096", 1000, []string{"-aes-256-gcm"}, oaep},
		"p384, stock":        {"p384", 1000, []string{"-aes-256-gcm"}, nil},
		"p384, sha256":       {"p384", 1000, []string{"-aes-128-gcm"}, []string{"-keyopt", "ecdh_kdf_md:sha256"}},
		"p384, sha384":       {"p384", 1000, []string{"-aes-256-gcm", "-aes256-wrap"}, []string{"-keyopt", "ecdh_kdf_md:sha384"}},
		"ec, nothing":        {"ec", 0, []string{"-aes-256-gcm"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			plain, sealed := filepath.Join(t.TempDir(), "plain"), filepath.Join(t.TempDir(), "sealed")
			want := make([]byte, c.size)
			_, _ = rand.Read(want)
			write(t, plain, want)
			args := append([]string{"cms", "-encrypt", "-binary", "-in", plain, "-out", sealed, "-outform", "DER"}, c.flags...)
			args = append(args, "-recip", holders[c.to].certFile)
			openssl(t, append(args, c.keyopt...)...)
			raw := read(t, sealed)

			h, content, err := cms.ReadHead(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			key := release(t, h, holders[c.to])
			r, err := content.Decrypt(key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("decrypts to %d bytes, %v; want %d", len(got), err, len(want))
			}
			for name, reader := range readers {
				_, content, err := cms.ReadHead(bytes.NewReader(raw))
				if err != nil {
					t.Fatal(err)
				}
				to, err := cms.ToCertificate(reader.cert)
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				if err := content.Splice(&out, key, to); err != nil {
					t.Fatal(err)
				}
				checkStock(t, name, out.Bytes(), reader, want)
				checkStock(t, name+": the first recipient", out.Bytes(), holders[c.to], want)
			}
		})
	}
}

// checkStock has openssl decrypt a message for a holder.
func checkStock(t *testing.T, what string, message []byte, by holder, want []byte) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	write(t, in, message)
	openssl(t, "cms", "-decrypt", "-inform", "DER", "-in", in, "-out", out, "-inkey", by.keyFile, "-recip", by.certFile)
	if got := read(t, out); !bytes.Equal(got, want) {
		t.Errorf("%s: openssl decrypts to %d bytes; want %d", what, len(got), len(want))
	}
}

// TestStockOpenSSLReads what Encrypt writes, of a size that was said and of one that was not.
func TestStockOpenSSLReads(t *testing.T) {
	dir := t.TempDir()
	a, b := holderOf(t, dir, "a", keys().rsa, nil), holderOf(t, dir, "b", keys().ec, []byte{1, 2})
	for _, size := range []int{0, 1, 65535, 65536, 65537, 200_000} {
		want := make([]byte, size)
		_, _ = rand.Read(want)
		for _, said := range []int64{int64(size), cms.Unsized} {
			toA, errA := cms.ToCertificate(a.cert)
			toB, errB := cms.ToCertificate(b.cert)
			var out bytes.Buffer
			w, err := cms.Encrypt(&out, said, toA, toB)
			if err := errors.Join(errA, errB, err); err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(want)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			checkStock(t, "rsa", out.Bytes(), a, want)
			checkStock(t, "ec", out.Bytes(), b, want)
			h, content, err := cms.ReadHead(&out)
			if err != nil {
				t.Fatal(err)
			}
			r, err := content.Decrypt(release(t, h, b))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes decrypt to %d, %v", size, len(got), err)
			}
		}
	}
}
