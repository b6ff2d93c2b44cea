package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// unwrap opens one batch.
func unwrap(t testing.TB, c *hsm.Custodian, w ...block.Wrap) ([]wire.Result, receipt.ChainHead) {
	t.Helper()
	type answer struct {
		results []wire.Result
		head    receipt.ChainHead
	}
	done := make(chan answer, 1)
	if err := c.Unwrap(w, func(r []wire.Result, h receipt.ChainHead) { done <- answer{r, h} }); err != nil {
		t.Fatal(err)
	}
	a := <-done
	return a.results, a.head
}

// wrapTo wraps a file key that is all of one byte.
func wrapTo(t testing.TB, k wire.Key, fill byte) block.Wrap {
	t.Helper()
	pub, err := block.ParsePublicKey(k.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	w, err := block.WrapFileKey(pub, bytes.Repeat([]byte{fill}, block.FileKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// isKey reports whether the result is the file key that wrapTo wrapped.
func isKey(r wire.Result, fill byte) bool {
	ok := false
	return r.Key.Use(func(k []byte) error {
		ok = bytes.Equal(k, bytes.Repeat([]byte{fill}, block.FileKeySize))
		return nil
	}) == nil && ok && r.Err == nil
}

func pkcs8(t testing.TB, k any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newEC(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestGenerate(t *testing.T) {
	c, token := hsmtest.New(t)
	var want []wire.Key
	for _, s := range []wire.Suite{wire.P256, wire.P384, wire.RSA3072, wire.RSA4096, wire.Hybrid} {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			k, changed, err := c.Generate(s, custody, wire.Resident)
			if err != nil {
				t.Fatalf("Generate(%v, %v): %v", s, custody, err)
			}
			if k.Suite != s || k.Custody != custody || k.Origin != wire.Generated || k.ID != block.KeyIDOfSPKI(k.SPKI) {
				t.Errorf("Generate(%v, %v) = %+v", s, custody, k)
			}
			apply(token.Files, changed)
			want = append(want, k)
			if r, _ := unwrap(t, c, wrapTo(t, k, 7)); !isKey(r[0], 7) {
				t.Errorf("%v, %v: unwrap: %v", s, custody, r[0].Err)
			}
		}
	}
	if _, _, err := c.Generate(wire.RSA2048, wire.Bound, wire.Resident); !errors.As(err, new(wire.Refused)) {
		t.Errorf("Generate(RSA2048) = %v, want a refusal: RSA-2048 is import only", err)
	}
	for _, bad := range []struct {
		s wire.Suite
		c wire.Custody
	}{{}, {wire.P256, 0}, {0, wire.Bound}, {wire.P256, 3}, {wire.SuiteLast + 1, wire.Bound}} {
		if _, _, err := c.Generate(bad.s, bad.c, wire.Resident); err == nil {
			t.Errorf("Generate(%v, %v) succeeded", bad.s, bad.c)
		}
	}
	checkKeys(t, c, want)
	reopen(t, c, token)
	checkKeys(t, c, want)
}

// reopen closes the token and opens it from its files.
func reopen(t *testing.T, c *hsm.Custodian, token wire.Token) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(); err != wire.ErrClosed {
		t.Errorf("List of a closed token = %v, want %v", err, wire.ErrClosed)
	}
	i, err := c.Open(hsmtest.Again(token, token.Files))
	if err != nil {
		t.Fatalf("open token again: %v", err)
	}
	if i.Files != nil {
		t.Errorf("opening an old token returned %d files, want none", len(i.Files))
	}
}

func checkKeys(t *testing.T, c *hsm.Custodian, want []wire.Key) {
	t.Helper()
	keys, err := c.List()
	if err != nil || len(keys) != len(want) {
		t.Fatalf("List() = %d keys, %v; want %d", len(keys), err, len(want))
	}
	for i, k := range keys {
		if i > 0 && bytes.Compare(keys[i-1].ID[:], k.ID[:]) >= 0 {
			t.Error("List() is not ordered by id")
		}
	}
	for _, w := range want {
		found := false
		for _, k := range keys {
			if k.ID == w.ID {
				found = k.Suite == w.Suite && k.Custody == w.Custody && k.Origin == w.Origin && bytes.Equal(k.SPKI, w.SPKI)
			}
		}
		if !found {
			t.Errorf("List() has not the key %v %v %v as it was made", w.Suite, w.Custody, w.Origin)
		}
		if r, _ := unwrap(t, c, wrapTo(t, w, 9)); !isKey(r[0], 9) {
			t.Errorf("%v %v %v: unwrap: %v", w.Suite, w.Custody, w.Origin, r[0].Err)
		}
	}
}

func apply(files, changed wire.Files) {
	maps.Copy(files, changed)
	maps.DeleteFunc(files, func(_ string, b []byte) bool { return b == nil })
}

func TestImport(t *testing.T) {
	c, token := hsmtest.New(t)
	var want []wire.Key
	for name, key := range map[string]crypto.Signer{
		"P-256": newEC(t, elliptic.P256()), "RSA-2048": newRSA(t, 2048), "RSA-3072": newRSA(t, 3072),
		"P-384": newEC(t, elliptic.P384()), "RSA-4096": newRSA(t, 4096),
	} {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			k, changed, err := c.Import(pkcs8(t, key), custody, wire.Resident)
			if err != nil {
				t.Fatalf("Import(%s, %v): %v", name, custody, err)
			}
			if id, _ := block.KeyIDOf(key.Public()); k.ID != id || k.Custody != custody || k.Origin != wire.Imported {
				t.Errorf("Import(%s, %v) = %+v", name, custody, k)
			}
			if _, _, err := c.Import(pkcs8(t, key), custody, wire.Resident); !errors.As(err, new(wire.Refused)) {
				t.Errorf("Import(%s) twice = %v, want a refusal", name, err)
			}
			apply(token.Files, changed)
			if custody == wire.Replicable {
				want = append(want, k)
				continue
			}
			if changed, err = c.Destroy(k.ID); err != nil {
				t.Fatal(err)
			}
			apply(token.Files, changed)
		}
	}
	checkKeys(t, c, want)
	reopen(t, c, token)
	checkKeys(t, c, want)
}

func TestImportRefuses(t *testing.T) {
	c, _ := hsmtest.New(t)
	three := newRSA(t, 2048)
	for name, der := range map[string][]byte{
		"nothing":   nil,
		"garbage":   []byte("-----BEGIN PRIVATE KEY-----"),
		"P-521":     pkcs8(t, newEC(t, elliptic.P521())),
		"RSA-2560":  pkcs8(t, newRSA(t, 2560)),
		"trailing":  append(pkcs8(t, three), 0),
		"truncated": pkcs8(t, three)[:600],
	} {
		if _, _, err := c.Import(der, wire.Bound, wire.Resident); !errors.As(err, new(wire.Refused)) {
			t.Errorf("Import(%s) = %v, want a refusal", name, err)
		}
	}
	if _, _, err := c.Import(pkcs8(t, three), 0, wire.Resident); err == nil {
		t.Error("Import without a custody succeeded")
	}
	if keys, err := c.List(); err != nil || len(keys) != 0 {
		t.Errorf("List() = %v, %v; want none", keys, err)
	}
}

func TestDestroy(t *testing.T) {
	c, token := hsmtest.New(t)
	before := maps.Clone(token.Files)
	k, changed, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	w := wrapTo(t, k, 1)
	if r, _ := unwrap(t, c, w); !isKey(r[0], 1) {
		t.Fatal(r[0].Err)
	}
	reopen(t, c, token)
	changed, err = c.Destroy(k.ID)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	if r, _ := unwrap(t, c, w); r[0].Err != wire.ErrNoKey {
		t.Errorf("unwrap with a destroyed key = %v, want %v", r[0].Err, wire.ErrNoKey)
	}
	if _, err := c.Destroy(k.ID); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("Destroy twice = %v, want %v", err, wire.ErrNoKey)
	}
	if len(token.Files) != len(before) {
		t.Errorf("%d token files after destruction, want %d", len(token.Files), len(before))
	}
	reopen(t, c, token)
	checkKeys(t, c, nil)
	if r, _ := unwrap(t, c, w); r[0].Err != wire.ErrNoKey {
		t.Errorf("unwrap with a destroyed key, token opened again = %v, want %v", r[0].Err, wire.ErrNoKey)
	}
}

func TestOpen(t *testing.T) {
	c, token := hsmtest.New(t)
	k, changed, err := c.Generate(wire.P256, wire.Replicable, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	old := maps.Clone(token.Files)
	apply(token.Files, changed)

	same, err := c.Open(hsmtest.Again(token, token.Files))
	if err != nil || same.ID != first.ID {
		t.Errorf("Open of what is open = %v, %v; want the same instance", same.ID, err)
	}
	checkKeys(t, c, []wire.Key{k})

	// The owner never committed the key: it is gone.
	if _, err := c.Open(hsmtest.Again(token, old)); err != nil {
		t.Fatal(err)
	}
	checkKeys(t, c, nil)

	wrong := hsmtest.Again(token, token.Files)
	wrong.PIN = []byte("not the PIN")
	if _, err := c.Open(wrong); !errors.Is(err, wire.ErrPIN) {
		t.Errorf("Open with a wrong PIN = %v, want %v", err, wire.ErrPIN)
	}
	if _, err := c.List(); err != wire.ErrClosed {
		t.Errorf("List after a wrong PIN = %v, want %v", err, wire.ErrClosed)
	}
	for _, name := range []string{"../x", "a/../../x", "/etc/passwd", "a/b/c", "a/.b", "a/x.lock", "A/b", "a/"} {
		bad := hsmtest.Again(token, wire.Files{name: []byte("x")})
		if _, err := c.Open(bad); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("Open with a file %q = %v, want a refusal", name, err)
		}
	}
	if _, err := c.Open(hsmtest.Again(token, token.Files)); err != nil {
		t.Fatalf("open after refusals: %v", err)
	}
	checkKeys(t, c, []wire.Key{k})
}

func TestProbe(t *testing.T) {
	c, _ := hsmtest.New(t)
	i, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Report.Checks) != 10 || !strings.Contains(i.Report.Module, "SoftHSM") {
		t.Errorf("report = %+v, want 10 checks of SoftHSM", i.Report)
	}
	for _, check := range i.Report.Checks {
		if missing := check.Name == "rsa-oaep sha-256 inside"; missing != (check.Failure != "") {
			t.Errorf("%s: %s", check.Name, check.Failure)
		}
	}
}

func TestUnwrapRefuses(t *testing.T) {
	c, _ := hsmtest.New(t)
	p := inProcess(c).key(t, wire.P256)
	r := inProcess(c).key(t, wire.RSA2048)
	other := wire.Key{SPKI: must(x509.MarshalPKIXPublicKey(newEC(t, elliptic.P256()).Public()))}
	good := wrapTo(t, p, 1)
	goodRSA := wrapTo(t, r, 1)
	flip := func(w block.Wrap, i int) block.Wrap {
		body := w.Body()
		body[i] ^= 1
		return must(block.NewWrap(w.Suite(), w.Ref(), w.Enc(), body, nil))
	}
	for _, x := range []struct {
		name string
		wrap block.Wrap
		want error
	}{
		{"zero wrap", block.Wrap{}, wire.ErrNoKey},
		{"foreign key", wrapTo(t, other, 1), wire.ErrNoKey},
		{"body changed", flip(good, 3), wire.ErrUnwrap},
		{"tag changed", flip(good, 31), wire.ErrUnwrap},
		{"another encapsulated key", must(block.NewWrap(good.Suite(), good.Ref(), wrapTo(t, p, 1).Enc(), good.Body(), nil)), wire.ErrUnwrap},
		{"rsa body changed", flip(goodRSA, 200), wire.ErrUnwrap},
		{"rsa body larger than the modulus", must(block.NewWrap(block.SuiteRSAOAEP, block.KeyIDRef(r.ID), nil, bytes.Repeat([]byte{0xff}, 256), nil)), wire.ErrUnwrap},
		{"rsa body zero", must(block.NewWrap(block.SuiteRSAOAEP, block.KeyIDRef(r.ID), nil, make([]byte, 256), nil)), wire.ErrUnwrap},
		{"rsa body of another size", must(block.NewWrap(block.SuiteRSAOAEP, block.KeyIDRef(r.ID), nil, make([]byte, 384), nil)), wire.ErrUnwrap},
		{"rsa wrap for a p256 key", must(block.NewWrap(block.SuiteRSAOAEP, block.KeyIDRef(p.ID), nil, make([]byte, 256), nil)), wire.ErrUnwrap},
		{"p256 wrap for an rsa key", must(block.NewWrap(block.SuiteP256, block.KeyIDRef(r.ID), good.Enc(), good.Body(), nil)), wire.ErrUnwrap},
		{"p256 wrap for another p256 key", must(block.NewWrap(block.SuiteP256, block.KeyIDRef(inProcess(c).key(t, wire.P256).ID), good.Enc(), good.Body(), nil)), wire.ErrUnwrap},
	} {
		results, _ := unwrap(t, c, good, x.wrap, goodRSA)
		if results[1].Err != x.want {
			t.Errorf("%s: %v, want %v", x.name, results[1].Err, x.want)
		}
		if results[1].Key.Use(func([]byte) error { return nil }) == nil {
			t.Errorf("%s: there is a key", x.name)
		}
		if !isKey(results[0], 1) || !isKey(results[2], 1) {
			t.Errorf("%s: its neighbours did not open: %v, %v", x.name, results[0].Err, results[2].Err)
		}
	}
	if c.Unwrap(nil, nil) == nil || c.Unwrap(make([]block.Wrap, wire.MaxBatch+1), nil) == nil {
		t.Error("a batch of a wrong size was accepted")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestLargeBatchLetsOthersPass: a small request does not wait for a large one that came before.
func TestLargeBatchLetsOthersPass(t *testing.T) {
	c, _ := hsmtest.New(t)
	k := inProcess(c).key(t, wire.RSA2048)
	large := make([]block.Wrap, 1024)
	for i := range large {
		large[i] = wrapTo(t, k, 1)
	}
	ended := make(chan struct{})
	if err := c.Unwrap(large, func([]wire.Result, receipt.ChainHead) { close(ended) }); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		unwrap(t, c, wrapTo(t, k, 1))
	}
	select {
	case <-ended:
		t.Error("the large batch ended before five small ones")
	default:
	}
	<-ended
}

// TestForeignTokenIsSpared: a folder that holds somebody else's token is not emptied.
func TestForeignTokenIsSpared(t *testing.T) {
	config := hsmtest.Config(t)
	theirs := filepath.Join(config.Dir, "tokens", "5d782aa7")
	if err := os.MkdirAll(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	c := must(hsm.New(config, [32]byte{1}))
	if _, err := c.Open(hsmtest.Token()); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("Open = %v, want that the token is not ours", err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}
