// Package siv is AEAD_AES_SIV_CMAC_256 (RFC 5297), the one algorithm that every NTS server must have (RFC 8915 section 5.1).
//
// It is ours because the libraries to be had take only 64-byte keys, or one piece of associated data, where NTS has 32 bytes and two
// pieces. It takes the same time for all contents of the same length.
package siv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
)

const block = aes.BlockSize

// An AEAD seals under one key.
type AEAD struct{ mac, ctr cipher.Block }

// KeySize is in bytes.
const KeySize = 32

// New returns the AEAD of a key.
func New(key [KeySize]byte) AEAD {
	mac, err := aes.NewCipher(key[:KeySize/2])
	if err != nil {
		panic(err) // the length is right
	}
	ctr, err := aes.NewCipher(key[KeySize/2:])
	if err != nil {
		panic(err)
	}
	return AEAD{mac, ctr}
}

// Seal returns the synthetic IV and the ciphertext. The last piece of associated data is the nonce.
func (s AEAD) Seal(plain []byte, data ...[]byte) []byte {
	v := s.s2v(plain, data)
	return append(v[:], s.crypt(v, plain)...)
}

// ErrForged says that what was to be opened was not sealed under the key with the same data.
var ErrForged = errors.New("not authentic")

// Open returns the plaintext, or ErrForged.
func (s AEAD) Open(sealed []byte, data ...[]byte) ([]byte, error) {
	if len(sealed) < block {
		return nil, ErrForged
	}
	v := [block]byte(sealed)
	plain := s.crypt(v, sealed[block:])
	if want := s.s2v(plain, data); subtle.ConstantTimeCompare(want[:], v[:]) != 1 {
		return nil, ErrForged
	}
	return plain, nil
}

// crypt is CTR mode from v without two of its bits (section 2.5).
func (s AEAD) crypt(v [block]byte, in []byte) []byte {
	v[8] &= 0x7f
	v[12] &= 0x7f
	out := make([]byte, len(in))
	cipher.NewCTR(s.ctr, v[:]).XORKeyStream(out, in)
	return out
}

// s2v is section 2.4.
func (s AEAD) s2v(plain []byte, data [][]byte) [block]byte {
	d := s.cmac(make([]byte, block))
	for _, a := range data {
		d = xor(double(d), s.cmac(a))
	}
	if len(plain) < block {
		return s.cmac(pad(plain, double(d)))
	}
	last := append([]byte{}, plain...)
	end := last[len(last)-block:]
	subtle.XORBytes(end, end, d[:])
	return s.cmac(last)
}

// cmac is RFC 4493.
func (s AEAD) cmac(m []byte) (x [block]byte) {
	var zero [block]byte
	s.mac.Encrypt(zero[:], zero[:])
	k := double(zero)
	for ; len(m) > block; m = m[block:] {
		x = xor(x, [block]byte(m))
		s.mac.Encrypt(x[:], x[:])
	}
	last := k
	if len(m) == block {
		last = xor(k, [block]byte(m))
	} else {
		last = [block]byte(pad(m, double(k)))
	}
	x = xor(x, last)
	s.mac.Encrypt(x[:], x[:])
	return x
}

// pad returns with XOR (m, one 1 bit, zero bits), for m shorter than a block.
func pad(m []byte, with [block]byte) []byte {
	var b [block]byte
	copy(b[:], m)
	b[len(m)] = 0x80
	b = xor(b, with)
	return b[:]
}

func xor(a, b [block]byte) (out [block]byte) {
	subtle.XORBytes(out[:], a[:], b[:])
	return out
}

// double multiplies by x in GF(2^128) (RFC 5297 section 2.3).
func double(b [block]byte) (out [block]byte) {
	carry := byte(0)
	for i := block - 1; i >= 0; i-- {
		out[i] = b[i]<<1 | carry
		carry = b[i] >> 7
	}
	out[block-1] ^= 0x87 & -carry
	return out
}
