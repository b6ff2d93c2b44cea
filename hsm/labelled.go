package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/mlkem"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// A key that is bound to a label is in no token. It is born as session objects that nothing but a trusted key wraps, wrapped there
// by the key-encryption key, and then encrypted under a secret that the TPM gives back while the box has the label. While it may
// be used, it is session objects that nothing wraps.
//
//	born --wrapped by the key-encryption key--> parcel --AES-256-GCM(secret)--> enclosed, kept by the agent
//	                                                                               |  ^
//	                                                       Load, with the secret   v  |  Unload, log-out, end of hsmd
//	                                                                          session objects, in the index
//
// See LABEL.md.
const labelContext = "kra/label-key/v1"

// Enclose makes a key that is bound to a label: see wire.Client.Enclose.
func (c *Custodian) Enclose(suite wire.Suite, l label.ID, secret []byte) (k wire.Key, e wire.Enclosed, err error) {
	lid, err := newLid(secret)
	if err != nil {
		return k, e, err
	}
	err = c.onToken(func(s *session) error { k, e, err = s.enclose(suite, l, lid); return err })
	if err != nil {
		return wire.Key{}, wire.Enclosed{}, err
	}
	return k, e, nil
}

// Load makes a key that is bound to a label usable: see wire.Client.Load.
func (c *Custodian) Load(e wire.Enclosed, secret []byte) (k wire.Key, err error) {
	lid, err := newLid(secret)
	if err != nil {
		return k, err
	}
	err = c.onToken(func(s *session) error { k, err = s.load(e, lid); return err })
	return k, err
}

// Unload ends the use of a key that was loaded. What is being opened with it is finished first.
func (c *Custodian) Unload(id block.KeyID) (err error) {
	c.change.Lock()
	defer c.change.Unlock()
	open := c.token.Load()
	if open == nil {
		return wire.ErrClosed
	}
	e := open.index.get(id)
	if e == nil || e.key.Custody != wire.Labelled {
		return wire.ErrNoKey
	}
	open.index.drop(id)
	if !open.pool.alone(func(s *session) {
		if err = s.revive(); err == nil {
			err = s.unload(e)
		}
	}) {
		return wire.ErrClosed
	}
	return err
}

// Loaded returns the keys that are loaded, ordered by id.
func (c *Custodian) Loaded() ([]wire.Key, error) {
	keys, err := c.List()
	return slices.DeleteFunc(keys, func(k wire.Key) bool { return k.Custody != wire.Labelled }), err
}

// A lid opens and closes what is enclosed under one secret.
type lid struct{ aead func() cipher.AEAD } // in a func, where fmt does not find its key

func newLid(secret []byte) (lid, error) {
	if len(secret) != wire.LabelSecret {
		return lid{}, fmt.Errorf("a label's secret of %d bytes, want %d", len(secret), wire.LabelSecret)
	}
	b, err := aes.NewCipher(secret)
	if err != nil {
		return lid{}, fmt.Errorf("make cipher for label: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return lid{}, fmt.Errorf("make cipher for label: %w", err)
	}
	return lid{func() cipher.AEAD { return aead }}, nil
}

// labelAAD ties an enclosed key to its name and its label.
func labelAAD(id block.KeyID, l label.ID) []byte {
	return slices.Concat([]byte(labelContext), []byte{0}, id[:], []byte(l))
}

func (l lid) close(p wire.Parcel, to label.ID) wire.Enclosed {
	plain := p.Bytes()
	defer clear(plain)
	return wire.Enclosed{Key: p.SPKI, Label: to, Sealed: l.aead().Seal(nil, nil, plain, labelAAD(block.KeyIDOfSPKI(p.SPKI), to))}
}

func (l lid) open(e wire.Enclosed) (wire.Parcel, error) {
	id := block.KeyIDOfSPKI(e.Key)
	plain, err := l.aead().Open(nil, nil, e.Sealed, labelAAD(id, e.Label))
	if err != nil {
		return wire.Parcel{}, wire.Refused{Reason: fmt.Sprintf("key %s is not as it was bound to label %s", id, e.Label)}
	}
	defer clear(plain)
	p, err := wire.ParseParcel(plain)
	if err != nil || !bytes.Equal(p.SPKI, e.Key) {
		return wire.Parcel{}, wire.Refused{Reason: fmt.Sprintf("key %s is not whole", id)}
	}
	return p, nil
}

// enclose makes a key, and does not let it out before it was seen to come back. None of its objects stays.
func (s *session) enclose(suite wire.Suite, l label.ID, by lid) (wire.Key, wire.Enclosed, error) {
	switch {
	case suite.Wraps() == 0 || suite == wire.RSA2048:
		return wire.Key{}, wire.Enclosed{}, wire.Refused{Reason: "a key that is bound to a label is p256, p384, rsa-3072, rsa-4096 or mlkem768-p256"}
	case s.token.kek == 0:
		return wire.Key{}, wire.Enclosed{}, wire.Refused{Reason: "this module keeps no keys bound to a label: it has no trusted wrapping"}
	case suite == wire.Hybrid && s.token.noSeed != nil:
		return wire.Key{}, wire.Enclosed{}, wire.Refused{Reason: "this module keeps no hybrid keys: " + s.token.noSeed.Error()}
	}
	p, err := s.wrapNew(suite, s.token.kek)
	if err != nil {
		return wire.Key{}, wire.Enclosed{}, err
	}
	out := by.close(p, l)
	e, err := s.unlock(p)
	if err != nil {
		return wire.Key{}, wire.Enclosed{}, fmt.Errorf("test new key: %w", err)
	}
	return e.key, out, s.unload(e)
}

// wrapNew makes a key pair and wraps it with a trusted key. The pair goes however it ends.
func (s *session) wrapNew(suite wire.Suite, by p11.ObjectHandle) (p wire.Parcel, err error) {
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, keyGen(suite), public(suite), append(private(suite, wire.Replicable), unsealed()...))
	if err != nil {
		return p, fmt.Errorf("generate key pair: %w", err)
	}
	defer func() { err = errors.Join(err, s.vanish(pub), s.vanish(priv)) }()
	if suite == wire.Hybrid {
		err = s.wrapNewSeed(&p, pub, by)
	} else {
		p.SPKI, err = s.spki(suite, pub)
	}
	if err != nil {
		return p, err
	}
	if p.Wrapped, err = s.lib.WrapKey(s.handle, keyWrap, by, priv); err != nil {
		return p, fmt.Errorf("wrap key: %w", err)
	}
	return p, nil
}

// wrapNewSeed draws the other half of a hybrid key: its seed, sealed under an AES key that is wrapped too.
func (s *session) wrapNewSeed(p *wire.Parcel, pub, by p11.ObjectHandle) (err error) {
	point, err := s.pointEC(pub)
	if err != nil {
		return err
	}
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		return fmt.Errorf("generate ML-KEM key: %w", err)
	}
	hybrid, err := block.NewHybridKey(append(pq.EncapsulationKey().Bytes(), point...))
	if err != nil {
		return err
	}
	if p.SPKI, err = block.MarshalPublicKey(hybrid); err != nil {
		return err
	}
	h, err := s.lib.GenerateKey(s.handle, aesKeyGen, append(seedKeyMay(wire.Replicable), attr(p11.CKA_TOKEN, false)))
	if err != nil {
		return fmt.Errorf("generate key over seed: %w", err)
	}
	defer func() { err = errors.Join(err, s.vanish(h)) }()
	seed := pq.Bytes()
	defer clear(seed)
	if p.Seed, err = s.sealSeed(h, block.KeyIDOfSPKI(p.SPKI), seed); err != nil {
		return fmt.Errorf("seal seed: %w", err)
	}
	if p.SeedKey, err = s.lib.WrapKey(s.handle, keyWrap, by, h); err != nil {
		return fmt.Errorf("wrap key over seed: %w", err)
	}
	return nil
}

// load makes an enclosed key usable.
func (s *session) load(from wire.Enclosed, by lid) (wire.Key, error) {
	p, err := by.open(from)
	if err != nil {
		return wire.Key{}, err
	}
	switch e := s.token.index.get(block.KeyIDOfSPKI(p.SPKI)); {
	case e != nil && e.key.Custody == wire.Labelled:
		return e.key, nil
	case s.token.kek == 0:
		return wire.Key{}, wire.Refused{Reason: "this module has no trusted wrapping"}
	case s.token.index.loaded() >= wire.MaxLoaded:
		return wire.Key{}, wire.Refused{Reason: fmt.Sprintf("%d keys bound to labels are loaded, which is the limit", wire.MaxLoaded)}
	}
	e, err := s.unlock(p)
	if err != nil {
		return wire.Key{}, fmt.Errorf("load key: %w", err)
	}
	s.token.index.put(e)
	return e.key, nil
}

// unlock unwraps a parcel into session objects, which are attacked, and tested to open what is wrapped to the public half, like
// those of any new key. They belong to the session that lives as long as the log-in does.
func (s *session) unlock(p wire.Parcel) (*entry, error) {
	e, err := s.expect(p)
	if err != nil {
		return nil, err
	}
	e.key.Custody, e.key.Origin, e.key.Mode = wire.Labelled, wire.Generated, wire.Vault
	as := append(named(e.key.ID, wire.Generated), private(e.key.Suite, wire.Labelled)...)
	h, err := s.unwrapToAnchor(p.Wrapped, slices.Concat(isPrivate(keyType(e.key.Suite)), as))
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	e.handle.Store(uint64(h))
	e.unwraps = e.modulus != nil
	if e.key.Suite == wire.Hybrid {
		err = s.unlockSeed(e, p)
	}
	if err == nil {
		err = s.attack(e)
	}
	if err == nil {
		err = s.pairwise(e)
	}
	if err != nil {
		return nil, errors.Join(err, s.unload(e))
	}
	return e, nil
}

// unlockSeed unwraps the key over a hybrid key's seed.
func (s *session) unlockSeed(e *entry, p wire.Parcel) error {
	h, err := s.unwrapToAnchor(p.SeedKey, seedKeyUnwrapped(e.key.ID, wire.Labelled))
	if err != nil {
		return fmt.Errorf("unwrap key over seed: %w", err)
	}
	over := &entry{key: e.key, over: true}
	over.handle.Store(uint64(h))
	e.hybrid = &hybrid{key: over, sealed: p.Seed}
	return nil
}

// unwrapToAnchor unwraps an object of the anchor session, which a session of the pool must not outlive. Nobody else uses it: the
// caller holds Custodian.change.
func (s *session) unwrapToAnchor(wrapped []byte, as []*p11.Attribute) (p11.ObjectHandle, error) {
	as = append(as, attr(p11.CKA_TOKEN, false), attr(p11.CKA_MODIFIABLE, false)) // last: SoftHSM sets them in this order
	return s.lib.UnwrapKey(s.token.anchor, keyWrap, s.token.kek, wrapped, as)
}

// unload destroys the objects of a loaded key.
func (s *session) unload(e *entry) (err error) {
	if e.hybrid != nil {
		err = s.vanish(e.hybrid.key.at())
	}
	return errors.Join(err, s.vanish(e.at()))
}
