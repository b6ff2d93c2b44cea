package block

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

// hybridAlgorithm is the AlgorithmIdentifier of a HybridKey, DER: an object identifier of ours, made of a UUID below the
// arc that Microsoft lends for that, without parameters. Below X.667's own arc a UUID is one number, which crypto/x509 does
// not read.
//
//	1.2.840.113556.1.8000.2554.50382.30847.20924.20463.42013.10371956.6654461
var hybridAlgorithm = []byte{
	0x30, 0x24, 0x06, 0x22, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x14, 0x01, 0xbe, 0x40, 0x93, 0x7a, 0x83, 0x89, 0x4e,
	0x81, 0xf0, 0x7f, 0x81, 0xa3, 0x3c, 0x81, 0x9f, 0x6f, 0x82, 0xc8, 0x1d, 0x84, 0xf9, 0x86, 0x74, 0x83, 0x96,
	0x93, 0x7d,
}

const (
	mlkemSize  = mlkem.EncapsulationKeySize768
	hybridSize = mlkemSize + pointSize // bytes of a hybrid public key
)

// The SubjectPublicKeyInfo of a key on a curve is one of these heads, in DER, and the uncompressed point (RFC 5480).
var (
	headP256 = []byte{
		0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
		0x03, 0x42, 0x00,
	}
	headP384 = []byte{
		0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22,
		0x03, 0x62, 0x00,
	}
)

var errSPKI = errors.New("public key is not SubjectPublicKeyInfo in DER of a kind we wrap to")

// A HybridKey is a public key of ML-KEM-768 and P-256 together: HPKE's KEM MLKEM768-P256.
type HybridKey struct {
	raw   []byte // the ML-KEM encapsulation key, then the uncompressed point
	kem   hpke.PublicKey
	point *ecdh.PublicKey
}

// NewHybridKey reads the form that Bytes writes.
func NewHybridKey(raw []byte) (*HybridKey, error) {
	if len(raw) != hybridSize {
		return nil, fmt.Errorf("hybrid key has %d bytes, want %d", len(raw), hybridSize)
	}
	raw = bytes.Clone(raw)
	kem, err := hpke.MLKEM768P256().NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read hybrid key: %w", err)
	}
	point, err := ecdh.P256().NewPublicKey(raw[mlkemSize:])
	if err != nil {
		return nil, fmt.Errorf("read hybrid key: %w", err)
	}
	return &HybridKey{raw: raw, kem: kem, point: point}, nil
}

// Bytes is the ML-KEM-768 encapsulation key, 1,184 bytes, and then the uncompressed point, 65.
func (k *HybridKey) Bytes() []byte { return bytes.Clone(k.raw) }

// Point returns the P-256 half.
func (k *HybridKey) Point() *ecdh.PublicKey { return k.point }

// Equal reports whether x is the same key.
func (k *HybridKey) Equal(x crypto.PublicKey) bool {
	other, ok := x.(*HybridKey)
	return ok && bytes.Equal(k.raw, other.raw)
}

// MarshalPublicKey returns the SubjectPublicKeyInfo of a key, as crypto/x509 writes it or, for a *HybridKey, as
// FORMAT.md says.
func MarshalPublicKey(pub crypto.PublicKey) ([]byte, error) {
	k, ok := pub.(*HybridKey)
	if !ok {
		return x509.MarshalPKIXPublicKey(pub)
	}
	return asn1.Marshal(struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}{asn1.RawValue{FullBytes: hybridAlgorithm}, asn1.BitString{Bytes: k.raw, BitLength: 8 * len(k.raw)}})
}

// ParsePublicKey reads what MarshalPublicKey writes of a key that SuiteOf knows a suite for, and nothing else.
func ParsePublicKey(spki []byte) (crypto.PublicKey, error) {
	if point, ok := bytes.CutPrefix(spki, headP256); ok { // most keys: this takes a quarter of the time
		return parsePoint(elliptic.P256(), point)
	}
	if point, ok := bytes.CutPrefix(spki, headP384); ok {
		return parsePoint(elliptic.P384(), point)
	}
	pub, err := parseHybrid(spki)
	if pub == nil && err == nil {
		pub, err = x509.ParsePKIXPublicKey(spki)
	}
	if err != nil {
		return nil, errSPKI
	}
	if _, err := SuiteOf(pub); err != nil {
		return nil, err
	}
	if again, err := MarshalPublicKey(pub); err != nil || !bytes.Equal(again, spki) {
		return nil, errSPKI
	}
	return pub, nil
}

func parsePoint(on elliptic.Curve, point []byte) (crypto.PublicKey, error) {
	k, err := ecdsa.ParseUncompressedPublicKey(on, point)
	if err != nil {
		return nil, errSPKI
	}
	return k, nil
}

// parseHybrid returns nil and no error where spki is of another algorithm.
func parseHybrid(spki []byte) (crypto.PublicKey, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(spki, &info)
	if err != nil || len(rest) != 0 {
		return nil, errSPKI
	}
	if !bytes.Equal(info.Algorithm.FullBytes, hybridAlgorithm) {
		return nil, nil
	}
	k, err := NewHybridKey(info.Key.RightAlign())
	if err != nil {
		return nil, err
	}
	return k, nil
}

// pointOf returns the point of a key that has one on P-256 or P-384: the key itself, or half of a hybrid one.
func pointOf(pub crypto.PublicKey) (*ecdh.PublicKey, bool) {
	switch k := pub.(type) {
	case *ecdh.PublicKey:
		return k, k.Curve() == ecdh.P256() || k.Curve() == ecdh.P384()
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, false
		}
		p, err := k.ECDH()
		return p, err == nil
	case *HybridKey:
		return k.point, true
	}
	return nil, false
}

// thumbprint is RFC 7638 with SHA-256: the required members of the JWK in the order of their names, without spaces. The key is what its
// SubjectPublicKeyInfo has as bits.
func thumbprint(pub crypto.PublicKey, key []byte) (t [sha256.Size]byte, ok bool) {
	url := base64.RawURLEncoding.EncodeToString
	switch k := pub.(type) {
	case *rsa.PublicKey:
		e := big.NewInt(int64(k.E)).Bytes()
		return sha256.Sum256([]byte(`{"e":"` + url(e) + `","kty":"RSA","n":"` + url(k.N.Bytes()) + `"}`)), true
	case *ecdsa.PublicKey:
		xy := key[1:]
		half := len(xy) / 2
		return sha256.Sum256([]byte(`{"crv":"` + k.Params().Name + `","kty":"EC","x":"` + url(xy[:half]) + `","y":"` + url(xy[half:]) + `"}`)), true
	}
	return t, false
}
