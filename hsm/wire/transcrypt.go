package wire

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"math/big"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits of the key that Transcrypt encrypts to.
const (
	minRecipient = 2048 / 8 // modulus, bytes
	maxRecipient = 8192 / 8 // modulus, bytes
	maxExponent  = 65537
)

var errRecipient = errors.New("recipient is no RSA key of 2048 to 8192 bits with an exponent of at most 65537")

// A Recipient is the RSA public key of somebody else that Transcrypt encrypts to. Only NewRecipient makes one; the zero
// Recipient is nobody, and nothing is encrypted to it.
type Recipient struct {
	modulus  []byte
	exponent uint32
}

// NewRecipient returns the recipient that has this key, of 2048 to 8192 bits.
func NewRecipient(k *rsa.PublicKey) (Recipient, error) {
	if k == nil || k.N == nil || k.N.Sign() <= 0 || k.E < 3 || k.E > maxExponent {
		return Recipient{}, errRecipient
	}
	r := Recipient{k.N.Bytes(), uint32(k.E)}
	return r, r.check()
}

// check holds a modulus to whole bytes or more, odd, without zeros before it.
func (r Recipient) check() error {
	n := r.modulus
	if len(n) < minRecipient || len(n) > maxRecipient || n[0] == 0 || len(n) == minRecipient && n[0] < 0x80 || n[len(n)-1]&1 == 0 ||
		r.exponent < 3 || r.exponent > maxExponent || r.exponent&1 == 0 {
		return errRecipient
	}
	return nil
}

// Valid reports whether the recipient is somebody.
func (r Recipient) Valid() bool { return len(r.modulus) > 0 }

// Modulus returns the key's modulus, big endian, without zeros before it.
func (r Recipient) Modulus() []byte { return bytes.Clone(r.modulus) }

// Exponent returns the key's exponent, big endian, without zeros before it.
func (r Recipient) Exponent() []byte { return big.NewInt(int64(r.exponent)).Bytes() }

func (w *writer) recipient(to Recipient) {
	w.bytes(to.modulus)
	w.u32(to.exponent)
}

func (r *reader) recipient() Recipient {
	to := Recipient{bytes.Clone(r.bytes(maxRecipient)), r.u32()}
	if r.bad = r.bad || to.check() != nil; r.bad {
		return Recipient{}
	}
	return to
}

// Transcrypt is Unwrap for keys that go on to an RSA key. A wrap that is RSA-OAEP without a label, with a hash that the
// module can do both ways, of a key that may unwrap, is opened into the module and encrypted to the recipient there, with
// the same hash: its result is Sealed. The others are opened as Unwrap does. The chain has an item of each, as ever.
func (c *Client) Transcrypt(ctx context.Context, to Recipient, wraps []block.Wrap) ([]Result, receipt.ChainHead, error) {
	if !to.Valid() {
		return nil, receipt.ChainHead{}, errRecipient
	}
	return c.batch(ctx, verbTranscrypt, wraps, formSealed, func(w *writer) { w.recipient(to); w.wraps(wraps) })
}
