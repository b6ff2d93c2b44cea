package block_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

var update = flag.Bool("update", false, "make the vectors that are missing")

const vectorDir = "testdata/vectors"

// A vector is one entry of vectors.json, as FORMAT.md describes it.
type vector struct {
	File    string   `json:"file"`
	Expect  string   `json:"expect"`
	Why     string   `json:"why,omitempty"`
	Wraps   []string `json:"wraps,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	FileKey string   `json:"file_key,omitempty"`
	Payload string   `json:"payload,omitempty"`
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(filepath.Join(vectorDir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Fatalf("%d vectors; want the committed 30 or more", len(all))
	}
	for _, v := range all {
		t.Run(v.File, func(t *testing.T) { checkVector(t, v) })
	}
}

func checkVector(t *testing.T, v vector) {
	raw, err := os.ReadFile(filepath.Join(vectorDir, v.File))
	if err != nil {
		t.Fatal(err)
	}
	h, payload, err := block.ParseHeader(bytes.NewReader(raw), block.MaxHeader)
	if v.Expect == "refused" {
		if err == nil || !strings.Contains(err.Error(), v.Why) {
			t.Fatalf("ParseHeader = %v; want an error with %q", err, v.Why)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var wraps []string
	for _, w := range h.Wraps() {
		wraps = append(wraps, wrapName(w))
	}
	if !slices.Equal(wraps, v.Wraps) {
		t.Errorf("wraps = %q; want %q", wraps, v.Wraps)
	}
	for _, name := range v.Keys {
		checkOpens(t, v, name, h, raw, payload)
	}
}

func checkOpens(t *testing.T, v vector, name string, h block.Header, raw []byte, payload io.Reader) {
	key, err := openWith(readKey(t, name), h)
	if v.Expect == "wrap" {
		if err == nil {
			t.Errorf("%s opens the wrap", name)
		}
		return
	}
	if err != nil {
		t.Fatalf("open with %s: %v", name, err)
	}
	if err := h.VerifyMAC(key); v.Expect == "mac" {
		if !errors.Is(err, block.ErrMAC) {
			t.Errorf("VerifyMAC = %v; want ErrMAC", err)
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(key); got != v.FileKey {
		t.Errorf("file key = %s; want %s", got, v.FileKey)
	}
	r, err := age.Decrypt(bytes.NewReader(raw), age.NewInjectedFileKeyIdentity(key))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != v.Payload {
		t.Errorf("payload = %s; want %s", got, v.Payload)
	}
}

var errNoWrap = errors.New("no wrap for this key opens")

// openWith is an agent in six lines: the first wrap for this key that opens.
func openWith(key crypto.PrivateKey, h block.Header) ([]byte, error) {
	for _, w := range h.Wraps() {
		if fileKey, err := openWrap(key, name(w, publicOf(key))); err == nil {
			return fileKey, nil
		}
	}
	return nil, errNoWrap
}

func openWrap(key crypto.PrivateKey, w block.Wrap) ([]byte, error) {
	switch k := key.(type) {
	case *ecdh.PrivateKey:
		return block.OpenEC(k, w)
	case *rsa.PrivateKey:
		return openRSA(k, w)
	case *hybridKey:
		return k.open(w)
	}
	return nil, errNoWrap
}

// wrapName is how vectors.json names a wrap.
func wrapName(w block.Wrap) string {
	if w.Ref().Kind() == block.RefKeyID {
		return w.Suite().String() + " " + w.KeyID().String()
	}
	return w.Suite().String() + " " + w.Ref().String()
}

func publicOf(key crypto.PrivateKey) crypto.PublicKey {
	return key.(interface{ Public() crypto.PublicKey }).Public()
}

// name resolves a tag as an agent with one key does.
func name(w block.Wrap, pub crypto.PublicKey) block.Wrap {
	if t, err := block.NewTagged(pub); err == nil {
		for _, id := range block.MatchTag(w, []block.Tagged{t}) {
			return w.Named(id)
		}
	}
	return w
}

// A hybridKey is both private halves in software.
type hybridKey struct {
	pq *mlkem.DecapsulationKey768
	ec *ecdh.PrivateKey
}

func (k *hybridKey) Public() crypto.PublicKey {
	pub, err := block.NewHybridKey(append(k.pq.EncapsulationKey().Bytes(), k.ec.PublicKey().Bytes()...))
	if err != nil {
		panic(err)
	}
	return pub
}

func (k *hybridKey) open(w block.Wrap) ([]byte, error) {
	id, err := block.KeyIDOf(k.Public())
	if err != nil {
		return nil, err
	}
	return block.OpenHybridAs(id, k.pq, k.ec, w)
}

func newHybrid(t testing.TB) *hybridKey {
	t.Helper()
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	return &hybridKey{pq, newKey(t)}
}

func openRSA(k *rsa.PrivateKey, w block.Wrap) ([]byte, error) {
	id, err := block.KeyIDOf(k.Public())
	if err != nil || w.KeyID() != id || w.Suite() != block.SuiteRSAOAEP {
		return nil, errNoWrap
	}
	return rsa.DecryptOAEP(sha256.New(), nil, k, w.Body(), block.Info(id))
}

func readKey(t testing.TB, name string) crypto.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectorDir, name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := pem.Decode(raw)
	if p.Type == hybridPEM {
		pq, err := mlkem.NewDecapsulationKey768(p.Bytes[:mlkem.SeedSize])
		if err != nil {
			t.Fatal(err)
		}
		ec, err := ecdh.P256().NewPrivateKey(p.Bytes[mlkem.SeedSize:])
		if err != nil {
			t.Fatal(err)
		}
		return &hybridKey{pq, ec}
	}
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := k.(*ecdsa.PrivateKey); ok {
		d, err := e.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return k
}

// hybridPEM is a seed of ML-KEM-768 and then a scalar of P-256.
const hybridPEM = "ML-KEM-768 P-256 PRIVATE KEY"

func writeHybrid(t *testing.T, path string) {
	k := newHybrid(t)
	b := append(k.pq.Bytes(), k.ec.Bytes()...)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: hybridPEM, Bytes: b}), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeKey(t *testing.T, name string) crypto.PrivateKey {
	t.Helper()
	path := filepath.Join(vectorDir, name+".pem")
	if _, err := os.Stat(path); err == nil {
		return readKey(t, name)
	}
	if name == "hybrid" {
		writeHybrid(t, path)
		return readKey(t, name)
	}
	var k any
	var err error
	switch name {
	case "rsa2048":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa3072":
		k, err = rsa.GenerateKey(rand.Reader, 3072)
	case "rsa4096":
		k, err = rsa.GenerateKey(rand.Reader, 4096)
	case "p384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return readKey(t, name)
}
