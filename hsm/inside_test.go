package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// transcrypt is unwrap for a recipient.
func transcrypt(t testing.TB, c *hsm.Custodian, to *rsa.PublicKey, wraps ...block.Wrap) (results []wire.Result, head receipt.ChainHead) {
	t.Helper()
	r, err := wire.NewRecipient(to)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if err := c.Transcrypt(r, wraps, func(r []wire.Result, h receipt.ChainHead) { results, head = r, h; close(done) }); err != nil {
		t.Fatal(err)
	}
	<-done
	return results, head
}

func sealTo(t testing.TB, s block.Suite, k wire.Key, key, context []byte) block.Wrap {
	t.Helper()
	return must(block.Seal(s, must(block.ParsePublicKey(k.SPKI)), key, context))
}

// TestKeyGoesOnInside: of what SoftHSM can, OAEP with SHA-1, a key goes on to another RSA key with one private-key
// operation and as one item of the chain, comes out for nobody else, and leaves no object behind.
func TestKeyGoesOnInside(t *testing.T) {
	c, _ := hsmtest.New(t)
	left := c.SessionObjects()
	readers := []*rsa.PrivateKey{newRSA(t, 2048), newRSA(t, 3072)}
	for _, kind := range []wire.Suite{wire.RSA2048, wire.RSA3072, wire.RSA4096} {
		k := custodyKey(t, c, kind, wire.Bound)
		for _, reader := range readers {
			for _, size := range block.SuiteOAEPSHA1.KeySizes() {
				want := bytes.Repeat([]byte{byte(size)}, size)
				w := sealTo(t, block.SuiteOAEPSHA1, k, want, nil)
				before, uses := must2(c.Since(0)), c.Uses()
				r, head := transcrypt(t, c, &reader.PublicKey, w)
				if used := c.Uses() - uses; used != 1 {
					t.Errorf("%v: %d private-key operations, want 1", kind, used)
				}
				if r[0].Err != nil || keyOf(r[0]) != nil || r[0].Seq != head.N {
					t.Fatalf("%v, %d bytes: %v, key in the clear %x, item %d of %d", kind, size, r[0].Err, keyOf(r[0]), r[0].Seq, head.N)
				}
				got, err := rsa.DecryptOAEP(crypto.SHA1.New(), nil, reader, r[0].Sealed, nil)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v, %d bytes: recipient reads %x, %v; want %x", kind, size, got, err, want)
				}
				items := must2(c.Since(uint64(len(before))))
				if len(items) != 1 || items[0].Key != receipt.Hash(k.ID) || items[0].Ciphertext != receipt.Hash(w.Hash()) || items[0].N != head.N {
					t.Errorf("%v: the chain has %v of it", kind, items)
				}
			}
		}
	}
	if now := c.SessionObjects(); now != left {
		t.Errorf("%d objects are left in sessions, want %d", now, left)
	}
}

// must2 drops the head of a chain.
func must2(items []receipt.Item, _ receipt.ChainHead, err error) []receipt.Item {
	return must(items, err)
}

// TestOthersAreOpenedAsEver: in one batch with those that go on inside; what the module cannot do inside, and what it was
// not allowed when the key was made, is opened as by Unwrap.
func TestOthersAreOpenedAsEver(t *testing.T) {
	c, _ := hsmtest.New(t)
	reader := newRSA(t, 2048)
	r, p := custodyKey(t, c, wire.RSA3072, wire.Bound), custodyKey(t, c, wire.P256, wire.Bound)
	old, err := c.ImportOld(newRSA(t, 2048))
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte{7}, 16)
	all := []struct {
		name   string
		wrap   block.Wrap
		inside bool
	}{
		{"SHA-1", sealTo(t, block.SuiteOAEPSHA1, r, want, nil), true},
		{"SHA-256, which SoftHSM cannot", sealTo(t, block.SuiteOAEP, r, want, nil), false},
		{"our own stanza", sealTo(t, block.SuiteRSAOAEP, r, want, nil), false},
		{"an EC key", sealTo(t, block.SuiteECDHX963, p, want, shared), false},
		{"an old key", sealTo(t, block.SuiteOAEPSHA1, old, want, nil), false},
		{"SHA-1 again", sealTo(t, block.SuiteOAEPSHA1, r, want, nil), true},
	}
	var wraps []block.Wrap
	for _, x := range all {
		wraps = append(wraps, x.wrap)
	}
	uses := c.Uses()
	results, head := transcrypt(t, c, &reader.PublicKey, wraps...)
	if used := c.Uses() - uses; used != uint64(len(all)) {
		t.Errorf("%d private-key operations for %d wraps", used, len(all))
	}
	for i, x := range all {
		got := keyOf(results[i])
		if inside := len(results[i].Sealed) > 0; inside != x.inside || inside == bytes.Equal(got, want) || results[i].Err != nil {
			t.Errorf("%s: inside %v, key %x, %v; want inside %v", x.name, inside, got, results[i].Err, x.inside)
		}
		if results[i].Seq != head.N-uint64(len(all)-1-i) {
			t.Errorf("%s: item %d", x.name, results[i].Seq)
		}
	}
	if r, _ := unwrap(t, c, wraps[0]); r[0].Sealed != nil || !bytes.Equal(keyOf(r[0]), want) {
		t.Errorf("Unwrap of what could go on inside: %v", r[0].Err)
	}
}

// TestInsideRefuses: what does not open, is one refusal, is in the chain, and leaves nothing behind.
func TestInsideRefuses(t *testing.T) {
	c, _ := hsmtest.New(t)
	k, reader := custodyKey(t, c, wire.RSA2048, wire.Bound), newRSA(t, 2048)
	pub := must(block.ParsePublicKey(k.SPKI)).(*rsa.PublicKey)
	left := c.SessionObjects()
	w := sealTo(t, block.SuiteOAEPSHA1, k, make([]byte, 16), nil)
	as := func(body []byte) block.Wrap { return must(block.NewWrap(block.SuiteOAEPSHA1, w.Ref(), nil, body, nil)) }
	padded := func(c crypto.Hash, m, label []byte) block.Wrap {
		return as(must(rsa.EncryptOAEP(c.New(), rand.Reader, pub, m, label)))
	}
	bad := map[string]block.Wrap{
		"SHA-256 read as SHA-1": padded(crypto.SHA256, make([]byte, 16), nil),
		"a label":               padded(crypto.SHA1, make([]byte, 16), []byte("x")),
		"no key":                padded(crypto.SHA1, nil, nil),
		"zeros":                 as(make([]byte, 256)),
		"one":                   as(big.NewInt(1).FillBytes(make([]byte, 256))),
		"the modulus":           as(pub.N.FillBytes(make([]byte, 256))),
		"beyond the modulus":    as(bytes.Repeat([]byte{0xff}, 256)),
		"longer than the key":   as(make([]byte, 384)),
	}
	for i := 1; i < len(w.Body()); i += 16 {
		body := w.Body()
		body[i] ^= 1
		bad["changed in byte "+big.NewInt(int64(i)).String()] = as(body)
	}
	for name, x := range bad {
		before := must2(c.Since(0))
		r, _ := transcrypt(t, c, &reader.PublicKey, x)
		if r[0].Err != wire.ErrUnwrap || len(r[0].Sealed) > 0 || keyOf(r[0]) != nil {
			t.Errorf("%s: %v, %x; want %v", name, r[0].Err, r[0].Sealed, wire.ErrUnwrap)
		}
		if items := must2(c.Since(uint64(len(before)))); len(items) != 1 || items[0].Ciphertext != receipt.Hash(x.Hash()) {
			t.Errorf("%s: the chain has %v of it", name, items)
		}
	}
	if r, _ := transcrypt(t, c, &reader.PublicKey, must(block.NewWrap(block.SuiteOAEPSHA1, block.KeyIDRef(block.KeyID{1}), nil, w.Body(), nil))); r[0].Err != wire.ErrNoKey {
		t.Errorf("key of nobody: %v, want %v", r[0].Err, wire.ErrNoKey)
	}
	if err := c.Transcrypt(wire.Recipient{}, []block.Wrap{w}, nil); err == nil {
		t.Error("a key goes on to nobody")
	}
	if now := c.SessionObjects(); now != left {
		t.Errorf("%d objects are left in sessions, want %d", now, left)
	}
	c.Misplace(k.ID)
	if r, _ := transcrypt(t, c, &reader.PublicKey, w); r[0].Err != nil || len(r[0].Sealed) == 0 {
		t.Errorf("after the key lay elsewhere: %v", r[0].Err)
	}
}

// TestFaultsAreNotRefusals: the code by which a module refuses a ciphertext, here that of any fault, says so of the step that
// looks at the ciphertext only. If the recipient's key or the wrapping is at fault, the wrap is opened as ever.
func TestFaultsAreNotRefusals(t *testing.T) {
	c, _ := hsmtest.New(t)
	bad := c.Refusal(crypto.SHA1)
	if bad != p11.CKR_GENERAL_ERROR {
		t.Errorf("SoftHSM refuses a ciphertext by %v, want its code for any fault", bad)
	}
	k, reader := newRSA(t, 3072), must(wire.NewRecipient(&newRSA(t, 2048).PublicKey))
	padded := func(n int) []byte {
		return must(rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, &k.PublicKey, make([]byte, n), nil))
	}
	_, notOAEP := c.Carry(k, block.SuiteOAEPSHA1, make([]byte, k.Size()), reader)
	_, tooLong := c.Carry(k, block.SuiteOAEPSHA1, padded(300), reader)
	for step, err := range map[error]error{hsm.ErrImport: c.CarryLost(block.SuiteOAEPSHA1, padded(16), reader), hsm.ErrTakeIn: notOAEP, hsm.ErrPassOn: tooLong} {
		refused := step == hsm.ErrTakeIn
		if !errors.Is(err, step) || (c.Verdict(crypto.SHA1, err) == wire.ErrUnwrap) != refused {
			t.Errorf("%v: %v is %v", step, err, c.Verdict(crypto.SHA1, err))
		}
		for _, code := range []p11.Error{bad, p11.CKR_DATA_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_WRAPPED_KEY_INVALID} {
			if err := fmt.Errorf("%w: %w", step, code); (c.Verdict(crypto.SHA1, err) == wire.ErrUnwrap) != refused {
				t.Errorf("%v is %v", err, c.Verdict(crypto.SHA1, err))
			}
		}
		for _, code := range []p11.Error{p11.CKR_DEVICE_MEMORY, p11.CKR_KEY_SIZE_RANGE} {
			if err := fmt.Errorf("%w: %w", step, code); c.Verdict(crypto.SHA1, err) != err {
				t.Errorf("%v is %v", err, c.Verdict(crypto.SHA1, err))
			}
		}
	}
	held := custodyKey(t, c, wire.RSA3072, wire.Bound)
	long := must(rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, must(block.ParsePublicKey(held.SPKI)).(*rsa.PublicKey), make([]byte, 300), nil))
	uses := c.Uses()
	r, _ := transcrypt(t, c, &newRSA(t, 2048).PublicKey, must(block.NewWrap(block.SuiteOAEPSHA1, block.KeyIDRef(held.ID), nil, long, nil)))
	if r[0].Err != wire.ErrUnwrap || c.Uses() != uses+2 {
		t.Errorf("%v after %d private-key operations; want %v after it was opened as ever, too", r[0].Err, c.Uses()-uses, wire.ErrUnwrap)
	}
}

// TestPassingKeyIsNotReadable uses hsmd's own session, logged in, to get at a key that is on its way.
func TestPassingKeyIsNotReadable(t *testing.T) {
	c, _ := hsmtest.New(t)
	w := sealTo(t, block.SuiteOAEPSHA1, custodyKey(t, c, wire.RSA2048, wire.Bound), make([]byte, 32), nil)
	err := c.Passing(w, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
		readAll(t, lib, sh, h)
		for _, a := range []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_DECRYPT, true), attr(p11.CKA_MODIFIABLE, true)} {
			if lib.SetAttributeValue(sh, h, []*p11.Attribute{a}) == nil {
				t.Errorf("attribute %#x can be changed", a.Type)
			}
			if _, err := lib.CopyObject(sh, h, []*p11.Attribute{a}); err == nil {
				t.Errorf("a copy can change attribute %#x", a.Type)
			}
		}
		ecb := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_ECB, nil)}
		if lib.EncryptInit(sh, ecb, h) == nil || lib.DecryptInit(sh, ecb, h) == nil {
			t.Error("the key can be used")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
