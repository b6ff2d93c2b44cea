package hsm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/keyrelease/krabox/hsm/wire"
)

const tokenContext = "kra/token/v1"

// A sealer closes token files before they leave and opens them when they come back. Who keeps them keeps the PIN, too,
// and the two would open every key with SoftHSM anywhere; sealed, they are of use only where the chain key is.
//
//	key    = HKDF-SHA256(chain key, no salt, "kra/token/v1"), 32 bytes
//	sealed = nonce, 12 random bytes ‖ AES-256-GCM(key, nonce, file, the file's name as additional data), 16 bytes longer
//
// A file does not say which others belong to it: that a set is whole and the latest is for its keeper to know.
type sealer struct{ aead func() cipher.AEAD } // in a func, where fmt does not find its key

func newSealer(chainKey [32]byte) (sealer, error) {
	key, err := hkdf.Key(sha256.New, chainKey[:], nil, tokenContext, 32)
	if err != nil {
		return sealer{}, fmt.Errorf("derive key for token files: %w", err)
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("make cipher for token files: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return sealer{}, fmt.Errorf("make cipher for token files: %w", err)
	}
	return sealer{func() cipher.AEAD { return aead }}, nil
}

// seal returns files as they may leave. A removed file stays nil.
func (s sealer) seal(files wire.Files) wire.Files {
	if files == nil {
		return nil
	}
	aead, out := s.aead(), make(wire.Files, len(files))
	for name, data := range files {
		out[name] = nil
		if data != nil {
			out[name] = aead.Seal(nil, nil, data, []byte(name))
		}
	}
	return out
}

// open returns what was sealed, or refuses all of it: behind it, each file is one that this box made, under its name.
func (s sealer) open(files wire.Files) (wire.Files, error) {
	aead, out := s.aead(), make(wire.Files, len(files))
	for name, data := range files {
		if !validName(name) || data == nil {
			return nil, wire.Refused{Reason: fmt.Sprintf("open token files: %.80q is not the name of one", name)}
		}
		plain, err := aead.Open(make([]byte, 0, len(data)), nil, data, []byte(name))
		if err != nil {
			return nil, wire.Refused{Reason: fmt.Sprintf("open token files: %.80q is not as this box sealed it", name)}
		}
		out[name] = plain
	}
	return out, nil
}
