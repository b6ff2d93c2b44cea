package block

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/age"
)

var (
	errFileKey  = errors.New("file key is not 16 bytes")
	errWrongKey = errors.New("wrap is for another key")
	errOpen     = errors.New("wrap does not open")
)

// WrapFileKey wraps fileKey to pub, a key of one of the kinds that SuiteOf names.
func WrapFileKey(pub crypto.PublicKey, fileKey []byte) (Wrap, error) {
	if len(fileKey) != FileKeySize {
		return Wrap{}, errFileKey
	}
	s, err := SuiteOf(pub)
	if err != nil {
		return Wrap{}, err
	}
	id, err := KeyIDOf(pub)
	if err != nil {
		return Wrap{}, err
	}
	if s == SuiteRSAOAEP {
		ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), fileKey, Info(id))
		if err != nil {
			return Wrap{}, fmt.Errorf("encrypt file key: %w", err)
		}
		return NewWrap(s, id, nil, ct)
	}
	ct, err := sealP256(pub, id, fileKey)
	if err != nil {
		return Wrap{}, fmt.Errorf("encrypt file key: %w", err)
	}
	return NewWrap(s, id, ct[:p256EncSize], ct[p256EncSize:])
}

func sealP256(pub crypto.PublicKey, id KeyID, fileKey []byte) ([]byte, error) {
	if k, ok := pub.(*ecdsa.PublicKey); ok {
		var err error
		if pub, err = k.ECDH(); err != nil {
			return nil, err
		}
	}
	to, err := hpke.NewDHKEMPublicKey(pub.(*ecdh.PublicKey))
	if err != nil {
		return nil, err
	}
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), Info(id), fileKey)
}

// OpenP256 opens a wrap of suite p256 with the private key kx, which may live in a
// token. The caller clears what it returns.
func OpenP256(kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	id, err := KeyIDOf(kx.PublicKey())
	if err != nil {
		return nil, errWrongKey
	}
	return OpenP256As(id, kx, w)
}

// OpenP256As is OpenP256 where the id of kx's public key is known already.
func OpenP256As(id KeyID, kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	if w.suite != SuiteP256 || kx.Curve() != ecdh.P256() || id != w.key {
		return nil, errWrongKey
	}
	key, err := hpke.NewDHKEMPrivateKey(kx)
	if err != nil {
		return nil, fmt.Errorf("use private key: %w", err)
	}
	r, err := hpke.NewRecipient(w.enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), Info(w.key))
	if err != nil {
		return nil, fmt.Errorf("decapsulate: %w", err)
	}
	fileKey, err := r.Open(nil, w.body)
	if err != nil || len(fileKey) != FileKeySize {
		return nil, errOpen
	}
	return fileKey, nil
}

// A Recipient wraps file keys to one key-release key. It is an age.Recipient.
type Recipient struct {
	pub crypto.PublicKey
	id  KeyID
}

var _ age.Recipient = Recipient{}

// NewRecipient returns the recipient of the key pub, of a kind that SuiteOf names.
func NewRecipient(pub crypto.PublicKey) (Recipient, error) {
	if _, err := SuiteOf(pub); err != nil {
		return Recipient{}, err
	}
	id, err := KeyIDOf(pub)
	if err != nil {
		return Recipient{}, err
	}
	return Recipient{pub: pub, id: id}, nil
}

// KeyID returns the id of the recipient's key.
func (r Recipient) KeyID() KeyID { return r.id }

// Wrap implements age.Recipient.
func (r Recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	w, err := WrapFileKey(r.pub, fileKey)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{w.Stanza()}, nil
}
