package kra

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
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
	KeyID       string   `json:"key_id"`              // lower-case hexadecimal of SHA-256 over the SubjectPublicKeyInfo
	Suite       string   `json:"suite"`               // of our own stanzas: "p256", "p384", "rsa-oaep" or "mlkem768-p256"
	Suites      []string `json:"suites,omitempty"`    // every suite that its holder opens, Suite first
	Recipient   string   `json:"recipient,omitempty"` // for stock age: age1tag1… or age1tagpq1…; none for RSA
	Certificate string   `json:"certificate"`         // PEM: leaf first, up to but not including the domain's root
}

// NewPublicKey makes the entry of a key whose certificate is chain, in PEM.
func NewPublicKey(access AccessID, title string, key crypto.PublicKey, chain string) (PublicKey, error) {
	id, err := block.KeyIDOf(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("make directory entry of %s: %w", access, err)
	}
	suites, err := block.SuitesOf(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("make directory entry of %s: %w", access, err)
	}
	k := PublicKey{Access: access, Title: title, KeyID: id.String(), Suite: suites[0].String(), Certificate: chain}
	for _, s := range suites {
		k.Suites = append(k.Suites, s.String())
	}
	if r, err := block.AgeRecipient(key); err == nil { // RSA has none
		k.Recipient = r
	}
	return k, nil
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

// Words reports whether what k says of its key in words is what o says, as far as it says so: its suites and its recipient
// may be left out.
func (k PublicKey) Words(o PublicKey) bool {
	return k.Access == o.Access && k.KeyID == o.KeyID && k.Suite == o.Suite &&
		(k.Suites == nil || slices.Equal(k.Suites, o.Suites)) && (k.Recipient == "" || k.Recipient == o.Recipient)
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
