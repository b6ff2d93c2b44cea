package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

var errForeign = errors.New("not a key-release key")

// scan indexes the token's private keys. Keys that are not ours (the module may be shared) are left alone.
func (s *session) scan() (*index, error) {
	defer s.searching()()
	x := newIndex()
	var handles []p11.ObjectHandle
	for _, l := range []string{keyLabel, cameLabel} {
		found, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, l)})
		if err != nil {
			return nil, err
		}
		handles = append(handles, found...)
	}
	for _, h := range handles {
		e, err := s.inspect(h)
		if errors.Is(err, errForeign) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if x.keys[e.key.ID] != nil {
			return nil, fmt.Errorf("key %v is in the token twice", e.key.ID)
		}
		x.keys[e.key.ID] = e
	}
	return x, nil
}

// inspect reads what the token says of a private key. CKA_ID must be the hash of the public key.
func (s *session) inspect(h p11.ObjectHandle) (*entry, error) {
	v, err := s.read(h, p11.CKA_ID, p11.CKA_KEY_TYPE, p11.CKA_EXTRACTABLE, p11.CKA_LOCAL, p11.CKA_UNWRAP, p11.CKA_LABEL)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	id, kind := v[0], ulong(v[1])
	var spki []byte
	switch kind {
	case p11.CKK_EC:
		spki, err = s.publicEC(h, id)
		if sum := block.KeyIDOfSPKI(spki); err == nil && !bytes.Equal(id, sum[:]) {
			spki, err = s.publicHybrid(spki, id)
		}
	case p11.CKK_RSA:
		spki, err = s.publicRSA(h)
	default:
		return nil, errForeign
	}
	if err != nil {
		return nil, err
	}
	e, err := newEntry(spki, h)
	if err != nil || !bytes.Equal(id, e.key.ID[:]) {
		return nil, errForeign
	}
	e.key.Custody, e.key.Origin, e.key.Mode = wire.Bound, wire.Imported, wire.Resident
	if isSet(v[2]) {
		e.key.Custody = wire.Replicable
	}
	switch {
	case isSet(v[3]):
		e.key.Origin = wire.Generated
	case string(v[5]) == cameLabel:
		e.key.Origin = wire.Wrapped
	}
	e.unwraps = e.modulus != nil && isSet(v[4])
	if e.key.Suite == wire.Hybrid {
		return e, s.addSeed(e)
	}
	return e, nil
}

// publicEC reads the public key that the private one carries, or else from its partner in the token.
func (s *session) publicEC(h p11.ObjectHandle, id []byte) ([]byte, error) {
	if v, err := s.read(h, p11.CKA_PUBLIC_KEY_INFO); err == nil && len(v[0]) > 0 {
		return v[0], nil
	}
	partners, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_EC), attr(p11.CKA_ID, id)})
	if err != nil {
		return nil, err
	}
	if len(partners) != 1 {
		return nil, errForeign
	}
	return s.spkiEC(partners[0])
}

// publicHybrid returns the hybrid key that has the P-256 key spki as a half.
func (s *session) publicHybrid(spki, id []byte) ([]byte, error) {
	e, err := newEntry(spki, 0)
	if err != nil || e.point == nil {
		return nil, errForeign
	}
	return s.hybridSPKI(id, e.point.Bytes())
}

// spkiEC reads a public key object on a curve.
func (s *session) spkiEC(h p11.ObjectHandle) ([]byte, error) {
	point, err := s.pointEC(h)
	if err != nil {
		return nil, err
	}
	for _, c := range []*curve{onP256, onP384} {
		if pub, err := c.ecdh.NewPublicKey(point); err == nil {
			return x509.MarshalPKIXPublicKey(pub)
		}
	}
	return nil, errForeign
}

// pointEC reads the uncompressed point of a public key object on a curve.
func (s *session) pointEC(h p11.ObjectHandle) ([]byte, error) {
	v, err := s.read(h, p11.CKA_EC_POINT)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	point := v[0]
	for _, c := range []*curve{onP256, onP384} {
		size := 1 + 2*c.size
		if inner := bytes.TrimPrefix(point, []byte{4, byte(size)}); len(inner) == size {
			return inner, nil
		}
	}
	return point, nil
}

// publicRSA reads modulus and exponent, which an RSA private key object has too.
func (s *session) publicRSA(h p11.ObjectHandle) ([]byte, error) {
	v, err := s.read(h, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	if new(big.Int).SetBytes(v[1]).Cmp(big.NewInt(rsaE)) != 0 {
		return nil, errForeign
	}
	return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(v[0]), E: rsaE})
}

// newEntry describes a public key of a suite that we keep.
func newEntry(spki []byte, h p11.ObjectHandle) (*entry, error) {
	pub, err := block.ParsePublicKey(spki)
	if err != nil {
		return nil, errForeign
	}
	e := &entry{key: wire.Key{ID: block.KeyIDOfSPKI(spki), SPKI: spki}}
	e.handle.Store(uint64(h))
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		e.key.Suite = wire.P256
		if e.point, err = k.ECDH(); err != nil {
			return nil, errForeign
		}
		if e.point.Curve() == ecdh.P384() {
			e.key.Suite = wire.P384
		}
	case *block.HybridKey:
		e.key.Suite, e.point = wire.Hybrid, k.Point()
	case *rsa.PublicKey:
		e.modulus = k.N.Bytes()
		if e.key.Suite = rsaOfBits(k.N.BitLen()); e.key.Suite == 0 {
			return nil, errForeign
		}
	default:
		return nil, errForeign
	}
	return e, nil
}

// ulong reads a CK_ULONG as miekg/pkcs11 hands it over.
func ulong(b []byte) uint {
	if len(b) == 8 {
		return uint(binary.NativeEndian.Uint64(b))
	}
	return 0
}

func isSet(b []byte) bool { return len(b) == 1 && b[0] != 0 }
