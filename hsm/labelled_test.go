package hsm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

var labelSuites = []wire.Suite{wire.P256, wire.RSA3072, wire.Hybrid, wire.P384}

// newLabelled makes a key bound to the label attended, which is not loaded.
func newLabelled(t testing.TB, c *hsm.Custodian, s wire.Suite) (wire.Key, wire.Enclosed, []byte) {
	t.Helper()
	secret := make([]byte, wire.LabelSecret)
	rand.Read(secret)
	k, e, err := c.Enclose(s, "attended", secret)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	return k, e, secret
}

func opens(t testing.TB, c *hsm.Custodian, k wire.Key) error {
	t.Helper()
	r, _ := unwrap(t, c, wrapTo(t, k, 7))
	if r[0].Err == nil && !isKey(r[0], 7) {
		return errors.New("another key came out")
	}
	return r[0].Err
}

// TestLabelledKeys: a key that is bound to a label is nowhere in the token, opens while it is loaded, and not before or after;
// another key is not touched.
func TestLabelledKeys(t *testing.T) {
	c, token := hsmtest.New(t)
	other := custodyKey(t, c, wire.P256, wire.Bound)
	before, sessions := c.Objects(), c.SessionObjects()
	var keys []wire.Key
	var enclosed []wire.Enclosed
	var secrets [][]byte
	for _, s := range labelSuites {
		k, e, secret := newLabelled(t, c, s)
		if k.Custody != wire.Labelled || k.Suite != s || k.ID != block.KeyIDOfSPKI(k.SPKI) || !bytes.Equal(e.Key, k.SPKI) || e.Label != "attended" {
			t.Errorf("%v: %+v", s, k)
		}
		if len(e.Sealed) > wire.MaxEnclosed*3/4 {
			t.Errorf("%v: %d bytes enclosed", s, len(e.Sealed))
		}
		if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, not loaded: %v, want %v", s, err, wire.ErrNoKey)
		}
		keys, enclosed, secrets = append(keys, k), append(enclosed, e), append(secrets, secret)
	}
	if n, m := c.Objects(), c.SessionObjects(); n != before || m != sessions {
		t.Errorf("%d objects stay in the token, %d in sessions", n-before, m-sessions)
	}
	load := func() {
		t.Helper()
		for i, e := range enclosed {
			for range 2 { // what is loaded stays so
				if k, err := c.Load(e, secrets[i]); err != nil || k.ID != keys[i].ID || k.Custody != wire.Labelled {
					t.Fatalf("%v: %+v, %v", keys[i].Suite, k, err)
				}
			}
			if err := opens(t, c, keys[i]); err != nil {
				t.Errorf("%v: %v", keys[i].Suite, err)
			}
		}
		if got := must(c.Loaded()); len(got) != len(keys) {
			t.Errorf("%d keys are loaded, want %d", len(got), len(keys))
		}
	}
	load()
	if n := c.Objects(); n != before {
		t.Errorf("%d objects are in the token while they are loaded", n-before)
	}
	for _, k := range keys {
		c.Misplace(k.ID)
		if err := opens(t, c, k); err != nil {
			t.Errorf("%v, looked up again: %v", k.Suite, err)
		}
	}
	c.MisplaceSeedKey(keys[2].ID)
	if err := opens(t, c, keys[2]); err != nil {
		t.Errorf("hybrid, key over seed looked up again: %v", err)
	}
	for _, k := range keys {
		if err := c.Unload(k.ID); err != nil {
			t.Errorf("%v: %v", k.Suite, err)
		}
		if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, unloaded: %v, want %v", k.Suite, err, wire.ErrNoKey)
		}
		if err := c.Unload(k.ID); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, unloaded again: %v, want %v", k.Suite, err, wire.ErrNoKey)
		}
	}
	if n := c.SessionObjects(); n != sessions {
		t.Errorf("%d objects stay in sessions", n-sessions)
	}
	if err := errors.Join(opens(t, c, other), c.Unload(other.ID)); !errors.Is(err, wire.ErrNoKey) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the token's own key: %v", err)
	}
	reopen(t, c, token)
	if err := opens(t, c, keys[0]); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("after a restart: %v, want %v", err, wire.ErrNoKey)
	}
	load()
	if f, err := c.Destroy(keys[2].ID); err != nil || len(f) != 0 || c.SessionObjects() != sessions+len(keys)-1 {
		t.Errorf("destroyed: %d files, %v", len(f), err)
	}
}

// TestLabelledRefused: what was enclosed opens under its secret, for its label, and in its token only.
func TestLabelledRefused(t *testing.T) {
	c, token := hsmtest.New(t)
	k, e, secret := newLabelled(t, c, wire.P256)
	other, stranger, strange := newLabelled(t, c, wire.P256)
	sessions := c.SessionObjects()
	change := func(f func(*wire.Enclosed)) wire.Enclosed { x := e; f(&x); return x }
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	for name, x := range map[string]struct {
		e      wire.Enclosed
		secret []byte
	}{
		"another secret":      {e, flip(secret, 0)},
		"no secret":           {e, nil},
		"a short secret":      {e, secret[:16]},
		"another label":       {change(func(e *wire.Enclosed) { e.Label = "key-release" }), secret},
		"another key's name":  {change(func(e *wire.Enclosed) { e.Key = other.SPKI }), secret},
		"another key":         {change(func(e *wire.Enclosed) { e.Sealed = stranger.Sealed }), secret},
		"altered":             {change(func(e *wire.Enclosed) { e.Sealed = flip(e.Sealed, len(e.Sealed)/2) }), secret},
		"cut":                 {change(func(e *wire.Enclosed) { e.Sealed = e.Sealed[:20] }), secret},
		"nothing":             {wire.Enclosed{}, secret},
		"wrapped by somebody": {c.Enclosed(wire.Parcel{SPKI: k.SPKI, Wrapped: make([]byte, 144)}, "attended", secret), secret},
		"without a half":      {c.Enclosed(wire.Parcel{SPKI: k.SPKI}, "attended", secret), secret},
	} {
		if _, err := c.Load(x.e, x.secret); err == nil {
			t.Errorf("%s: loaded", name)
		}
		if n := c.SessionObjects(); n != sessions {
			t.Fatalf("%s: %d objects stay", name, n-sessions)
		}
	}
	// A private half that the token has wrapped, under the name of another key: it does not open what is wrapped to that.
	p := c.Disclosed(stranger, strange)
	p.SPKI = k.SPKI
	if _, err := c.Load(c.Enclosed(p, "attended", secret), secret); err == nil || !strings.Contains(err.Error(), "pairwise") {
		t.Errorf("a key under the name of another: %v", err)
	}
	for _, s := range []wire.Suite{0, wire.RSA2048, 9} {
		if _, _, err := c.Enclose(s, "attended", secret); !errors.As(err, new(wire.Refused)) {
			t.Errorf("%v: %v, want a refusal", s, err)
		}
	}
	if _, _, err := c.Enclose(wire.P256, "attended", secret[1:]); err == nil {
		t.Error("a short secret was taken")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(e, secret); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	d := box(t, 2)
	openBox(t, d)
	if _, err := d.Load(e, secret); err == nil {
		t.Error("another token took the key")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(hsmtest.Again(token, token.Files)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(e, secret); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestLabelledNeverLeaves: a loaded key is wrapped by nothing, read by nobody, and packed for no other box.
func TestLabelledNeverLeaves(t *testing.T) {
	c, token := hsmtest.New(t)
	for _, s := range labelSuites {
		k, e, secret := newLabelled(t, c, s)
		if _, err := c.Load(e, secret); err != nil {
			t.Fatal(err)
		}
		c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
			kwp := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP_PAD, nil)}
			if w, err := lib.WrapKey(sh, kwp, c.KEK(), h); err == nil {
				t.Errorf("%v: wrapped again, %d bytes", s, len(w))
			}
			for _, a := range []*p11.Attribute{p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_SENSITIVE, false)} {
				if lib.SetAttributeValue(sh, h, []*p11.Attribute{a}) == nil {
					t.Errorf("%v: attribute %#x was changed", s, a.Type)
				}
				if _, err := lib.CopyObject(sh, h, []*p11.Attribute{a}); err == nil {
					t.Errorf("%v: copied with another attribute %#x", s, a.Type)
				}
			}
			if _, err := lib.CopyObject(sh, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true)}); err == nil {
				t.Errorf("%v: copied into the token", s)
			}
		})
	}
	b := box(t, 2)
	keys := must(c.Loaded())
	if _, _, err := c.Admit(hsmtest.Again(token, nil), asked(t, must(b.Transport()))); err != nil {
		t.Fatal(err)
	}
	if left := must(c.Loaded()); len(left) != 0 {
		t.Errorf("%d keys are said to be loaded after the log-in that they belonged to", len(left))
	}
	k, e, secret := newLabelled(t, c, wire.P256)
	if _, err := c.Load(e, secret); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.Pack(wire.PeerOf(must(b.Transport())), []block.KeyID{k.ID})
	if err == nil || !strings.Contains(err.Error(), "bound to a label") {
		t.Errorf("packed: %v", err)
	}
	for _, k := range keys {
		if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, after the log-in that it belonged to: %v", k.Suite, err)
		}
	}
}

// TestLabelledInside: an RSA key that is loaded passes message keys on inside the module, as others do.
func TestLabelledInside(t *testing.T) {
	c, _ := hsmtest.New(t)
	k, e, secret := newLabelled(t, c, wire.RSA3072)
	if _, err := c.Load(e, secret); err != nil {
		t.Fatal(err)
	}
	reader := newRSA(t, 2048)
	w := sealTo(t, block.SuiteOAEPSHA1, k, bytes.Repeat([]byte{7}, 32), nil)
	results, _ := transcrypt(t, c, &reader.PublicKey, w)
	r := results[0]
	got, err := rsa.DecryptOAEP(block.SuiteOAEPSHA1.OAEPHash().New(), nil, reader, r.Sealed, nil)
	if r.Err != nil || err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("%v, %v", r.Err, err)
	}
}

// TestLabelledUnderLoad loads and unloads a key while many use it and another: each answer is the key or that there is none, and
// the other key never fails.
func TestLabelledUnderLoad(t *testing.T) {
	c, _ := hsmtest.New(t)
	other := custodyKey(t, c, wire.P256, wire.Bound)
	k, e, secret := newLabelled(t, c, wire.P256)
	var got, none atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); all.Wait() })
	defer end()
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, _ := unwrap(t, c, wrapTo(t, k, 7), wrapTo(t, other, 8))
				switch {
				case isKey(r[0], 7):
					got.Add(1)
				case errors.Is(r[0].Err, wire.ErrNoKey):
					none.Add(1)
				default:
					t.Errorf("the loaded key: %v", r[0].Err)
				}
				if !isKey(r[1], 8) {
					t.Errorf("the other key: %v", r[1].Err)
				}
			}
		})
	}
	for n := 0; n < 50 || got.Load() == 0 || none.Load() == 0; n++ {
		if _, err := c.Load(e, secret); err != nil {
			t.Fatal(err)
		}
		if err := c.Unload(k.ID); err != nil {
			t.Fatal(err)
		}
		if n > 5000 {
			t.Fatalf("%d answers with the key, %d without", got.Load(), none.Load())
		}
	}
	end()
	if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("unloaded: %v", err)
	}
}

// TestLoadedLimit: the number of loaded keys has an end.
func TestLoadedLimit(t *testing.T) {
	c, _ := hsmtest.New(t)
	for i := range wire.MaxLoaded + 1 {
		_, e, secret := newLabelled(t, c, wire.P256)
		if _, err := c.Load(e, secret); (err != nil) != (i == wire.MaxLoaded) {
			t.Fatalf("key %d: %v", i+1, err)
		}
	}
}
