package block

import (
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rsa"
	"fmt"
)

// A Suite is how a key is wrapped to a key-release key. Zero is not a suite. The numbers are hsm/wire's: a new one goes
// last.
type Suite uint8

const (
	// SuiteP256 is HPKE base mode, RFC 9180: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
	SuiteP256 Suite = iota + 1
	// SuiteRSAOAEP is RSAES-OAEP, RFC 8017 section 7.1, with SHA-256 for both hashes and the key id in the label.
	SuiteRSAOAEP
	// SuiteHybrid is HPKE base mode: MLKEM768-P256, HKDF-SHA256, AES-256-GCM.
	SuiteHybrid
	// SuiteP256Tag is stock age's p256tag: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
	SuiteP256Tag
	// SuiteHybridTag is stock age's mlkem768p256tag: MLKEM768-P256, HKDF-SHA256, ChaCha20-Poly1305.
	SuiteHybridTag
	// SuiteOAEP is RSAES-OAEP with SHA-256 for both hashes and the empty label: CMS (RFC 3560) and JWE (RSA-OAEP-256).
	SuiteOAEP
	// SuiteECDHX963 is RFC 5753's dhSinglePass-stdDH-sha256kdf-scheme on P-256 with AES key wrap: CMS.
	SuiteECDHX963
	// SuiteECDHES is RFC 7518's ECDH-ES+A128KW, A192KW and A256KW on P-256: JWE.
	SuiteECDHES
	// SuiteECDHX963SHA1 is SuiteECDHX963 with SHA-1 in the key derivation, where no collision helps anybody: what stock
	// openssl cms writes unless it is told otherwise.
	SuiteECDHX963SHA1
	// SuiteOAEPSHA1 is SuiteOAEP with SHA-1 for both hashes, where no collision helps anybody: what stock openssl cms writes
	// unless it is told otherwise, JWE's RSA-OAEP, and of OAEP all that some tokens know.
	SuiteOAEPSHA1
	// SuiteP384 is HPKE base mode, RFC 9180: DHKEM(P-384, HKDF-SHA384), HKDF-SHA384, AES-256-GCM.
	SuiteP384
	// SuiteECDHX963P384 is SuiteECDHX963 on P-384.
	SuiteECDHX963P384
	// SuiteECDHX963SHA384 is RFC 5753's dhSinglePass-stdDH-sha384kdf-scheme on P-384 with AES key wrap: CMS.
	SuiteECDHX963SHA384
	// SuiteECDHX963SHA1P384 is SuiteECDHX963SHA1 on P-384.
	SuiteECDHX963SHA1P384
	// SuiteECDHESP384 is SuiteECDHES on P-384.
	SuiteECDHESP384

	suiteLast = SuiteECDHESP384
)

const (
	pointSize     = 65 // an uncompressed point of P-256
	point384Size  = 97 // of P-384
	tagBytes      = 16 // of an AEAD
	hybridEncSize = mlkem.CiphertextSize768 + pointSize
	hpkeBodySize  = FileKeySize + tagBytes
	rsaMinSize    = 2048 / 8 // modulus, bytes
	rsaMaxSize    = 4096 / 8 // modulus, bytes
	rsaStepSize   = 1024 / 8 // 2048, 3072 and 4096 are the sizes

	// MaxEnc and MaxBody are what the largest suites need, in bytes.
	MaxEnc  = hybridEncSize
	MaxBody = rsaMaxSize
)

// suiteNames are the suites' names in stanzas and in JSON, by suite.
var suiteNames = [...]string{
	SuiteP256: "p256", SuiteRSAOAEP: "rsa-oaep", SuiteHybrid: "mlkem768-p256",
	SuiteP256Tag: typeP256Tag, SuiteHybridTag: typeHybridTag,
	SuiteOAEP: "oaep-sha256", SuiteECDHX963: "ecdh-x963-kw", SuiteECDHES: "ecdh-es-kw", SuiteECDHX963SHA1: "ecdh-x963-sha1-kw",
	SuiteOAEPSHA1: "oaep-sha1",
	SuiteP384:     "p384", SuiteECDHX963P384: "ecdh-x963-kw-p384", SuiteECDHX963SHA384: "ecdh-x963-sha384-kw-p384",
	SuiteECDHX963SHA1P384: "ecdh-x963-sha1-kw-p384", SuiteECDHESP384: "ecdh-es-kw-p384",
}

// String is the suite's name.
func (s Suite) String() string {
	if s == 0 || s > suiteLast {
		return fmt.Sprintf("suite %d", uint8(s))
	}
	return suiteNames[s]
}

// ParseSuite reads the form that String writes.
func ParseSuite(name string) (Suite, error) {
	for s := SuiteP256; s <= suiteLast; s++ {
		if suiteNames[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("suite %.40q is not known", name)
}

// SuiteOf returns the suite of our stanzas that wraps to pub: an *ecdh.PublicKey or *ecdsa.PublicKey on P-256 or P-384, an
// *rsa.PublicKey of 2048, 3072 or 4096 bits, or a *HybridKey.
func SuiteOf(pub crypto.PublicKey) (Suite, error) {
	switch k := pub.(type) {
	case *HybridKey:
		return SuiteHybrid, nil
	case *rsa.PublicKey:
		if rsaSize(k.Size()) && k.N.BitLen() == k.Size()*8 {
			return SuiteRSAOAEP, nil
		}
	default:
		if p, ok := pointOf(pub); ok && p.Curve() == ecdh.P384() {
			return SuiteP384, nil
		} else if ok {
			return SuiteP256, nil
		}
	}
	return 0, fmt.Errorf("no suite wraps to a key of type %T and this size", pub)
}

// Opens reports whether the private key of the one that wraps of suite s are made to opens wraps of suite w, too.
func (s Suite) Opens(w Suite) bool { return s.home() != 0 && s.home() == w.home() }

// home is the suite of our stanzas for the same kind of key.
func (s Suite) home() Suite {
	switch s {
	case SuiteP256, SuiteP256Tag, SuiteECDHX963, SuiteECDHES, SuiteECDHX963SHA1:
		return SuiteP256
	case SuiteRSAOAEP, SuiteOAEP, SuiteOAEPSHA1:
		return SuiteRSAOAEP
	case SuiteHybrid, SuiteHybridTag:
		return SuiteHybrid
	case SuiteP384, SuiteECDHX963P384, SuiteECDHX963SHA384, SuiteECDHX963SHA1P384, SuiteECDHESP384:
		return SuiteP384
	}
	return 0
}

// curve is the curve of the suite's keys, or of their classical half; nil for RSA.
func (s Suite) curve() ecdh.Curve {
	switch s.home() {
	case SuiteP256, SuiteHybrid:
		return ecdh.P256()
	case SuiteP384:
		return ecdh.P384()
	}
	return nil
}

// ours reports whether the suite belongs in kra stanzas.
func (s Suite) ours() bool { return s != 0 && s == s.home() }

// stanza reports whether the suite belongs in age headers.
func (s Suite) stanza() bool { return s.ours() || s == SuiteP256Tag || s == SuiteHybridTag }

// agrees reports whether the suite is a key agreement whose derivation takes shared info.
func (s Suite) agrees() bool {
	switch s {
	case SuiteECDHX963, SuiteECDHES, SuiteECDHX963SHA1, SuiteECDHX963P384, SuiteECDHX963SHA384, SuiteECDHX963SHA1P384, SuiteECDHESP384:
		return true
	}
	return false
}

// OAEPHash is the hash, both hashes, of a suite that is RSAES-OAEP, 0 of any other.
func (s Suite) OAEPHash() crypto.Hash {
	switch s {
	case SuiteRSAOAEP, SuiteOAEP:
		return crypto.SHA256
	case SuiteOAEPSHA1:
		return crypto.SHA1
	}
	return 0
}

// encSize is the length of the encapsulated key.
func (s Suite) encSize() int {
	switch s {
	case SuiteHybrid, SuiteHybridTag:
		return hybridEncSize
	case SuiteRSAOAEP, SuiteOAEP, SuiteOAEPSHA1:
		return 0
	}
	if s.home() == SuiteP384 {
		return point384Size
	}
	return pointSize
}

// KeySizes returns how many bytes the keys have that wraps of suite s hold, ascending; none for a suite that is not known.
func (s Suite) KeySizes() []int {
	switch s {
	case SuiteOAEP, SuiteOAEPSHA1, SuiteECDHES, SuiteECDHESP384:
		return []int{16, 24, 32, 48, MaxKeySize}
	case SuiteECDHX963, SuiteECDHX963SHA1, SuiteECDHX963P384, SuiteECDHX963SHA384, SuiteECDHX963SHA1P384:
		return []int{16, 24, 32}
	}
	if s.home() == 0 {
		return nil
	}
	return []int{FileKeySize}
}

func rsaSize(bytes int) bool {
	return bytes >= rsaMinSize && bytes <= rsaMaxSize && bytes%rsaStepSize == 0
}
