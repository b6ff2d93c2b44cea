package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// An inner is the inner part of a wrapped key: PKCS#8 under AES-KWP, and the token key that unwraps it. What key it is, is seen when it
// is in the token.
type inner struct {
	wrapped []byte
	by      p11.ObjectHandle
	custody wire.Custody
	mode    wire.Mode
}

// as is the custody with which the key comes in: one that the vault keeps is wrapped again, and no longer there.
func (in inner) as() wire.Custody {
	if in.mode == wire.Vault {
		return wire.Replicable
	}
	return in.custody
}

// must is what the token demands of all that is unwrapped.
func (in inner) must() []*p11.Attribute {
	must := []*p11.Attribute{attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_WRAP_WITH_TRUSTED, true)}
	if in.as() == wire.Bound {
		must = append(must, attr(p11.CKA_EXTRACTABLE, false))
	}
	return must
}

// takeWrapped unwraps the key twice: once to learn what it is, and then as what it is to be.
func (s *session) takeWrapped(in inner) (wire.Key, error) {
	spki, err := s.glimpse(in)
	if err != nil {
		return wire.Key{}, err
	}
	e, err := newEntry(spki, 0)
	if err != nil {
		return wire.Key{}, wire.Refused{Reason: errKind.Error()}
	}
	if s.token.index.get(e.key.ID) != nil || s.token.index.isLeaving(e.key.ID) {
		return wire.Key{}, wire.Refused{Reason: "key is in the token already"}
	}
	if err := s.attackInner(in, e.key.Suite); err != nil {
		return wire.Key{}, fmt.Errorf("attack key of the inner part: %w", err)
	}
	h, err := s.unwrapWith(in.by, keyType(e.key.Suite), in.wrapped, private(e.key.Suite, in.as()))
	if err != nil {
		return wire.Key{}, fmt.Errorf("unwrap: %w", err)
	}
	if in.mode == wire.Vault {
		return s.keepObject(h, wire.Parcel{SPKI: spki}, e.key.Suite, in.custody, wire.Wrapped)
	}
	return s.admit(h, spki, in.custody, wire.Wrapped)
}

func (s *session) attackInner(in inner, suite wire.Suite) error {
	if err := s.attackSecret(in.by, attr(p11.CKA_WRAP, true)); err != nil {
		return err
	}
	weaker := []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)}
	if in.as() == wire.Bound {
		weaker = append(weaker, attr(p11.CKA_EXTRACTABLE, true))
	}
	return s.attackOpener(in.by, in.wrapped, suite, in.as(), weaker...)
}

// glimpse returns the public half of a key that can be unwrapped. The object that shows it is gone again.
func (s *session) glimpse(in inner) (spki []byte, err error) {
	for _, suite := range []wire.Suite{wire.P256, wire.RSA2048} { // any of their kind
		may := private(suite, in.as())
		for _, a := range may {
			if a.Type == p11.CKA_SIGN {
				a.Value = attr(p11.CKA_SIGN, isEC(suite)).Value // by which a curve's key shows its public half
			}
		}
		h, err := s.unwrapWith(in.by, keyType(suite), in.wrapped, may)
		if isFatal(err) || isSession(err) {
			return nil, fmt.Errorf("unwrap: %w", err)
		}
		if err != nil {
			continue
		}
		if isEC(suite) {
			spki, err = s.shownEC(h)
		} else if spki, err = s.publicRSA(h); errors.Is(err, errForeign) {
			err = wire.Refused{Reason: errKind.Error()}
		}
		return spki, errors.Join(err, s.vanish(h))
	}
	return nil, s.whyNoKey(in)
}

// whyNoKey tells what does not open from what is no key: that opens as a secret of no use, and is gone again.
func (s *session) whyNoKey(in inner) error {
	as := append(slices.DeleteFunc(passing(), func(a *p11.Attribute) bool { return a.Type == p11.CKA_EXTRACTABLE || a.Type == p11.CKA_MODIFIABLE }),
		attr(p11.CKA_EXTRACTABLE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, true), attr(p11.CKA_MODIFIABLE, false))
	h, err := s.lib.UnwrapKey(s.handle, keyWrap, in.by, in.wrapped, as)
	if isFatal(err) || isSession(err) {
		return fmt.Errorf("unwrap: %w", err)
	}
	if err != nil {
		return errNotOurs
	}
	return errors.Join(wire.Refused{Reason: "what was wrapped is not the PKCS#8, in DER, of a P-256, P-384 or RSA key"}, s.vanish(h))
}

// shownEC finds the public half of a private key in the token that comes without it: ECDH with the curve's generator gives its x, and of the
// two points with that x, the key's is the one under which what it signs verifies.
func (s *session) shownEC(h p11.ObjectHandle) ([]byte, error) {
	v, err := s.read(h, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, fmt.Errorf("read curve: %w", err)
	}
	for _, c := range []struct {
		*curve
		elliptic.Curve
	}{{onP256, elliptic.P256()}, {onP384, elliptic.P384()}} {
		if !bytes.Equal(v[0], c.oid) {
			continue
		}
		pub, err := s.shownOn(h, c.curve, c.Curve)
		if err != nil {
			return nil, fmt.Errorf("find public half: %w", err)
		}
		return x509.MarshalPKIXPublicKey(pub)
	}
	return nil, wire.Refused{Reason: errKind.Error()}
}

func (s *session) shownOn(h p11.ObjectHandle, c *curve, on elliptic.Curve) (*ecdsa.PublicKey, error) {
	g, err := generator(c.ecdh, c.size)
	if err != nil {
		return nil, err
	}
	x, err := s.derive(h, c, g)
	if err != nil {
		return nil, err
	}
	digest := make([]byte, p256Size)
	rand.Read(digest)
	if err := s.lib.SignInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, h); err != nil {
		return nil, err
	}
	sig, err := s.lib.Sign(s.handle, digest)
	if err != nil || len(sig) != 2*c.size {
		return nil, errors.Join(err, errWrong)
	}
	for _, sign := range []byte{2, 3} {
		_, y := elliptic.UnmarshalCompressed(on, append([]byte{sign}, x...))
		if y == nil {
			return nil, errWrong
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(on, slices.Concat([]byte{4}, x, y.FillBytes(make([]byte, c.size))))
		if err != nil {
			return nil, errWrong
		}
		if ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:c.size]), new(big.Int).SetBytes(sig[c.size:])) {
			return pub, nil
		}
	}
	return nil, errWrong
}

// generator is the point of which one times is itself.
func generator(on ecdh.Curve, size int) ([]byte, error) {
	one, err := on.NewPrivateKey(append(make([]byte, size-1), 1))
	if err != nil {
		return nil, err
	}
	return one.PublicKey().Bytes(), nil
}
