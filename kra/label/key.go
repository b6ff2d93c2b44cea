package label

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
)

// A Key is a domain key exactly as a TPM sees it: a TPMT_PUBLIC (TPM 2.0 part 2, 12.2.4). Its bytes are in the Name
// of every policy, so the template is part of the format:
//
//	0023 000b     ECC, Names by SHA-256
//	00040040      sign, userWithAuth
//	0000          no policy
//	0010          no symmetric algorithm
//	0018 000b     ECDSA with SHA-256
//	0003 0010     NIST P-256, no KDF
//	0020 X  0020 Y
type Key struct{ tpmt [keySize]byte }

const (
	keyPrefix = "\x00\x23\x00\x0b\x00\x04\x00\x40\x00\x00\x00\x10\x00\x18\x00\x0b\x00\x03\x00\x10"
	keySize   = len(keyPrefix) + 2*(2+32)
)

// NewKey puts a P-256 public key in the template.
func NewKey(pub *ecdsa.PublicKey) (Key, error) {
	if pub == nil || pub.Curve != elliptic.P256() {
		return Key{}, errors.New("make domain key: not a P-256 key")
	}
	point, err := pub.Bytes()
	if err != nil {
		return Key{}, fmt.Errorf("make domain key: %w", err)
	}
	return ParseKey(fmt.Appendf(nil, "%s\x00\x20%s\x00\x20%s", keyPrefix, point[1:33], point[33:]))
}

// ParseKey reads a TPMT_PUBLIC of the template.
func ParseKey(tpmt []byte) (Key, error) {
	var k Key
	if len(tpmt) != keySize || string(tpmt[:len(keyPrefix)]) != keyPrefix {
		return k, errors.New("parse domain key: not of the template")
	}
	copy(k.tpmt[:], tpmt)
	x := tpmt[len(keyPrefix):]
	if x[0] != 0 || x[1] != 32 || x[34] != 0 || x[35] != 32 {
		return Key{}, errors.New("parse domain key: coordinates are not of 32 bytes")
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.point()); err != nil {
		return Key{}, fmt.Errorf("parse domain key: %w", err)
	}
	return k, nil
}

func (k Key) point() []byte {
	x := k.tpmt[len(keyPrefix):]
	return append(append([]byte{4}, x[2:34]...), x[36:]...)
}

// Public is the TPMT_PUBLIC.
func (k Key) Public() []byte { return k.tpmt[:] }

// ECDSA is the key for those who are no TPM.
func (k Key) ECDSA() (*ecdsa.PublicKey, error) {
	if k.IsZero() {
		return nil, errors.New("read domain key: there is none")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.point())
}

// Name is the TPM Name.
func (k Key) Name() Name {
	d := sha256.Sum256(k.tpmt[:])
	return Name(append([]byte{0, 0x0b}, d[:]...))
}

// IsZero says that the key is not set.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText is the TPMT_PUBLIC in hex.
func (k Key) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k.tpmt[:])), nil }

// UnmarshalText reads the TPMT_PUBLIC in hex.
func (k *Key) UnmarshalText(b []byte) error {
	var t [keySize]byte
	if err := unhex(t[:], b); err != nil {
		return err
	}
	p, err := ParseKey(t[:])
	*k = p
	return err
}

// Verify checks a signature, r and s of 32 bytes each, over a SHA-256 digest.
func (k Key) Verify(digest [32]byte, sig []byte) bool {
	pub, err := k.ECDSA()
	if err != nil || len(sig) != signatureSize {
		return false
	}
	return ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

const signatureSize = 64

// signDigest signs with a domain key, wherever it lives, and gives r and s of 32 bytes each.
func signDigest(by crypto.Signer, digest [32]byte) ([]byte, error) {
	der, err := by.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
		return nil, errors.New("signature is not DER of r and s")
	}
	if rs.R.BitLen() > 256 || rs.S.BitLen() > 256 || rs.R.Sign() <= 0 || rs.S.Sign() <= 0 {
		return nil, errors.New("signature is out of range")
	}
	sig := make([]byte, signatureSize)
	rs.R.FillBytes(sig[:32])
	rs.S.FillBytes(sig[32:])
	return sig, nil
}
