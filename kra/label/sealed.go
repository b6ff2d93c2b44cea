package label

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	sealedBlock   = "KRA SEALED BUNDLE"
	sealedContext = "kra/sealed-bundle/v1"
)

// CredentialSize is the size in bytes of what a sealed bundle's credential carries.
const CredentialSize = 32

// A SealedBundle is a bundle for one box, which only the TPM with its endorsement key and its attestation key can open
// (TPM 2.0 part 1, section 24, credential protection).
type SealedBundle struct {
	Credential []byte `json:"credential"` // TPMS_ID_OBJECT: 32 bytes for the attestation key's Name
	Secret     []byte `json:"secret"`     // the seed of that, encrypted to the endorsement key
	Data       []byte `json:"data"`       // AES-256-GCM of the bundle's text
}

// SealBundle encrypts a bundle's text under a credential that is used for nothing else.
func SealBundle(text, credential []byte) ([]byte, error) {
	g, err := sealer(credential)
	if err != nil {
		return nil, fmt.Errorf("seal bundle: %w", err)
	}
	return g.Seal(nil, make([]byte, g.NonceSize()), text, []byte(sealedContext)), nil
}

// Open decrypts with the credential that the TPM activated.
func (s SealedBundle) Open(credential []byte) ([]byte, error) {
	g, err := sealer(credential)
	if err != nil {
		return nil, fmt.Errorf("open sealed bundle: %w", err)
	}
	text, err := g.Open(nil, make([]byte, g.NonceSize()), s.Data, []byte(sealedContext))
	if err != nil {
		return nil, errors.New("open sealed bundle: it was altered")
	}
	return text, nil
}

// sealer is fit for one message: the key is new each time, the nonce therefore zero.
func sealer(credential []byte) (cipher.AEAD, error) {
	if len(credential) != CredentialSize {
		return nil, fmt.Errorf("credential of %d bytes, want %d", len(credential), CredentialSize)
	}
	key, err := hkdf.Key(sha256.New, credential, nil, sealedContext, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(c)
}

func (s SealedBundle) check() error {
	if len(s.Credential) == 0 || len(s.Secret) == 0 || len(s.Data) == 0 {
		return errors.New("a part is missing")
	}
	return nil
}

// PEM is the sealed bundle as it is pasted at a console.
func (s SealedBundle) PEM() []byte { return armor(sealedBlock, encode(s)) }

// IsSealed says that a text claims to hold a sealed bundle.
func IsSealed(text []byte) bool {
	return bytes.Contains(text, []byte("-----BEGIN "+sealedBlock+"-----"))
}

// ParseSealed reads a sealed bundle out of a text.
func ParseSealed(text []byte) (SealedBundle, error) {
	doc, err := unarmor(sealedBlock, text)
	if err != nil {
		return SealedBundle{}, fmt.Errorf("parse sealed bundle: %w", err)
	}
	return parseSealed(doc)
}

func parseSealed(doc []byte) (SealedBundle, error) {
	var s SealedBundle
	if err := decode(doc, &s, func() error { return s.check() }); err != nil {
		return SealedBundle{}, fmt.Errorf("parse sealed bundle: %w", err)
	}
	return s, nil
}
