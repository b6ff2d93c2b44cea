package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// AES-GCM, NIST SP 800-38D, of content that does not fit memory: crypto/cipher has it for whole messages only. The
// counter mode is crypto/cipher's. So is the hash, for all but one multiplication in 64 KiB: that of a chunk comes out of
// GCM with the chunk as additional data and nothing to encrypt, whose tag is
//
//	T = (Y·+ L)·H + E(J)      Y: state of GHASH behind the chunk, L: length block, J: counter block of a nonce
//
// with the state before the chunk added to the chunk's first block, so that Y = (T + E(J))/H + L.

const (
	gcmNonceSize = 12
	gcmTagSize   = aes.BlockSize
	gcmMaxSize   = (1<<32 - 2) * aes.BlockSize // bytes of content under one nonce
)

// A gcm hashes the ciphertext of one message and encrypts or decrypts it.
type gcm struct {
	ctr     cipher.Stream
	aead    cipher.AEAD // for its hash only
	h, inv  field       // GHASH's key, and 1/H
	mask    field       // E(J) of the zero nonce, which the hash is read with
	last    field       // E(J) of the message's nonce
	state   field
	size    uint64 // bytes of ciphertext
	scratch []byte
}

func newGCM(key, nonce []byte) (*gcm, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	g := &gcm{aead: aead}
	var zero [aes.BlockSize]byte
	g.h = encrypted(b, zero[:])
	g.inv = g.h.inverse()
	g.mask = encrypted(b, counter(zero[:gcmNonceSize], 1))
	g.last = encrypted(b, counter(nonce, 1))
	g.ctr = cipher.NewCTR(b, counter(nonce, 2))
	return g, nil
}

func counter(nonce []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{}, nonce...), n)
}

func encrypted(b cipher.Block, in []byte) field {
	var out [aes.BlockSize]byte
	b.Encrypt(out[:], in)
	return fieldOf(out[:])
}

// open hashes ciphertext and decrypts it in place. All calls but the last take a multiple of the block size.
func (g *gcm) open(b []byte) {
	g.hash(b)
	g.ctr.XORKeyStream(b, b)
}

// seal encrypts in place and hashes.
func (g *gcm) seal(b []byte) {
	g.ctr.XORKeyStream(b, b)
	g.hash(b)
}

func (g *gcm) hash(b []byte) {
	g.size += uint64(len(b))
	g.state = g.ghash(g.state, b)
}

// ghash returns the state behind b, padded with zeros to whole blocks.
func (g *gcm) ghash(state field, b []byte) field {
	if len(b) == 0 {
		return state
	}
	pad := -len(b) & (aes.BlockSize - 1)
	g.scratch = append(append(g.scratch[:0], b...), make([]byte, pad)...)
	subtle.XORBytes(g.scratch, g.scratch[:aes.BlockSize], state.bytes())
	var nonce [gcmNonceSize]byte
	tag := g.aead.Seal(nil, nonce[:], nil, g.scratch)
	return fieldOf(tag).add(g.mask).mul(g.inv).add(field{hi: 8 * uint64(len(g.scratch))})
}

// tag returns the tag over what was hashed and the additional data, which may be known only now: hashed first, its state
// would have been multiplied by H for each block of ciphertext.
func (g *gcm) tag(additional []byte) []byte {
	before := g.ghash(field{}, additional)
	blocks := (g.size + aes.BlockSize - 1) / aes.BlockSize
	state := before.mul(g.h.pow(blocks)).add(g.state)
	lengths := field{8 * uint64(len(additional)), 8 * g.size}
	return state.add(lengths).mul(g.h).add(g.last).bytes()
}
