package block

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha1" // in a key derivation
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"
)

// MaxContext is how many bytes the key derivation of an ECDH suite takes as its shared info.
const MaxContext = 1 << 10

var errContext = errors.New("shared info does not end in the size of an AES key")

// kekSize returns how long the key-encryption key is that shared info asks for. RFC 5753's suppPubInfo and RFC 7518's
// SuppPubInfo both end the shared info, and are both that length in bits in four bytes, big endian.
func kekSize(context []byte) (int, error) {
	if len(context) < 4 || len(context) > MaxContext {
		return 0, errContext
	}
	bits := binary.BigEndian.Uint32(context[len(context)-4:])
	if bits%8 != 0 || !aesSize(int(bits/8)) {
		return 0, errContext
	}
	return int(bits / 8), nil
}

// deriveX963 is the key derivation of ANSI X9.63, SEC 1 section 3.6.1.
func deriveX963(hash func() hash.Hash, z, context []byte, size int) []byte {
	var out []byte
	for n := uint32(1); len(out) < size; n++ {
		h := hash()
		h.Write(z)
		h.Write(binary.BigEndian.AppendUint32(nil, n))
		h.Write(context)
		out = h.Sum(out)
	}
	return out[:size]
}

// deriveConcat is the Concat KDF with SHA-256, NIST SP 800-56A section 5.8.1; one hash suffices for 32 bytes.
func deriveConcat(z, context []byte, size int) []byte {
	h := sha256.New()
	h.Write([]byte{0, 0, 0, 1})
	h.Write(z)
	h.Write(context)
	return h.Sum(nil)[:size]
}

// kek derives the key-encryption key of an ECDH suite from the shared secret z.
func (s Suite) kek(z, context []byte) ([]byte, error) {
	size, err := kekSize(context)
	if err != nil {
		return nil, err
	}
	switch s {
	case SuiteECDHX963, SuiteECDHX963P384:
		return deriveX963(sha256.New, z, context, size), nil
	case SuiteECDHX963SHA1, SuiteECDHX963SHA1P384:
		return deriveX963(sha1.New, z, context, size), nil
	case SuiteECDHX963SHA384:
		return deriveX963(sha512.New384, z, context, size), nil
	}
	return deriveConcat(z, context, size), nil
}

// openAgreed opens a wrap of an ECDH suite with one key agreement.
func openAgreed(kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	peer, err := w.suite.curve().NewPublicKey(w.enc)
	if err != nil {
		return nil, errOpen
	}
	z, err := kx.ECDH(peer)
	if err != nil {
		return nil, err
	}
	defer clear(z)
	kek, err := w.suite.kek(z, w.context)
	if err != nil {
		return nil, errOpen
	}
	defer clear(kek)
	key, err := unwrapKey(kek, w.body)
	if err != nil {
		return nil, errOpen
	}
	return key, nil
}

// sealAgreed wraps key with a fresh ephemeral key.
func sealAgreed(s Suite, to *ecdh.PublicKey, key, context []byte) (enc, body []byte, err error) {
	e, err := s.curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	z, err := e.ECDH(to)
	if err != nil {
		return nil, nil, err
	}
	defer clear(z)
	kek, err := s.kek(z, context)
	if err != nil {
		return nil, nil, err
	}
	defer clear(kek)
	body, err = wrapKey(kek, key)
	return e.PublicKey().Bytes(), body, err
}
