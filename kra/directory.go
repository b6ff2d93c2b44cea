package kra

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// A Directory is the answer of PathKeys: for each access identifier the one key that encryptors use now.
type Directory struct {
	Domain string      `json:"domain"`
	Box    string      `json:"box"`
	Keys   []PublicKey `json:"keys"`
}

// A PublicKey is the current key-release key of one access identifier. Certificate is what an encryptor verifies; the
// other fields repeat it in words.
type PublicKey struct {
	Access      AccessID `json:"access"`
	Title       string   `json:"title"`
	KeyID       string   `json:"key_id"`      // lower-case hexadecimal of SHA-256 over the SubjectPublicKeyInfo
	Suite       string   `json:"suite"`       // "p256" or "rsa-oaep"
	Certificate string   `json:"certificate"` // PEM: leaf first, up to but not including the domain's root
}

// MaxDirectory is the greatest size in bytes of a directory: some 20,000 keys.
const MaxDirectory = 64 << 20

// ParseDirectory reads the answer of PathKeys.
func ParseDirectory(body []byte) (Directory, error) {
	var d Directory
	if len(body) > MaxDirectory {
		return Directory{}, fmt.Errorf("parse directory: %d bytes, at most %d are accepted", len(body), MaxDirectory)
	}
	if err := decodeCanonical(body, &d); err != nil {
		return Directory{}, fmt.Errorf("parse directory: %w", err)
	}
	if d.Keys == nil {
		return Directory{}, errors.New("parse directory: no keys field")
	}
	for i, k := range d.Keys {
		if err := k.check(); err != nil {
			return Directory{}, fmt.Errorf("parse directory: keys[%d]: %w", i, err)
		}
	}
	return d, nil
}

func (k PublicKey) check() error {
	if _, err := ParseAccessID(string(k.Access)); err != nil {
		return err
	}
	if id, err := hex.DecodeString(k.KeyID); err != nil || len(id) != 32 || hex.EncodeToString(id) != k.KeyID {
		return errors.New("key_id is not 64 lower-case hexadecimal digits")
	}
	if k.Suite == "" || k.Certificate == "" {
		return errors.New("suite or certificate is empty")
	}
	return nil
}

// Encode returns the directory's JSON.
func (d Directory) Encode() ([]byte, error) {
	if d.Keys == nil {
		d.Keys = []PublicKey{}
	}
	b, err := encodeCanonical(d)
	if err != nil {
		return nil, fmt.Errorf("encode directory: %w", err)
	}
	return b, nil
}
