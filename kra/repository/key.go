package repository

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Contexts of signatures: what is signed is context, zero, and the JSON of the entry or the head.
const (
	contextEntry = "kra/repository/entry/v1"
	contextHead  = "kra/repository/head/v1"
)

// A Key is the public key by which entries are believed: Ed25519 or P-256. The zero Key believes nothing.
type Key struct{ pub crypto.PublicKey }

// Valid reports whether k believes anything.
func (k Key) Valid() bool { return k.pub != nil }

// ParseKey reads a SubjectPublicKeyInfo, DER or PEM.
func ParseKey(b []byte) (Key, error) {
	if p, rest := pem.Decode(b); p != nil {
		if p.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) != 0 {
			return Key{}, errors.New("parse repository key: want one PEM block PUBLIC KEY")
		}
		b = p.Bytes
	}
	pub, err := x509.ParsePKIXPublicKey(b)
	if err == nil {
		err = checkKey(pub)
	}
	if err != nil {
		return Key{}, fmt.Errorf("parse repository key: %w", err)
	}
	return Key{pub}, nil
}

func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	}
	return errors.New("want a key of Ed25519 or P-256")
}

func (k Key) verify(context string, text, sig []byte) error {
	m := message(context, text)
	ok := false
	switch pub := k.pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, m, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(m)
		ok = ecdsa.VerifyASN1(pub, sum[:], sig)
	}
	if !ok {
		return errors.New("is not signed by the repository's key")
	}
	return nil
}

func message(context string, text []byte) []byte {
	return append(append([]byte(context), 0), text...)
}

// A Signer is the repository's private key.
type Signer struct{ key crypto.Signer }

// ParseSigner reads a private key, PEM of PKCS #8, as 'openssl genpkey -algorithm ed25519' writes it.
func ParseSigner(text []byte) (Signer, error) {
	p, rest := pem.Decode(text)
	if p == nil || p.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return Signer{}, errors.New("parse signing key: want one PEM block PRIVATE KEY")
	}
	defer clear(p.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return Signer{}, errors.New("parse signing key: not PKCS #8")
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return Signer{}, errors.New("parse signing key: want a key of Ed25519 or P-256")
	}
	if err := checkKey(s.Public()); err != nil {
		return Signer{}, fmt.Errorf("parse signing key: %w", err)
	}
	return Signer{s}, nil
}

// Key returns the public key.
func (s Signer) Key() Key { return Key{s.key.Public()} }

func (s Signer) sign(context string, text []byte) ([]byte, error) {
	m := message(context, text)
	if _, ok := s.key.(ed25519.PrivateKey); ok {
		return s.key.Sign(rand.Reader, m, crypto.Hash(0))
	}
	sum := sha256.Sum256(m)
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}
