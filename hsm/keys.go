package hsm

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

var errMode = wire.Refused{Reason: "it is not said where the key is kept"}

var errKind = errors.New("key is not P-256, P-384, or RSA-2048, -3072 or -4096 with exponent 65537")

// generate makes a key. The caller holds token.objects for writing, as for all that follows.
//
//	born as a session object -> named -> copied into the token, sealed -> attributes attacked -> pair tested -> indexed
//
// A key that fails on the way is destroyed; one that is cut short before the copy leaves nothing.
func (s *session) generate(suite wire.Suite, custody wire.Custody, m wire.Mode) (wire.Key, error) {
	if suite == wire.RSA2048 {
		return wire.Key{}, wire.Refused{Reason: "RSA-2048 keys are only imported, for certificates that exist; generate rsa-3072, rsa-4096, p256, p384 or mlkem768-p256"}
	}
	if suite.Wraps() == 0 || custody != wire.Bound && custody != wire.Replicable {
		return wire.Key{}, wire.Refused{Reason: "key type or custody is not known"}
	}
	if err := s.checkRoom(); err != nil {
		return wire.Key{}, err
	}
	switch {
	case m == wire.Vault:
		return s.keepNew(suite, custody)
	case m != wire.Resident:
		return wire.Key{}, errMode
	case suite == wire.Hybrid:
		return s.generateHybrid(custody)
	}
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, keyGen(suite), public(suite), append(private(suite, custody), unsealed()...))
	if err != nil {
		return wire.Key{}, fmt.Errorf("generate key pair: %w", err)
	}
	spki, err := s.spki(suite, pub)
	if err = errors.Join(err, s.discard(pub)); err != nil {
		return wire.Key{}, errors.Join(err, s.discard(priv))
	}
	return s.admit(priv, spki, custody, wire.Generated)
}

// keyGen is the mechanism that makes what the token has of a key.
func keyGen(s wire.Suite) []*p11.Mechanism {
	if isEC(s) {
		return ecKeyGen
	}
	return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}
}

func (s *session) spki(suite wire.Suite, pub p11.ObjectHandle) ([]byte, error) {
	if isEC(suite) {
		return s.spkiEC(pub)
	}
	return s.publicRSA(pub)
}

// importKey takes a private key from outside. It goes the way of a generated one.
func (s *session) importKey(pkcs8 []byte, custody wire.Custody, m wire.Mode) (wire.Key, error) {
	if custody != wire.Bound && custody != wire.Replicable {
		return wire.Key{}, wire.Refused{Reason: "custody is not known"}
	}
	if m != wire.Resident && m != wire.Vault {
		return wire.Key{}, errMode
	}
	if err := s.checkRoom(); err != nil {
		return wire.Key{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if rest, _ := asn1.Unmarshal(pkcs8, new(asn1.RawValue)); err != nil || len(rest) != 0 {
		return wire.Key{}, wire.Refused{Reason: "private key is not PKCS#8 in DER"}
	}
	spki, suite, values, err := parts(key)
	if err != nil {
		return wire.Key{}, wire.Refused{Reason: err.Error()}
	}
	if s.token.index.get(block.KeyIDOfSPKI(spki)) != nil {
		return wire.Key{}, wire.Refused{Reason: "key is in the token already"}
	}
	as := custody
	if m == wire.Vault {
		as = wire.Replicable // for the moment in which it is wrapped
	}
	template := slices.Concat(values, private(suite, as), unsealed())
	h, err := s.lib.CreateObject(s.handle, template)
	for _, a := range values {
		clear(a.Value)
	}
	if err != nil {
		return wire.Key{}, fmt.Errorf("create key: %w", err)
	}
	if m == wire.Vault {
		return s.keepObject(h, wire.Parcel{SPKI: spki}, suite, custody, wire.Imported)
	}
	return s.admit(h, spki, custody, wire.Imported)
}

// parts returns the object that key becomes. The values are copies, to be cleared.
func parts(key any) (spki []byte, suite wire.Suite, values []*p11.Attribute, err error) {
	class := attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		x, err := k.ECDH()
		if err != nil {
			return nil, 0, nil, errKind
		}
		if suite = wire.P256; x.Curve() == ecdh.P384() {
			suite = wire.P384
		} else if x.Curve() != ecdh.P256() {
			return nil, 0, nil, errKind
		}
		spki, err = x509.MarshalPKIXPublicKey(k.Public())
		return spki, suite, []*p11.Attribute{class, attr(p11.CKA_KEY_TYPE, p11.CKK_EC),
			attr(p11.CKA_EC_PARAMS, slices.Clone(curveOf(suite).oid)), attr(p11.CKA_VALUE, x.Bytes())}, err
	case *rsa.PrivateKey:
		if suite = rsaOfBits(k.N.BitLen()); suite == 0 || k.E != rsaE || len(k.Primes) != 2 {
			return nil, 0, nil, errKind
		}
		spki, err = x509.MarshalPKIXPublicKey(k.Public())
		return spki, suite, append(rsaValues(k), class, attr(p11.CKA_KEY_TYPE, p11.CKK_RSA)), err
	}
	return nil, 0, nil, errKind
}

func rsaValues(k *rsa.PrivateKey) []*p11.Attribute {
	k.Precompute()
	return []*p11.Attribute{
		attr(p11.CKA_MODULUS, k.N.Bytes()),
		attr(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		attr(p11.CKA_PRIVATE_EXPONENT, k.D.Bytes()),
		attr(p11.CKA_PRIME_1, k.Primes[0].Bytes()),
		attr(p11.CKA_PRIME_2, k.Primes[1].Bytes()),
		attr(p11.CKA_EXPONENT_1, k.Precomputed.Dp.Bytes()),
		attr(p11.CKA_EXPONENT_2, k.Precomputed.Dq.Bytes()),
		attr(p11.CKA_COEFFICIENT, k.Precomputed.Qinv.Bytes()),
	}
}

// admit seals the session object h into the token, attacks it, tests it, and indexes it.
func (s *session) admit(h p11.ObjectHandle, spki []byte, custody wire.Custody, o wire.Origin) (wire.Key, error) {
	sealed, err := s.seal(h, spki, o)
	if err = errors.Join(err, s.discard(h)); err != nil {
		return wire.Key{}, err
	}
	e, err := s.inspect(sealed)
	if err == nil && e.key.Custody != custody {
		err = errors.New("custody is not what was asked for")
	}
	if err == nil && o == wire.Wrapped && e.key.Origin != o {
		err = errors.New("the module does not keep that the key came wrapped")
	}
	if err == nil {
		err = s.attack(e)
	}
	if err == nil {
		err = s.pairwise(e)
	}
	if err != nil {
		return wire.Key{}, errors.Join(fmt.Errorf("test new key: %w", err), s.erase(block.KeyIDOfSPKI(spki)))
	}
	s.token.index.put(e)
	return e.key, nil
}

// seal names the session object h and copies it into the token.
func (s *session) seal(h p11.ObjectHandle, spki []byte, o wire.Origin) (p11.ObjectHandle, error) {
	id := block.KeyIDOfSPKI(spki)
	if err := s.lib.SetAttributeValue(s.handle, h, named(id, o)); err != nil {
		return 0, fmt.Errorf("name key: %w", err)
	}
	spki, err := half(spki)
	if err != nil {
		return 0, err
	}
	if err := s.lib.SetAttributeValue(s.handle, h, []*p11.Attribute{attr(p11.CKA_PUBLIC_KEY_INFO, spki)}); err != nil {
		if err := s.publish(id, spki); err != nil {
			return 0, err
		}
	}
	sealedKey, err := s.lib.CopyObject(s.handle, h, sealed())
	if err != nil {
		return 0, fmt.Errorf("copy key into token: %w", err)
	}
	return sealedKey, nil
}

// half returns the public key of what the token has of a key: of a hybrid one, the P-256 half.
func half(spki []byte) ([]byte, error) {
	pub, err := block.ParsePublicKey(spki)
	if err != nil {
		return nil, err
	}
	if k, ok := pub.(*block.HybridKey); ok {
		return x509.MarshalPKIXPublicKey(k.Point())
	}
	return spki, nil
}

// publish puts the public key of an EC key beside it, in a token whose private keys do not carry theirs.
func (s *session) publish(id block.KeyID, spki []byte) error {
	e, err := newEntry(spki, 0)
	if err != nil || e.point == nil {
		return err
	}
	template := append(named(id, wire.Imported), attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_EC),
		attr(p11.CKA_EC_POINT, octetString(e.point.Bytes())))
	for _, a := range public(e.key.Suite) {
		if a.Type == p11.CKA_TOKEN {
			a = attr(p11.CKA_TOKEN, true)
		}
		template = append(template, a)
	}
	if _, err := s.lib.CreateObject(s.handle, template); err != nil {
		return fmt.Errorf("create public key: %w", err)
	}
	return nil
}

func (s *session) discard(h p11.ObjectHandle) error {
	if err := s.lib.DestroyObject(s.handle, h); err != nil {
		return fmt.Errorf("destroy object: %w", err)
	}
	s.token.wear()
	return nil
}

// vanish destroys an object that could be wrapped, or used. What cannot be destroyed ends the process; what has no handle any more is gone,
// with its session.
func (s *session) vanish(h p11.ObjectHandle) error {
	err := s.discard(h)
	if isSession(err) {
		if err = s.renew(); err == nil {
			err = s.discard(h)
		}
	}
	if err != nil && !isHandle(err) {
		s.token.giveUp()
	}
	return err
}

// pairwise proves that the private key opens what is wrapped to the public one, by the way a release takes.
func (s *session) pairwise(e *entry) error {
	pub, err := block.ParsePublicKey(e.key.SPKI)
	if err != nil {
		return fmt.Errorf("pairwise test: %w", err)
	}
	return s.opens(e, pub)
}

// destroy forgets a key and erases it. What failed may be tried again, whatever of the key is left.
func (s *session) destroy(id block.KeyID) error {
	if err := s.loggedIn(); err != nil {
		return err // the token hides its keys: none found would be taken for none left
	}
	if s.token.index.get(id) == nil && !s.token.index.isLeaving(id) {
		if some, err := s.hasAny(id); err != nil || !some {
			if err == nil {
				err = wire.ErrNoKey
			}
			return err
		}
	}
	s.token.index.leave(id)
	return s.erase(id)
}

// hasAny reports whether the token has any object of a key.
func (s *session) hasAny(id block.KeyID) (bool, error) {
	for _, of := range objectsOf(id) {
		if found, err := s.find(of); err != nil || len(found) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// objectsOf names every object that a key may have, in the order in which they go: a sealed seed and the key over it
// before the private key, so that what is left of a hybrid key is never the half that needs no token.
func objectsOf(id block.KeyID) [][]*p11.Attribute {
	return [][]*p11.Attribute{
		seedData(id),
		{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_ID, id[:])},
		{attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_ID, id[:])},
		{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_ID, id[:])},
	}
}

// erase removes every object of a key, then makes sure that none is left.
func (s *session) erase(id block.KeyID) error {
	for _, of := range objectsOf(id) {
		found, err := s.find(of)
		if err != nil {
			return err
		}
		for _, h := range found {
			if err := s.discard(h); err != nil {
				return err
			}
		}
		if found, err = s.find(of); err != nil || len(found) != 0 {
			return errors.Join(err, fmt.Errorf("destroy key: %d objects are left", len(found)))
		}
	}
	return nil
}
