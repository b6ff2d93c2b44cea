// Package backup has the forms of a box's backup: the key that opens it, the shares of that key as people type them, and the text
// that is printed. See FORMAT.md.
package backup

import (
	"bytes"
	"compress/gzip"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/image/desk/shares"
)

const (
	keyContext   = "kra/backup-seed/v1"
	stateContext = "kra/backup-state/v1"
)

// maxState bounds an unpacked state, in bytes.
const maxState = 64 << 20

// A Seed is what a backup key is derived from. It prints as an address.
type Seed struct{ take func() *[shares.Size]byte }

// NewSeed makes one.
func NewSeed() Seed {
	var s [shares.Size]byte
	rand.Read(s[:])
	return seedOf(s)
}

func seedOf(s [shares.Size]byte) Seed {
	kept := &s
	return Seed{func() *[shares.Size]byte { return kept }}
}

// Clear forgets the seed, which opens nothing any more.
func (s Seed) Clear() {
	if s.take != nil {
		clear(s.take()[:])
	}
}

// private is the key pair: that of a transport key (hsm/REPLICA.md).
func (s Seed) private() (hpke.PrivateKey, error) {
	if s.take == nil || *s.take() == [shares.Size]byte{} {
		return nil, errors.New("derive backup key: there is no seed")
	}
	ikm, err := hkdf.Key(sha256.New, s.take()[:], nil, keyContext, 32)
	if err != nil {
		return nil, fmt.Errorf("derive backup key: %w", err)
	}
	defer clear(ikm)
	key, err := hpke.MLKEM768P256().DeriveKeyPair(ikm)
	if err != nil {
		return nil, fmt.Errorf("derive backup key: %w", err)
	}
	return key, nil
}

// Public is the backup key as the box keeps it.
func (s Seed) Public() ([]byte, error) {
	key, err := s.private()
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}

func stateInfo(public []byte) []byte {
	p := hsm.PeerOf(public)
	return append([]byte(stateContext+"\x00"), p[:]...)
}

// SealState packs a state and encrypts it to a backup key.
func SealState(public, state []byte) ([]byte, error) {
	to, err := hpke.MLKEM768P256().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("seal state: %w", err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(state); err != nil || len(state) > maxState {
		return nil, fmt.Errorf("seal state: %d bytes, at most %d", len(state), maxState)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("seal state: %w", err)
	}
	sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), stateInfo(public), packed.Bytes())
	if err != nil {
		return nil, fmt.Errorf("seal state: %w", err)
	}
	return sealed, nil
}

// OpenState gives back what SealState was given.
func (s Seed) OpenState(sealed []byte) ([]byte, error) {
	key, err := s.private()
	if err != nil {
		return nil, err
	}
	packed, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), stateInfo(key.PublicKey().Bytes()), sealed)
	if err != nil {
		return nil, errors.New("open state: it was not sealed to this backup key")
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	state, err := io.ReadAll(io.LimitReader(z, maxState+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("open state: %w", err)
	case len(state) > maxState:
		return nil, fmt.Errorf("open state: more than %d bytes", maxState)
	}
	return state, nil
}

// Forward seals a letter that is for the backup key to another token's transport key. The transfer key is in the clear in this
// process for that moment.
func (s Seed) Forward(letter, transport []byte) ([]byte, error) {
	by, err := s.private()
	if err != nil {
		return nil, err
	}
	key, err := hsm.OpenLetter(by, letter)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return hsm.SealLetter(transport, key)
}

// Opens says whether the seed opens a letter.
func (s Seed) Opens(letter []byte) error {
	by, err := s.private()
	if err != nil {
		return err
	}
	key, err := hsm.OpenLetter(by, letter)
	clear(key)
	return err
}
