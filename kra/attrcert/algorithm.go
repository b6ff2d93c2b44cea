package attrcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra"
)

// minRSA is the least size in bits of an issuer's RSA key.
const minRSA = 2048

// An algorithm is a signature algorithm that is accepted, by the one or two forms of its identifier.
type algorithm struct {
	x509 x509.SignatureAlgorithm
	hash crypto.Hash
}

var algorithms = algorithmTable()

func algorithmTable() map[string]algorithm {
	t := map[string]algorithm{}
	ec := []int{1, 2, 840, 10045, 4, 3}
	rsa := []int{1, 2, 840, 113549, 1, 1}
	for i, h := range []struct {
		hash             crypto.Hash
		ecdsa, rsa1, pss x509.SignatureAlgorithm
	}{
		{crypto.SHA256, x509.ECDSAWithSHA256, x509.SHA256WithRSA, x509.SHA256WithRSAPSS},
		{crypto.SHA384, x509.ECDSAWithSHA384, x509.SHA384WithRSA, x509.SHA384WithRSAPSS},
		{crypto.SHA512, x509.ECDSAWithSHA512, x509.SHA512WithRSA, x509.SHA512WithRSAPSS},
	} {
		t[identifier(append(ec[:6:6], 2+i), nil)] = algorithm{h.ecdsa, h.hash}
		t[identifier(append(rsa[:6:6], 11+i), addNull)] = algorithm{h.rsa1, h.hash}
		for _, params := range []func(*cryptobyte.Builder){addNull, nil} { // RFC 4055 section 2.1: both must be taken
			t[pssIdentifier(1+i, h.hash.Size(), params)] = algorithm{h.pss, h.hash}
		}
	}
	t[identifier(asn1.ObjectIdentifier{1, 3, 101, 112}, nil)] = algorithm{x509: x509.PureEd25519}
	return t
}

func addNull(b *cryptobyte.Builder) { b.AddASN1(der.NULL, func(*cryptobyte.Builder) {}) }

// identifier encodes an AlgorithmIdentifier.
func identifier(oid asn1.ObjectIdentifier, params func(*cryptobyte.Builder)) string {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if params != nil {
			params(b)
		}
	})
	return string(b.BytesOrPanic())
}

// pssIdentifier encodes RSASSA-PSS with one hash for both purposes and a salt of its length (RFC 4055, section 3.1).
func pssIdentifier(sha, salt int, hashParams func(*cryptobyte.Builder)) string {
	hash := identifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, sha}, hashParams)
	mask := identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, func(b *cryptobyte.Builder) { b.AddBytes([]byte(hash)) })
	return identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(contextual(0), func(b *cryptobyte.Builder) { b.AddBytes([]byte(hash)) })
			b.AddASN1(contextual(1), func(b *cryptobyte.Builder) { b.AddBytes([]byte(mask)) })
			b.AddASN1(contextual(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(salt)) })
		})
	})
}

func algorithmOf(id []byte) (algorithm, error) {
	a, ok := algorithms[string(id)]
	if !ok {
		return a, errors.New("signature algorithm is not ECDSA or RSA with SHA-2, or Ed25519")
	}
	return a, nil
}

// checkIssuer refuses a certificate that may not issue attribute certificates (RFC 5755, section 4.5).
func checkIssuer(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return errors.New("key is on another curve than P-256 and P-384")
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Errorf("RSA key is shorter than %d bits", minRSA)
		}
		if err := kra.CheckCertificateKey(c); err != nil {
			return err
		}
	case ed25519.PublicKey:
	default:
		return errors.New("key is neither ECDSA, RSA nor Ed25519")
	}
	switch {
	case c.IsCA:
		return errors.New("is a certification authority's, which may not issue attribute certificates")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("key usage is without digitalSignature")
	case len(c.UnhandledCriticalExtensions) != 0:
		return fmt.Errorf("has the unknown critical extension %v", c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// CheckIssuer refuses a certificate that cannot be an attribute authority's.
func CheckIssuer(c *x509.Certificate) error {
	if err := checkIssuer(c); err != nil {
		return fmt.Errorf("certificate of an attribute authority: %w", err)
	}
	return nil
}
