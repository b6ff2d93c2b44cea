package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// Attributes are promises; what a module does is seen by trying to break them. A new key that lets itself be read,
// changed, copied weaker, wrapped by a key that is not trusted, or used for another purpose is destroyed.

var (
	secretEC  = []uint{p11.CKA_VALUE}
	secretRSA = []uint{p11.CKA_PRIVATE_EXPONENT, p11.CKA_PRIME_1, p11.CKA_PRIME_2, p11.CKA_EXPONENT_1, p11.CKA_EXPONENT_2, p11.CKA_COEFFICIENT}
)

// secretsOf lists what must never be read.
func secretsOf(s wire.Suite) []uint {
	if isEC(s) {
		return secretEC
	}
	return secretRSA
}

// attack returns the first promise that could be broken. The key over a seed promises what the key promises.
func (s *session) attack(e *entry) error {
	if e.hybrid != nil {
		if err := s.attack(e.hybrid.key); err != nil {
			return fmt.Errorf("key over seed: %w", err)
		}
	}
	for _, try := range []func(*entry) error{s.attackValue, s.attackChange, s.attackCopy, s.attackUse, s.attackWrap} {
		if err := try(e); err != nil {
			return fmt.Errorf("attack key: %w", err)
		}
	}
	return nil
}

func (s *session) attackValue(e *entry) error {
	for _, t := range secretsOf(e.key.Suite) {
		v, err := s.read(e.at(), t)
		if err == nil && len(v[0]) > 0 {
			clear(v[0])
			return fmt.Errorf("secret attribute %#x can be read", t)
		}
	}
	return nil
}

// bared lists changes after which a key would be less secret, in itself or in a copy.
func bared(c wire.Custody) []*p11.Attribute {
	if c != wire.Replicable {
		return []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true)}
	}
	return []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)}
}

// turned lists changes after which a key would serve others, or another purpose.
func turned() []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_PRIVATE, false), attr(p11.CKA_SIGN, true), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_MODIFIABLE, true)}
}

func (s *session) attackChange(e *entry) error {
	for _, a := range append(bared(e.key.Custody), turned()...) {
		if s.lib.SetAttributeValue(s.handle, e.at(), []*p11.Attribute{a}) == nil {
			return fmt.Errorf("attribute %#x can be changed", a.Type)
		}
	}
	return nil
}

func (s *session) attackCopy(e *entry) error {
	for _, a := range bared(e.key.Custody) {
		h, err := s.lib.CopyObject(s.handle, e.at(), []*p11.Attribute{attr(p11.CKA_TOKEN, false), a})
		if err == nil {
			return errors.Join(fmt.Errorf("a copy can be without attribute %#x", a.Type), s.discard(h))
		}
	}
	return nil
}

// attackUse tries purposes that are not ours. A session in which one was begun is replaced.
func (s *session) attackUse(e *entry) error {
	sign := p11.NewMechanism(p11.CKM_ECDSA, nil)
	other := func() error { return s.lib.DecryptInit(s.handle, rawRSAMechanism, e.at()) }
	if !isEC(e.key.Suite) {
		sign = p11.NewMechanism(p11.CKM_RSA_PKCS, nil)
		other = func() error { return s.lib.SignRecoverInit(s.handle, rawRSAMechanism, e.at()) }
	}
	if s.lib.SignInit(s.handle, []*p11.Mechanism{sign}, e.at()) == nil {
		return errors.Join(errors.New("key can sign"), s.renew())
	}
	if other() == nil {
		return errors.Join(errors.New("key can be used for more than opening"), s.renew())
	}
	return nil
}

// attackWrap tries to carry the key out under a key that anybody with the PIN can make, and a bound one under the
// trusted key too.
func (s *session) attackWrap(e *entry) error {
	own, err := s.ownWrappingKey()
	if err != nil {
		return err
	}
	_, err = s.lib.WrapKey(s.handle, keyWrap, own, e.at())
	if gone := s.discard(own); err == nil || gone != nil {
		return errors.Join(gone, errors.New("key can be wrapped by a key that is not trusted"))
	}
	for _, trusted := range []p11.ObjectHandle{s.token.kek, s.token.vault} {
		if trusted == 0 || e.key.Custody == wire.Replicable {
			continue
		}
		if _, err = s.lib.WrapKey(s.handle, keyWrap, trusted, e.at()); err == nil {
			return errors.New("bound key can be wrapped")
		}
	}
	return nil
}

// ownWrappingKey makes the key that anybody with the PIN can make.
func (s *session) ownWrappingKey() (p11.ObjectHandle, error) {
	own, err := s.lib.GenerateKey(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)},
		secret(attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_WRAP, true), attr(p11.CKA_UNWRAP, true)))
	if err != nil {
		return 0, fmt.Errorf("make a wrapping key: %w", err)
	}
	return own, nil
}

var keyWrap = []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP_PAD, nil)}

// opens wraps a random file key to pub and opens it with e.
func (s *session) opens(e *entry, pub crypto.PublicKey) error {
	want := make([]byte, block.FileKeySize)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	w, err := block.WrapFileKey(pub, want)
	if err != nil {
		return fmt.Errorf("pairwise test: %w", err)
	}
	got, err := s.openWith(e, w)
	if err != nil {
		return fmt.Errorf("pairwise test: %w", err)
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errors.New("pairwise test: another key came out")
	}
	return nil
}
