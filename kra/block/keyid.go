package block

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// A KeyID names a key pair: the SHA-256 of its SubjectPublicKeyInfo in DER. It says
// nothing about who may use the key.
type KeyID [sha256.Size]byte

var (
	errKeyIDForm = errors.New("key id is not 64 lower-case hexadecimal digits")
	errKeyIDZero = errors.New("key id is zero")
)

// KeyIDOf returns the id of a public key as MarshalPublicKey writes it.
func KeyIDOf(pub crypto.PublicKey) (KeyID, error) {
	der, err := MarshalPublicKey(pub)
	if err != nil {
		return KeyID{}, fmt.Errorf("marshal public key: %w", err)
	}
	return KeyIDOfSPKI(der), nil
}

// KeyIDOfSPKI returns the id of the key whose SubjectPublicKeyInfo is der.
func KeyIDOfSPKI(der []byte) KeyID { return sha256.Sum256(der) }

// ParseKeyID reads the form that String writes.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	if len(s) != hex.EncodedLen(len(id)) {
		return KeyID{}, errKeyIDForm
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return KeyID{}, errKeyIDForm
	}
	if id.IsZero() {
		return KeyID{}, errKeyIDZero
	}
	return id, nil
}

// IsZero reports whether the id names nothing.
func (id KeyID) IsZero() bool { return id == KeyID{} }

// String is 64 lower-case hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes String the form in JSON, also of map keys.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseKeyID for encoding/json.
func (id *KeyID) UnmarshalText(b []byte) error {
	v, err := ParseKeyID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
