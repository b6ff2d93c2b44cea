package block

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// AES key wrap, RFC 3394, of message keys.

const wrapBlock = 8 // the unit of RFC 3394, bytes

// wrapIV is the initial value of RFC 3394 section 2.2.3.1, by which a key is recognised.
var wrapIV = [wrapBlock]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}

var errKeyWrap = errors.New("key does not unwrap")

// wrapKey wraps key under kek, RFC 3394 section 2.2.1.
func wrapKey(kek, key []byte) ([]byte, error) { return wrapFrom(wrapIV, kek, key) }

// WrapPadded wraps more than 8 bytes of any length under kek: AES-KWP, RFC 5649 section 4.1. It is for private keys.
func WrapPadded(kek, text []byte) ([]byte, error) {
	if len(text) <= wrapBlock {
		return nil, errors.New("wrap: too short")
	}
	iv := [wrapBlock]byte{0xa6, 0x59, 0x59, 0xa6}
	binary.BigEndian.PutUint32(iv[4:], uint32(len(text)))
	padded := make([]byte, (len(text)+wrapBlock-1)/wrapBlock*wrapBlock)
	copy(padded, text)
	defer clear(padded)
	return wrapFrom(iv, kek, padded)
}

func wrapFrom(iv [wrapBlock]byte, kek, key []byte) ([]byte, error) {
	c, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(key) / wrapBlock
	out := make([]byte, wrapBlock+len(key))
	copy(out, iv[:])
	copy(out[wrapBlock:], key)
	var b [aes.BlockSize]byte
	defer clear(b[:])
	for t := 1; t <= 6*n; t++ {
		r := out[wrapBlock*((t-1)%n+1):][:wrapBlock]
		copy(b[:wrapBlock], out)
		copy(b[wrapBlock:], r)
		c.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:])^uint64(t))
		copy(r, b[wrapBlock:])
	}
	return out, nil
}

// unwrapKey undoes wrapKey, RFC 3394 section 2.2.2. How much of the initial value fits shows in nothing but the answer.
// The caller clears the key.
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	if !keySize(len(wrapped) - wrapBlock) {
		return nil, errKeyWrap
	}
	c, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)/wrapBlock - 1
	key := make([]byte, len(wrapped)-wrapBlock)
	copy(key, wrapped[wrapBlock:])
	var b [aes.BlockSize]byte
	defer clear(b[:])
	a := binary.BigEndian.Uint64(wrapped)
	for t := 6 * n; t >= 1; t-- {
		r := key[wrapBlock*((t-1)%n):][:wrapBlock]
		binary.BigEndian.PutUint64(b[:], a^uint64(t))
		copy(b[wrapBlock:], r)
		c.Decrypt(b[:], b[:])
		a = binary.BigEndian.Uint64(b[:])
		copy(r, b[wrapBlock:])
	}
	binary.BigEndian.PutUint64(b[:], a)
	if subtle.ConstantTimeCompare(b[:wrapBlock], wrapIV[:]) != 1 {
		clear(key)
		return nil, errKeyWrap
	}
	return key, nil
}
