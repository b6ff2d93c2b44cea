package block

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
)

// A Suite is how a file key is wrapped to a key-release key. Zero is not a suite.
type Suite uint8

const (
	// SuiteP256 is HPKE base mode, RFC 9180: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
	SuiteP256 Suite = iota + 1
	// SuiteRSAOAEP is RSAES-OAEP, RFC 8017 section 7.1, with SHA-256 for both hashes.
	SuiteRSAOAEP
)

const (
	p256EncSize  = 65               // an uncompressed point
	p256BodySize = FileKeySize + 16 // the file key and a GCM tag
	rsaMinSize   = 2048 / 8         // modulus, bytes
	rsaMaxSize   = 4096 / 8         // modulus, bytes
	rsaStepSize  = 1024 / 8         // 2048, 3072 and 4096 are the sizes
	nameP256     = "p256"           // in a stanza and in JSON
	nameRSAOAEP  = "rsa-oaep"       // in a stanza and in JSON
)

// String is the suite's name in a stanza.
func (s Suite) String() string {
	switch s {
	case SuiteP256:
		return nameP256
	case SuiteRSAOAEP:
		return nameRSAOAEP
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

// ParseSuite reads the form that String writes.
func ParseSuite(name string) (Suite, error) {
	switch name {
	case nameP256:
		return SuiteP256, nil
	case nameRSAOAEP:
		return SuiteRSAOAEP, nil
	}
	return 0, fmt.Errorf("suite %.40q is not known", name)
}

// SuiteOf returns the suite that wraps to pub: an *ecdh.PublicKey or
// *ecdsa.PublicKey on P-256, or an *rsa.PublicKey of 2048, 3072 or 4096 bits.
func SuiteOf(pub crypto.PublicKey) (Suite, error) {
	switch k := pub.(type) {
	case *ecdh.PublicKey:
		if k.Curve() == ecdh.P256() {
			return SuiteP256, nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return SuiteP256, nil
		}
	case *rsa.PublicKey:
		if rsaSize(k.Size()) && k.N.BitLen() == k.Size()*8 {
			return SuiteRSAOAEP, nil
		}
	}
	return 0, fmt.Errorf("no suite wraps to a key of type %T and this size", pub)
}

func rsaSize(bytes int) bool {
	return bytes >= rsaMinSize && bytes <= rsaMaxSize && bytes%rsaStepSize == 0
}
