package repository_test

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
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/repository"
)

var (
	now   = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	until = now.Add(24 * time.Hour)
)

func signer(t testing.TB, key crypto.Signer) repository.Signer {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := repository.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func edSigner(t testing.TB) repository.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, k)
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func person(t testing.TB, name string, from time.Time) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	k := ecKey(t, elliptic.P256())
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{Organization: []string{"Example"}, CommonName: name}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

func publicKey(id kra.AccessID, n byte) kra.PublicKey {
	return kra.PublicKey{Access: id, Title: "A <title>", KeyID: strings.Repeat(fmt.Sprintf("%02x", n), 32), Suite: "p256", Certificate: "PEM"}
}

func entry(t testing.TB) func(repository.Entry, error) repository.Entry {
	return func(e repository.Entry, err error) repository.Entry {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

// three is a repository with an entry of each kind, and two for legal-team.
func three(t testing.TB, alice *x509.Certificate, key crypto.Signer) []repository.Entry {
	t.Helper()
	must := entry(t)
	raw, err := attrcert.Issue(attrcert.Template{Holder: alice, From: now, Until: until, Groups: []string{"legal"}}, alice, key)
	if err != nil {
		t.Fatal(err)
	}
	ac, err := attrcert.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return []repository.Entry{must(repository.Access(publicKey("legal-team", 1))), must(repository.Access(publicKey("legal-team", 2))),
		must(repository.Access(publicKey("board", 3))), must(repository.Decryptor(alice)), must(repository.Attributes(ac))}
}

func publish(t testing.TB, s repository.Signer, entries ...repository.Entry) map[string][]byte {
	t.Helper()
	files, err := s.Publish(entries, now, until)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLookUps(t *testing.T) {
	alice, key := person(t, "alice", now.AddDate(0, -1, 0))
	renewed, _ := person(t, "alice", now)
	bob, _ := person(t, "bob", now)
	for name, s := range map[string]repository.Signer{"Ed25519": edSigner(t), "P-256": signer(t, ecKey(t, elliptic.P256()))} {
		entries := append(three(t, alice, key), entry(t)(repository.Decryptor(renewed, bob)))
		files := publish(t, s, entries...)
		i, err := s.Key().Parse(files[repository.AllFile])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if i.Len() != 6 || len(i.Access()) != 3 || !i.From().Equal(now) || !i.Until().Equal(until) {
			t.Errorf("%s: %d entries, %d keys, from %v until %v", name, i.Len(), len(i.Access()), i.From(), i.Until())
		}
		for _, who := range []string{"CN=alice,O=Example", "CN=alice"} {
			if all := i.Chains(who); len(all) != 2 || !all[0][0].Equal(renewed) || len(all[0]) != 2 || !all[1][0].Equal(alice) {
				t.Errorf("%s: %s has %d chains; want the newer first", name, who, len(all))
			}
		}
		if len(i.Chains("CN=bob,O=Example")) != 0 || len(i.Chains("")) != 0 {
			t.Errorf("%s: who is not there is found", name)
		}
		if len(i.Attributes(alice)) != 1 || len(i.Attributes(bob)) != 0 {
			t.Errorf("%s: attribute certificates are not found by their holder", name)
		}
		keys, err := s.Key().ParseAccess(files[repository.AccessFile("legal-team")], "legal-team", now)
		if err != nil || len(keys) != 2 || keys[0].KeyID != publicKey("legal-team", 1).KeyID || keys[0].Title != "A <title>" {
			t.Errorf("%s: keys of legal-team = %v, %v", name, keys, err)
		}
	}
}

func TestTimes(t *testing.T) {
	s := edSigner(t)
	files := publish(t, s, entry(t)(repository.Access(publicKey("legal-team", 1))))
	i, err := s.Key().Parse(files[repository.AllFile])
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		at   time.Time
		want error
	}{{now.Add(-time.Second), repository.ErrNotYetValid}, {now, nil}, {until, nil}, {until.Add(time.Second), repository.ErrExpired}} {
		if err := i.ValidAt(x.at); !errors.Is(err, x.want) {
			t.Errorf("at %v: %v; want %v", x.at, err, x.want)
		}
		if _, err := s.Key().ParseAccess(files[repository.AccessFile("legal-team")], "legal-team", x.at); !errors.Is(err, x.want) {
			t.Errorf("legal-team at %v: %v; want %v", x.at, err, x.want)
		}
	}
	if _, err := s.Publish(nil, now, now.Add(-time.Second)); err == nil {
		t.Error("published to end before it begins")
	}
}

func TestUnsignedOrWronglySigned(t *testing.T) {
	alice, key := person(t, "alice", now)
	s, stranger := edSigner(t), edSigner(t)
	good := publish(t, s, three(t, alice, key)...)
	all := good[repository.AllFile]
	lines := strings.SplitAfter(strings.TrimSuffix(string(all), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	foreign := publish(t, stranger, three(t, alice, key)...)[repository.AllFile]
	later, err := s.Publish(three(t, alice, key), now.Add(time.Hour), until)
	if err != nil {
		t.Fatal(err)
	}
	evening := strings.SplitAfter(string(later[repository.AllFile]), "\n")
	join := func(l ...string) []byte { return []byte(strings.Join(l, "")) }
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	without := func(field string) []byte {
		i := strings.Index(string(all), `,"`+field+`":"`)
		j := i + strings.IndexByte(string(all[i:]), '}')
		return join(string(all[:i]), string(all[j:]))
	}
	onlyA := strings.SplitAfter(string(publish(t, s, entry(t)(repository.Access(publicKey("a", 1))))[repository.AllFile]), "\n")
	onlyB := strings.SplitAfter(string(publish(t, s, entry(t)(repository.Access(publicKey("b", 2))))[repository.AllFile]), "\n")
	cases := map[string][]byte{
		"an entry exchanged":      join(onlyA[0], onlyB[1]),
		"signed by a stranger":    foreign,
		"head of a stranger":      join(strings.SplitAfter(string(foreign), "\n")[0], strings.Join(lines[1:], "")),
		"without signature":       without("signature"),
		"an entry changed":        bytes.Replace(all, []byte("A <title>"), []byte("B <title>"), 1),
		"an entry left out":       join(append(append([]string{}, lines[:2]...), lines[3:]...)...),
		"an entry of another day": join(append(append([]string{}, lines[:1]...), evening[1:]...)...),
		"an entry twice":          join(append(lines, lines[len(lines)-1])...),
		"no head":                 join(lines[1:]...),
		"nothing":                 nil,
		"last line cut":           all[:len(all)-1],
		"a bit in the head":       flip(all, 30),
		"white space":             bytes.Replace(all, []byte(`{"head":`), []byte(`{ "head":`), 1),
		"an unknown field":        bytes.Replace(all, []byte(`{"head":`), []byte(`{"more":1,"head":`), 1),
		"another escape":          bytes.Replace(all, []byte("<title"), []byte(`\u003ctitle`), 1),
		"too long":                make([]byte, repository.MaxImage+1),
	}
	for what, b := range cases {
		if i, err := s.Key().Parse(b); err == nil || i != nil {
			t.Errorf("%s: read", what)
		}
	}
	if i, err := (repository.Key{}).Parse(all); err == nil || i != nil {
		t.Error("the zero key believes")
	}
	for i := range all {
		if img, err := s.Key().Parse(flip(all, i)); err == nil {
			t.Fatalf("byte %d changed, and %d entries are believed", i, img.Len())
		}
	}

	one := good[repository.AccessFile("legal-team")]
	if _, err := stranger.Key().ParseAccess(one, "legal-team", now); err == nil {
		t.Error("keys of legal-team are believed under another key")
	}
	if _, err := s.Key().ParseAccess(one, "board", now); err == nil {
		t.Error("keys of legal-team pass for those of board")
	}
	for _, at := range []int{10, len(one) / 2, len(one) - 10} {
		if _, err := s.Key().ParseAccess(flip(one, at), "legal-team", now); err == nil {
			t.Errorf("keys of legal-team with byte %d changed are believed", at)
		}
	}
}

func TestEntriesAreClosed(t *testing.T) {
	if _, err := repository.Decryptor(); err == nil {
		t.Error("an entry without certificate")
	}
	if _, err := repository.Attributes(attrcert.Certificate{}); err == nil {
		t.Error("an entry of no attribute certificate")
	}
	bad := publicKey("legal-team", 1)
	bad.KeyID = "x"
	if _, err := repository.Access(bad); err == nil {
		t.Error("an entry with a malformed key id")
	}
	if _, err := edSigner(t).Publish([]repository.Entry{{}}, now, until); err == nil {
		t.Error("the zero entry is published")
	}
}

// A key that takes long to verify with is in no entry, nowhere in the chain.
func TestLongKeysAreRefused(t *testing.T) {
	by, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := func(bits uint, e int) *x509.Certificate {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "alice"}, NotBefore: now, NotAfter: until}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}}, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	good := made(kra.MaxRSABits, kra.MaxRSAExponent)
	if _, err := repository.Decryptor(good, good); err != nil {
		t.Errorf("%d bits: %v", kra.MaxRSABits, err)
	}
	for name, bad := range map[string]*x509.Certificate{"modulus": made(16384, 65537), "exponent": made(2048, 1<<30+1)} {
		if _, err := repository.Decryptor(bad); err == nil {
			t.Errorf("long %s of a leaf is taken", name)
		}
		if _, err := repository.Decryptor(good, bad); err == nil {
			t.Errorf("long %s of an authority is taken", name)
		}
	}
}

// Keys are those of openssl genpkey.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{"ed25519": {"-algorithm", "ed25519"}, "p256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}} {
		file := filepath.Join(dir, name)
		for _, a := range [][]string{append([]string{"genpkey", "-out", file}, args...), {"pkey", "-in", file, "-pubout", "-out", file + ".pub"}} {
			if out, err := exec.Command("openssl", a...).CombinedOutput(); err != nil {
				t.Fatalf("openssl %q: %v\n%s", a, err, out)
			}
		}
		private, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		s, err := repository.ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		k, err := repository.ParseKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Parse(publish(t, s)[repository.AllFile]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, k := range map[string]crypto.Signer{"RSA": r, "P-384": ecKey(t, elliptic.P384())} {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repository.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
			t.Errorf("%s: signs", what)
		}
		if _, err := repository.ParseKey(spki); err == nil {
			t.Errorf("%s: is believed", what)
		}
	}
}

// FORMAT.md states what the code does.
func TestFormatIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	alice, key := person(t, "alice", now)
	file := string(publish(t, edSigner(t), three(t, alice, key)...)[repository.AllFile])
	for _, want := range []string{repository.AllFile, repository.AccessFile("ACCESS-ID"), "kra/repository/entry/v1", "kra/repository/head/v1", "20,000 entries", "16 MiB", "1 MiB", "256 KiB"} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
	for _, start := range []string{`{"entry":{"access":{"access":`, `{"entry":{"decryptor":{"name":"CN=alice,O=Example","certificates":[`, `{"entry":{"attributes":`, `{"head":{"entries":`} {
		if !bytes.Contains(doc, []byte(start)) || !strings.Contains(file, start) {
			t.Errorf("FORMAT.md and the code do not agree on %s", start)
		}
	}
	if repository.MaxEntries != 20_000 || repository.MaxImage != 16<<20 || repository.MaxAccess != 1<<20 || repository.MaxLine != 256<<10 {
		t.Error("FORMAT.md states other limits")
	}
}

// FuzzParse asserts that only what the key signed is read, in the one form.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(seeds) < 3 {
		f.Fatalf("%d committed seeds; want 3 or more", len(seeds))
	}
	text, err := os.ReadFile("testdata/key.pem")
	if err != nil {
		f.Fatal(err)
	}
	s, err := repository.ParseSigner(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := s.Key().Parse(b)
		if (err == nil) != (i != nil) {
			t.Fatal("a refused repository is there")
		}
		if err == nil && (i.Len() != bytes.Count(b, []byte("\n"))-1 || i.Until().Before(i.From())) {
			t.Fatal("reads what is not there")
		}
		if _, err := s.Key().ParseAccess(b, "legal-team", now); err == nil && !bytes.Contains(b, []byte(`"access":"legal-team"`)) {
			t.Fatal("keys of somebody else")
		}
	})
}
