package kra

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// Limits of an RSA key in a certificate of somebody else: verifying a signature takes time that grows with both.
const (
	MaxRSABits     = maxSealRSA // a response may be sealed to such a key
	MaxRSAExponent = 65537
)

// CheckCertificateKey refuses a certificate with an RSA key by which verifying a signature takes long. A chain is checked
// so, each certificate of it, before anything in it is verified.
func CheckCertificateKey(c *x509.Certificate) error {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok:
		return nil
	case k.N == nil || k.N.BitLen() > MaxRSABits:
		return fmt.Errorf("RSA key is longer than %d bits", MaxRSABits)
	case k.E > MaxRSAExponent:
		return fmt.Errorf("RSA key has an exponent over %d", MaxRSAExponent)
	}
	return nil
}
