package hsm_test

import (
	"bytes"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// shared is shared info that asks for a key-encryption key of 256 bits.
var shared = []byte{'x', 0, 0, 1, 0}

// suiteKeys are the kinds of key that open each suite.
var suiteKeys = []struct {
	suite   block.Suite
	keys    []wire.Suite
	sizes   []int
	context []byte
}{
	{block.SuiteP256, []wire.Suite{wire.P256}, []int{16}, nil},
	{block.SuiteP256Tag, []wire.Suite{wire.P256}, []int{16}, nil},
	{block.SuiteECDHX963, []wire.Suite{wire.P256}, []int{16, 24, 32}, shared},
	{block.SuiteECDHX963SHA1, []wire.Suite{wire.P256}, []int{16, 24, 32}, shared},
	{block.SuiteECDHES, []wire.Suite{wire.P256}, []int{16, 24, 32, 48, 64}, shared},
	{block.SuiteRSAOAEP, []wire.Suite{wire.RSA2048, wire.RSA3072, wire.RSA4096}, []int{16}, nil},
	{block.SuiteOAEP, []wire.Suite{wire.RSA2048, wire.RSA3072, wire.RSA4096}, []int{16, 24, 32, 48, 64}, nil},
	{block.SuiteOAEPSHA1, []wire.Suite{wire.RSA2048, wire.RSA3072, wire.RSA4096}, []int{16, 24, 32, 48, 64}, nil},
	{block.SuiteP384, []wire.Suite{wire.P384}, []int{16}, nil},
	{block.SuiteECDHX963P384, []wire.Suite{wire.P384}, []int{16, 24, 32}, shared},
	{block.SuiteECDHX963SHA384, []wire.Suite{wire.P384}, []int{16, 24, 32}, shared},
	{block.SuiteECDHX963SHA1P384, []wire.Suite{wire.P384}, []int{16, 24, 32}, shared},
	{block.SuiteECDHESP384, []wire.Suite{wire.P384}, []int{16, 24, 32, 48, 64}, shared},
	{block.SuiteHybrid, []wire.Suite{wire.Hybrid}, []int{16}, nil},
	{block.SuiteHybridTag, []wire.Suite{wire.Hybrid}, []int{16}, nil},
}

// TestEachSuiteTakesOnePrivateKeyOperation opens every suite with every kind of key that it is for.
func TestEachSuiteTakesOnePrivateKeyOperation(t *testing.T) {
	c, _ := hsmtest.New(t)
	keys := map[wire.Suite]wire.Key{}
	for _, s := range []wire.Suite{wire.P256, wire.P384, wire.RSA2048, wire.RSA3072, wire.RSA4096, wire.Hybrid} {
		keys[s] = custodyKey(t, c, s, wire.Bound)
	}
	for _, x := range suiteKeys {
		for _, kind := range x.keys {
			for _, size := range x.sizes {
				want := bytes.Repeat([]byte{0xa5}, size)
				w := must(block.Seal(x.suite, must(block.ParsePublicKey(keys[kind].SPKI)), want, x.context))
				if w.KeyID() != keys[kind].ID {
					t.Fatalf("%v: wrap names key %v, want %v", x.suite, w.KeyID(), keys[kind].ID)
				}
				before := c.Uses()
				r, _ := unwrap(t, c, w)
				if used := c.Uses() - before; used != 1 {
					t.Errorf("%v, %d bytes, %v: %d private-key operations, want 1", x.suite, size, kind, used)
				}
				if got := keyOf(r[0]); !bytes.Equal(got, want) {
					t.Errorf("%v, %d bytes, %v: %x, %v", x.suite, size, kind, got, r[0].Err)
				}
			}
		}
	}
}

// TestSuitesRefuse: a wrap opens with nothing changed or exchanged, and with no key but its own.
func TestSuitesRefuse(t *testing.T) {
	c, _ := hsmtest.New(t)
	keys, others := map[wire.Suite]wire.Key{}, map[wire.Suite]wire.Key{}
	for _, s := range []wire.Suite{wire.P256, wire.P384, wire.RSA2048, wire.Hybrid} {
		keys[s] = custodyKey(t, c, s, wire.Bound)
		if others[s] = keys[s]; s != wire.RSA2048 {
			others[s] = custodyKey(t, c, s, wire.Bound)
		}
	}
	for _, x := range suiteKeys {
		kind := x.keys[0]
		pub := must(block.ParsePublicKey(keys[kind].SPKI))
		w := must(block.Seal(x.suite, pub, make([]byte, 16), x.context))
		ref := block.KeyIDRef(keys[kind].ID)
		bad := map[string]block.Wrap{"without its name": must(block.NewWrap(x.suite, w.Ref(), w.Enc(), w.Body(), w.Context())).Named(block.KeyID{})}
		if w.Ref().Kind() == block.RefKeyID {
			bad = map[string]block.Wrap{}
		}
		for i := range w.Body() {
			body := w.Body()
			body[i] ^= 0x40
			bad["body changed"] = must(block.NewWrap(x.suite, ref, w.Enc(), body, w.Context()))
			refuses(t, c, x.suite, bad)
		}
		if len(w.Enc()) > 0 {
			enc := must(block.Seal(x.suite, pub, make([]byte, 16), x.context)).Enc()
			bad["another encapsulated key"] = must(block.NewWrap(x.suite, ref, enc, w.Body(), w.Context()))
			if kind == wire.Hybrid {
				enc = append(w.Enc()[:1088], enc[1088:]...)
				bad["half another encapsulated key"] = must(block.NewWrap(x.suite, ref, enc, w.Body(), nil))
			}
		}
		if x.context != nil {
			bad["another context"] = must(block.NewWrap(x.suite, ref, w.Enc(), w.Body(), []byte{'y', 0, 0, 1, 0}))
			bad["another key size"] = must(block.NewWrap(x.suite, ref, w.Enc(), w.Body(), []byte{'x', 0, 0, 0, 128}))
		}
		if others[kind].ID != keys[kind].ID {
			bad["the name of another key"] = must(block.NewWrap(x.suite, block.KeyIDRef(others[kind].ID), w.Enc(), w.Body(), w.Context()))
		}
		for s, k := range keys {
			if s != kind {
				bad["a key of another kind, "+s.String()] = must(block.NewWrap(x.suite, block.KeyIDRef(k.ID), w.Enc(), w.Body(), w.Context()))
			}
		}
		for _, y := range suiteKeys {
			if y.suite == x.suite {
				continue
			}
			if as, err := block.NewWrap(y.suite, ref, w.Enc(), w.Body(), w.Context()); err == nil {
				bad["read as "+y.suite.String()] = as
			}
		}
		refuses(t, c, x.suite, bad)
	}
}

func refuses(t *testing.T, c *hsm.Custodian, s block.Suite, bad map[string]block.Wrap) {
	t.Helper()
	for name, w := range bad {
		if r, _ := unwrap(t, c, w); r[0].Err != wire.ErrUnwrap && r[0].Err != wire.ErrNoKey || keyOf(r[0]) != nil {
			t.Errorf("%v, %s: %v, want a refusal and no key", s, name, r[0].Err)
		}
	}
}

func keyOf(r wire.Result) (key []byte) {
	_ = r.Key.Use(func(k []byte) error { key = bytes.Clone(k); return nil }) // no key: nil
	return key
}

// TestHybridKeyIsThreeObjects: it goes whole, it comes back from its files, and its seed is nowhere in the clear.
func TestHybridKeyIsThreeObjects(t *testing.T) {
	c, token := hsmtest.New(t)
	objects := c.Objects()
	k, changed, err := c.Generate(wire.Hybrid, wire.Replicable, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Objects() - objects; got != 3 {
		t.Errorf("a hybrid key is %d objects, want 3", got)
	}
	apply(token.Files, changed)
	reopen(t, c, token)
	checkKeys(t, c, []wire.Key{k})
	c.MisplaceSeedKey(k.ID)
	c.Misplace(k.ID)
	checkKeys(t, c, []wire.Key{k})

	h := c.SeedKey(k.ID)
	c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, _ p11.ObjectHandle) {
		readAll(t, lib, sh, h)
		changeAll(t, lib, sh, h, wire.Replicable)
		wrapAll(t, lib, sh, h, c.KEK(), wire.Replicable)
	})

	if changed, err = c.Destroy(k.ID); err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	if got := c.Objects() - objects; got != 0 {
		t.Errorf("%d objects of a destroyed key are left", got)
	}
	if r, _ := unwrap(t, c, wrapTo(t, k, 1)); r[0].Err != wire.ErrNoKey {
		t.Errorf("unwrap with a destroyed key = %v, want %v", r[0].Err, wire.ErrNoKey)
	}
	reopen(t, c, token)
	checkKeys(t, c, nil)
}

// TestHybridSeedIsOfItsKey: the seed of one key does not open as another's.
func TestHybridSeedIsOfItsKey(t *testing.T) {
	c, _ := hsmtest.New(t)
	a, b := custodyKey(t, c, wire.Hybrid, wire.Bound), custodyKey(t, c, wire.Hybrid, wire.Bound)
	c.ExchangeSeeds(a.ID, b.ID)
	for _, k := range []wire.Key{a, b} {
		r, _ := unwrap(t, c, wrapTo(t, k, 1))
		if r[0].Err == nil || r[0].Err == wire.ErrUnwrap {
			t.Errorf("with the seed of another key: %v, want that the seed does not open", r[0].Err)
		}
	}
	c.ExchangeSeeds(a.ID, b.ID)
	checkKeys(t, c, []wire.Key{a, b})
}

// BenchmarkSuites is what each suite costs with its smallest key.
func BenchmarkSuites(b *testing.B) {
	c, _ := hsmtest.New(b)
	keys := map[wire.Suite]wire.Key{}
	for _, s := range []wire.Suite{wire.P256, wire.P384, wire.RSA2048, wire.Hybrid} {
		keys[s] = custodyKey(b, c, s, wire.Bound)
	}
	for _, x := range suiteKeys {
		w := must(block.Seal(x.suite, must(block.ParsePublicKey(keys[x.keys[0]].SPKI)), make([]byte, 16), x.context))
		b.Run(x.suite.String(), func(b *testing.B) {
			for b.Loop() {
				if r, _ := unwrap(b, c, w); r[0].Err != nil {
					b.Fatal(r[0].Err)
				}
			}
		})
	}
}
