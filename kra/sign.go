package kra

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
)

// sign signs a message with a decryptor's certified key: ECDSA with SHA-256, RSA-PSS with SHA-256, or Ed25519.
func sign(message []byte, certified crypto.Signer) ([]byte, error) {
	digest := sha256.Sum256(message)
	switch certified.Public().(type) {
	case *ecdsa.PublicKey:
		return certified.Sign(rand.Reader, digest[:], crypto.SHA256)
	case *rsa.PublicKey:
		return certified.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case ed25519.PublicKey:
		return certified.Sign(rand.Reader, message, crypto.Hash(0))
	}
	return nil, errors.New("a key of this kind cannot")
}

// checkSigned verifies what sign made, by the certificate of the key.
func checkSigned(cert *x509.Certificate, message, signature []byte) error {
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the certificate's key is not for signatures")
	}
	var with x509.SignatureAlgorithm
	switch cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		with = x509.ECDSAWithSHA256
	case *rsa.PublicKey:
		with = x509.SHA256WithRSAPSS
	case ed25519.PublicKey:
		with = x509.PureEd25519
	default:
		return errors.New("unknown kind of certified key")
	}
	return cert.CheckSignature(with, message, signature)
}
