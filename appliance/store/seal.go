package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
)

// Contexts of what is derived from the data key, and of the associated data.
const (
	valueContext = "kra/store-values/v1"
	nameContext  = "kra/store-names/v1"
	aadContext   = "kra/store-sealed/v1"
)

// A sealer encrypts records. On the disk a record is
//
//	name    HMAC-SHA256(name key, bucket ‖ 0 ‖ key), 16 bytes
//	value   generation 8 | nonce 12 | AES-256-GCM of (key length 4 ‖ key ‖ value) | tag 16
//
// with associated data aadContext ‖ 0 ‖ bucket ‖ 0 ‖ name ‖ generation, so that no record can take another's place and
// no name can be read. Both keys come from the data key, which is the file's own.
type sealer struct {
	name func(bucket, key string) []byte
	aead cipher.AEAD
}

const (
	nameSize   = 16
	sealedSize = 8 + 12 + 16 + 4 // of an empty record with an empty key
)

var errSeal = errors.New("record does not open under this box's key")

func newSealer(key dataKey) (sealer, error) {
	values, err := hkdf.Key(sha256.New, key[:], nil, valueContext, 32)
	if err != nil {
		return sealer{}, fmt.Errorf("derive store key: %w", err)
	}
	defer clear(values)
	names, err := hkdf.Key(sha256.New, key[:], nil, nameContext, 32)
	if err != nil {
		return sealer{}, fmt.Errorf("derive store key: %w", err)
	}
	b, err := aes.NewCipher(values)
	if err != nil {
		return sealer{}, fmt.Errorf("derive store key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return sealer{}, fmt.Errorf("derive store key: %w", err)
	}
	keyed := sync.Pool{New: func() any { return hmac.New(sha256.New, names) }}
	return sealer{aead: aead, name: func(bucket, key string) []byte {
		h := keyed.Get().(hash.Hash)
		defer keyed.Put(h)
		h.Reset()
		h.Write([]byte(recordName(bucket, key)))
		return h.Sum(nil)[:nameSize]
	}}, nil
}

func (s sealer) seal(bucket, key string, generation uint64, value []byte) (name, sealed []byte) {
	name = s.name(bucket, key)
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(key)+len(value)), uint32(len(key)))
	plain = append(append(plain, key...), value...)
	defer clear(plain)
	sealed = binary.BigEndian.AppendUint64(make([]byte, 0, sealedSize+len(plain)), generation)
	return name, s.aead.Seal(sealed, nil, plain, aad(bucket, name, generation))
}

func (s sealer) open(bucket string, name, sealed []byte) (key string, value []byte, err error) {
	if len(sealed) < sealedSize {
		return "", nil, errSeal
	}
	generation := binary.BigEndian.Uint64(sealed)
	plain, err := s.aead.Open(nil, nil, sealed[8:], aad(bucket, name, generation))
	if err != nil || len(plain) < 4 {
		return "", nil, errSeal
	}
	n := binary.BigEndian.Uint32(plain)
	if uint64(n) > uint64(len(plain)-4) {
		return "", nil, errSeal
	}
	key, value = string(plain[4:4+n]), plain[4+n:]
	if !hmac.Equal(s.name(bucket, key), name) {
		return "", nil, errSeal
	}
	return key, value, nil
}

func aad(bucket string, name []byte, generation uint64) []byte {
	b := make([]byte, 0, len(aadContext)+len(bucket)+len(name)+10)
	b = append(append(b, aadContext...), 0)
	b = append(append(b, bucket...), 0)
	b = append(b, name...)
	return binary.BigEndian.AppendUint64(b, generation)
}
