package wire

import (
	"bytes"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

func TestTranscrypt(t *testing.T) {
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{0xc1}, 256)), E: 65537}
	to, err := NewRecipient(key)
	if err != nil {
		t.Fatal(err)
	}
	w := samplesWrap(t)
	s := stub()
	s.Transcrypt = func(got Recipient, wraps []block.Wrap, done func([]Result, receipt.ChainHead)) error {
		if !bytes.Equal(got.Modulus(), key.N.Bytes()) || !bytes.Equal(got.Exponent(), []byte{1, 0, 1}) || wraps[0].Hash() != w.Hash() {
			return Refused{"something else arrived"}
		}
		results := []Result{{Sealed: []byte("ciphertext")}, {Err: ErrUnwrap}}
		done(results, receipt.ChainHead{N: 2})
		return nil
	}
	// An answer to Unwrap that is sealed to somebody is not an answer.
	s.Unwrap = func(wraps []block.Wrap, done func([]Result, receipt.ChainHead)) error {
		done([]Result{{Sealed: []byte("ciphertext")}}, receipt.ChainHead{N: 1})
		return nil
	}
	c := start(t, s)
	r, head, err := c.Transcrypt(t.Context(), to, []block.Wrap{w, w})
	if err != nil || head.N != 2 || string(r[0].Sealed) != "ciphertext" || r[1].Err != ErrUnwrap || r[1].Seq != 2 {
		t.Errorf("Transcrypt = %+v, %v, %v", r, head, err)
	}
	if _, _, err := c.Transcrypt(t.Context(), Recipient{}, []block.Wrap{w}); err != errRecipient {
		t.Errorf("Transcrypt to nobody = %v, want %v", err, errRecipient)
	}
	if _, _, err := c.Transcrypt(t.Context(), to, make([]block.Wrap, MaxBatch+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("Transcrypt of too many = %v, want the limit", err)
	}
	if r, _, err := c.Unwrap(t.Context(), []block.Wrap{w}); err == nil {
		t.Errorf("Unwrap = %+v, want that a sealed key is refused", r)
	}
}

func TestRecipient(t *testing.T) {
	number := func(bits int) *big.Int {
		return new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
	}
	for name, x := range map[string]struct {
		key *rsa.PublicKey
		ok  bool
	}{
		"2048 bits":     {&rsa.PublicKey{N: number(2048), E: 65537}, true},
		"3000 bits":     {&rsa.PublicKey{N: number(3000), E: 3}, true},
		"8192 bits":     {&rsa.PublicKey{N: number(8192), E: 17}, true},
		"nothing":       {nil, false},
		"no number":     {&rsa.PublicKey{E: 3}, false},
		"2047 bits":     {&rsa.PublicKey{N: number(2047), E: 65537}, false},
		"8193 bits":     {&rsa.PublicKey{N: number(8193), E: 65537}, false},
		"even":          {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}, false},
		"negative":      {&rsa.PublicKey{N: new(big.Int).Neg(number(2048)), E: 65537}, false},
		"exponent 1":    {&rsa.PublicKey{N: number(2048), E: 1}, false},
		"exponent 4":    {&rsa.PublicKey{N: number(2048), E: 4}, false},
		"long exponent": {&rsa.PublicKey{N: number(2048), E: 65539}, false},
	} {
		r, err := NewRecipient(x.key)
		if (err == nil) != x.ok || x.ok != r.Valid() && x.ok {
			t.Errorf("%s: %v, want accepted %v", name, err, x.ok)
		}
	}
	w := &writer{}
	w.recipient(Recipient{append([]byte{0}, number(2048).Bytes()...), 3})
	if r := (&reader{b: w.b}); r.recipient().Valid() || !r.bad {
		t.Error("a modulus with a zero before it is accepted")
	}
}
