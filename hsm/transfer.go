package hsm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// A transfer key wraps replicable keys for one other token. What is trusted to wrap them must be born so, and by the
// security officer: no module makes it so by unwrapping. What is to unwrap them on the other side must have an unwrap
// template, which a key that was unwrapped has only if who unwraps it wants. So both sides create it, from a value that is
// outside of the tokens for that moment and travels sealed to the other box, not to its PIN:
//
//	sender     trusted, may wrap; never unwraps, decrypts, or leaves
//	receiver   may unwrap, for the time of one receipt; what it unwraps is sensitive and leaves under trusted keys only
const transferLabel = "kra-transfer-key"

// transferOut is the sender's side, as the officer makes it. What is private only the user can make: it is copied.
func transferOut(to receiver, value []byte) []*p11.Attribute {
	return slices.Concat(aesValue(value), secretMay(), to.named(), []*p11.Attribute{
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, false), attr(p11.CKA_MODIFIABLE, true),
		attr(p11.CKA_TRUSTED, true), attr(p11.CKA_WRAP, true), attr(p11.CKA_UNWRAP, false),
	})
}

// transferIn is the receiver's side.
func transferIn(value []byte) (template []*p11.Attribute, free func()) {
	return opener(value, transferLabel, attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_WRAP_WITH_TRUSTED, true))
}

// opener is an AES key of that value which unwraps, only what has these attributes, and does nothing else.
func opener(value []byte, label string, must ...*p11.Attribute) (template []*p11.Attribute, free func()) {
	nested, free := nest(must)
	return slices.Concat(aesValue(value), secretMay(), []*p11.Attribute{
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_MODIFIABLE, false),
		attr(p11.CKA_LABEL, label), attr(p11.CKA_WRAP, false), attr(p11.CKA_UNWRAP, true),
		{Type: p11.CKA_UNWRAP_TEMPLATE, Value: nested},
	}), free
}

// aesValue is an AES key of that value. The value is a copy, to be cleared.
func aesValue(value []byte) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_VALUE, value)}
}

// secretMay is secret for a key that is created: its length is that of its value.
func secretMay() []*p11.Attribute {
	return slices.DeleteFunc(secret(), func(a *p11.Attribute) bool { return a.Type == p11.CKA_VALUE_LEN })
}

func transferOf(p wire.Peer) []*p11.Attribute {
	return inToken([]*p11.Attribute{attr(p11.CKA_LABEL, transferLabel), attr(p11.CKA_ID, p[:])})
}

// inToken are the attributes of a secret key that stays, and these.
func inToken(as []*p11.Attribute) []*p11.Attribute {
	return append([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_TOKEN, true)}, as...)
}

// create makes an object of a template with a value, and clears the value that the template holds.
func (s *session) create(template []*p11.Attribute) (p11.ObjectHandle, error) {
	h, err := s.lib.CreateObject(s.handle, template)
	for _, a := range template {
		if a.Type == p11.CKA_VALUE {
			clear(a.Value)
		}
	}
	return h, err
}

// newTransfer makes a transfer key for a receiver, in place of the one that it has, and returns it sealed. The officer is logged in
// while asOfficer runs.
func (s *session) newTransfer(to receiver, asOfficer func(func() error) error) ([]byte, error) {
	value := make([]byte, aesKeySize)
	rand.Read(value)
	defer clear(value)
	letter, err := wire.SealLetter(to.transport, value)
	if err != nil {
		return nil, err
	}
	var born p11.ObjectHandle
	if err := asOfficer(func() (err error) {
		born, err = s.create(transferOut(to, bytes.Clone(value)))
		return err
	}); err != nil {
		return nil, fmt.Errorf("create transfer key: %w", err)
	}
	if err := s.dismissAll(inToken(to.named())); err != nil && !errors.Is(err, wire.ErrNoKey) {
		return nil, errors.Join(err, s.discard(born))
	}
	h, err := s.lib.CopyObject(s.handle, born, sealed())
	if err = errors.Join(err, s.discard(born)); err != nil {
		return nil, fmt.Errorf("copy transfer key into token: %w", err)
	}
	if err := s.attackTransferOut(h); err != nil {
		return nil, errors.Join(fmt.Errorf("attack transfer key: %w", err), s.discard(h))
	}
	return letter, nil
}

// dismiss destroys every transfer key of a box. That of a backup key goes when a newer one comes, and not before: it is what the token
// remembers of it.
func (s *session) dismiss(p wire.Peer) error { return s.dismissAll(transferOf(p)) }

func (s *session) dismissAll(with []*p11.Attribute) error {
	if err := s.loggedIn(); err != nil {
		return err // the token hides its keys
	}
	found, err := s.find(with)
	if err == nil && len(found) == 0 {
		err = wire.ErrNoKey
	}
	for _, h := range found {
		err = errors.Join(err, s.discard(h))
	}
	return err
}

// attackTransferOut tries to get at the sender's transfer key, to turn it to another purpose, and to have it take out
// what is bound; and sees that it takes out what is replicable.
func (s *session) attackTransferOut(h p11.ObjectHandle) error {
	if err := s.attackSecret(h, attr(p11.CKA_UNWRAP, true)); err != nil {
		return err
	}
	wrapped, err := s.wrapSample(h, wire.Replicable)
	if err != nil {
		return fmt.Errorf("wrap a replicable key: %w", err)
	}
	if _, err := s.wrapSample(h, wire.Bound); err == nil {
		return errors.New("it wraps a bound key")
	}
	if h, err := s.unwrapWith(h, p11.CKK_EC, wrapped, private(wire.P256, wire.Replicable)); err == nil {
		return errors.Join(errors.New("it unwraps"), s.discard(h))
	}
	return nil
}

// wrapSample wraps a key that is made for this and goes again.
func (s *session) wrapSample(h p11.ObjectHandle, c wire.Custody) ([]byte, error) {
	e, err := s.newEC(wire.P256, c)
	if err != nil {
		return nil, err
	}
	wrapped, err := s.lib.WrapKey(s.handle, keyWrap, h, e.at())
	return wrapped, errors.Join(err, s.discard(e.at()))
}

// attackTransferIn is the same for the receiver's side, with a key that it is about to unwrap.
func (s *session) attackTransferIn(h p11.ObjectHandle, p wire.Parcel, e *entry) error {
	if err := s.attackSecret(h, attr(p11.CKA_WRAP, true)); err != nil {
		return err
	}
	return s.attackOpener(h, p.Wrapped, e.key.Suite, wire.Replicable, attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false))
}

// attackOpener tries to unwrap a key with each of these attributes, which it must not have.
func (s *session) attackOpener(h p11.ObjectHandle, wrapped []byte, suite wire.Suite, c wire.Custody, weaker ...*p11.Attribute) error {
	for _, weak := range weaker {
		as := private(suite, c)
		for _, a := range as {
			if a.Type == weak.Type {
				a.Value = weak.Value
			}
		}
		if got, err := s.unwrapWith(h, keyType(suite), wrapped, as); err == nil {
			return errors.Join(fmt.Errorf("a key can be unwrapped with another attribute %#x", weak.Type), s.vanish(got))
		}
	}
	return nil
}

// attackSecret tries to read a wrapping key, to change it, also in a copy, to encrypt and decrypt with it, and to carry it
// out under a key of one's own and under the one that is trusted.
func (s *session) attackSecret(h p11.ObjectHandle, turned *p11.Attribute) error {
	if v, err := s.read(h, p11.CKA_VALUE); err == nil && len(v[0]) > 0 {
		clear(v[0])
		return errors.New("its value can be read")
	}
	for _, a := range []*p11.Attribute{turned, attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true),
		attr(p11.CKA_ENCRYPT, true), attr(p11.CKA_DECRYPT, true), attr(p11.CKA_MODIFIABLE, true)} {
		if s.lib.SetAttributeValue(s.handle, h, []*p11.Attribute{a}) == nil {
			return fmt.Errorf("attribute %#x can be changed", a.Type)
		}
		if c, err := s.lib.CopyObject(s.handle, h, []*p11.Attribute{attr(p11.CKA_TOKEN, false), a}); err == nil {
			return errors.Join(fmt.Errorf("a copy can have another attribute %#x", a.Type), s.discard(c))
		}
	}
	return errors.Join(s.attackECB(h), s.attackSecretWrap(h))
}

func (s *session) attackECB(h p11.ObjectHandle) error {
	ecb := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_ECB, nil)}
	if s.lib.DecryptInit(s.handle, ecb, h) == nil {
		return errors.Join(errors.New("it decrypts"), s.renew())
	}
	if s.lib.EncryptInit(s.handle, ecb, h) == nil {
		return errors.Join(errors.New("it encrypts"), s.renew())
	}
	return nil
}

func (s *session) attackSecretWrap(h p11.ObjectHandle) error {
	own, err := s.ownWrappingKey()
	if err != nil {
		return err
	}
	_, err = s.lib.WrapKey(s.handle, keyWrap, own, h)
	if gone := s.discard(own); err == nil || gone != nil {
		return errors.Join(gone, errors.New("it can be wrapped"))
	}
	if s.token.kek == 0 {
		return nil
	}
	if _, err := s.lib.WrapKey(s.handle, keyWrap, s.token.kek, h); err == nil {
		return errors.New("it can be wrapped by the key-encryption key")
	}
	return nil
}
