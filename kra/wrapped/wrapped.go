// Package wrapped is a private key on its way to a box, wrapped to the box's import key as CKM_RSA_AES_KEY_WRAP does it.
package wrapped

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/kra/block"
)

// Limits and sizes, in bytes.
const (
	MaxText = 16 << 10 // of the text
	MaxKey  = 4480     // of what it holds
	outer   = 384      // the AES-256 key under RSA-3072
	aesKey  = 32
	unit    = 8 // of AES-KWP
)

const (
	pemType = "KRA WRAPPED KEY"
	toField = "Import-Key" // the id of the import key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal
)

// A Key is a wrapped private key.
//
//	RSA-OAEP (SHA-256, MGF1 with SHA-256, no label) of an AES-256 key, 384 bytes ‖ AES-KWP (RFC 5649) of the PKCS#8, in DER
type Key struct {
	to    block.KeyID
	bytes []byte
}

// To is the id of the import key that it says it was wrapped to; zero: it does not say.
func (k Key) To() block.KeyID { return k.to }

// Bytes is both parts.
func (k Key) Bytes() []byte { return bytes.Clone(k.bytes) }

// Seal wraps a private key, PKCS#8 in DER, to an import key.
func Seal(to *rsa.PublicKey, pkcs8 []byte) (Key, error) {
	if to.Size() != outer {
		return Key{}, fmt.Errorf("wrap key: an import key has %d bits, and this %d", outer*8, to.N.BitLen())
	}
	id, err := block.KeyIDOf(to)
	if err != nil {
		return Key{}, fmt.Errorf("wrap key: %w", err)
	}
	ephemeral := make([]byte, aesKey)
	rand.Read(ephemeral)
	defer clear(ephemeral)
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, ephemeral, nil)
	if err != nil {
		return Key{}, fmt.Errorf("wrap key: %w", err)
	}
	second, err := block.WrapPadded(ephemeral, pkcs8)
	if err != nil {
		return Key{}, fmt.Errorf("wrap key: %w", err)
	}
	k := Key{id, append(first, second...)}
	return k, k.check()
}

func (k Key) check() error {
	switch n := len(k.bytes); {
	case n > MaxKey:
		return fmt.Errorf("a wrapped key has at most %d bytes, and this %d", MaxKey, n)
	case n < outer+3*unit || n%unit != 0:
		return fmt.Errorf("the wrapped key is cut: %d bytes, where %d of RSA-3072 and at least %d of AES-KWP are wanted, in steps of %d", n, outer, 3*unit, unit)
	}
	return nil
}

// PEM is the form in which it is pasted.
func (k Key) PEM() []byte {
	b := &pem.Block{Type: pemType, Bytes: k.bytes}
	if k.to != (block.KeyID{}) {
		b.Headers = map[string]string{toField: k.to.String()}
	}
	return pem.EncodeToMemory(b)
}

// Is says whether a text means to be a wrapped key.
func Is(text string) bool { return strings.Contains(text, "-----BEGIN "+pemType+"-----") }

// Parse reads one PEM block, with nothing after it. Whom it was wrapped to, it need not say: what openssl makes does not.
func Parse(text string) (k Key, err error) {
	if len(text) > MaxText {
		return k, fmt.Errorf("a wrapped key has at most %d bytes of text, and this %d", MaxText, len(text))
	}
	b, rest := pem.Decode([]byte(text))
	if b == nil || b.Type != pemType || strings.TrimSpace(string(rest)) != "" {
		return k, errors.New("that is not one whole block " + pemType)
	}
	for name, value := range b.Headers {
		id, err := block.ParseKeyID(value)
		if name != toField || err != nil {
			return k, fmt.Errorf("the wrapped key has a line %.40q: want none but %q, and there a SHA-256 in hexadecimal", name, toField)
		}
		k.to = id
	}
	k.bytes = b.Bytes
	return k, k.check()
}
