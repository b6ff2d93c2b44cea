package hsm

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// onSession runs f on a session of the pool.
func (c *Custodian) onSession(f func(*session)) {
	done := make(chan struct{})
	c.token.Load().pool.submit(call(func(s *session) {
		defer close(done)
		f(s)
	}), 1)
	<-done
}

// Bare runs f on a session with the library and the key's handle: for what a test does behind our back.
func (c *Custodian) Bare(id block.KeyID, f func(*p11.Ctx, p11.SessionHandle, p11.ObjectHandle)) {
	c.onSession(func(s *session) {
		var h p11.ObjectHandle
		if e := s.token.index.get(id); e != nil {
			h = e.at()
		}
		f(s.lib, s.handle, h)
	})
}

// AttackWeak makes a P-256 key as a new key would be, but for the attributes given, and attacks it.
func (c *Custodian) AttackWeak(custody wire.Custody, but ...*p11.Attribute) (err error) {
	c.weak(custody, append(but, attr(p11.CKA_MODIFIABLE, isAmong(but, p11.CKA_MODIFIABLE))), func(s *session, h p11.ObjectHandle, _ []byte) {
		e := &entry{key: wire.Key{Suite: wire.P256, Custody: custody}}
		e.handle.Store(uint64(h))
		err = s.attack(e)
	})
	return err
}

// AdmitWeak admits such a key.
func (c *Custodian) AdmitWeak(custody wire.Custody, but ...*p11.Attribute) (err error) {
	c.weak(custody, but, func(s *session, h p11.ObjectHandle, spki []byte) { _, err = s.admit(h, spki, custody) })
	return err
}

func isAmong(list []*p11.Attribute, t uint) bool {
	for _, a := range list {
		if a.Type == t {
			return true
		}
	}
	return false
}

func (c *Custodian) weak(custody wire.Custody, but []*p11.Attribute, f func(*session, p11.ObjectHandle, []byte)) {
	c.onSession(func(s *session) {
		template := append(private(wire.P256, custody), unsealed()...)
		for _, a := range template {
			for _, b := range but {
				if a.Type == b.Type {
					a.Value = b.Value
				}
			}
		}
		m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
		pub, priv, err := s.lib.GenerateKeyPair(s.handle, m, public(wire.P256), template)
		if err != nil {
			panic(err)
		}
		spki, err := s.spkiEC(pub)
		if err != nil {
			panic(err)
		}
		f(s, priv, spki)
		_ = s.lib.DestroyObject(s.handle, priv) // admit has done it
	})
}

// Uses is how many private-key operations the module was asked for.
func (c *Custodian) Uses() uint64 { return c.token.Load().uses.Load() }

// MisplaceSeedKey is Misplace for the key over a hybrid key's seed.
func (c *Custodian) MisplaceSeedKey(id block.KeyID) {
	c.token.Load().index.get(id).hybrid.key.handle.Store(1 << 40)
}

// SeedKey is the handle of the key over a hybrid key's seed.
func (c *Custodian) SeedKey(id block.KeyID) p11.ObjectHandle {
	return c.token.Load().index.get(id).hybrid.key.at()
}

// ExchangeSeeds gives each of two hybrid keys the sealed seed, and the key over it, of the other.
func (c *Custodian) ExchangeSeeds(a, b block.KeyID) {
	x, y := c.token.Load().index.get(a), c.token.Load().index.get(b)
	x.hybrid, y.hybrid = y.hybrid, x.hybrid
}

// Objects counts what the token has.
func (c *Custodian) Objects() (n int) {
	c.onSession(func(s *session) {
		found, err := s.find([]*p11.Attribute{attr(p11.CKA_TOKEN, true)})
		if err != nil {
			panic(err)
		}
		n = len(found)
	})
	return n
}

// Misplace makes the index point to where no object is.
func (c *Custodian) Misplace(id block.KeyID) {
	c.token.Load().index.get(id).handle.Store(1 << 40)
}

// Placed reports where the index says that the key lies.
func (c *Custodian) Placed(id block.KeyID) uint64 { return c.token.Load().index.get(id).handle.Load() }

// KEK is the handle of the key-encryption key.
func (c *Custodian) KEK() p11.ObjectHandle { return c.token.Load().kek }

// Stuck is pool.stuck.
func (c *Custodian) Stuck(limit time.Duration) bool {
	return c.token.Load().pool.stuck(limit, time.Now())
}

// GenerateFast makes n bound P-256 keys without the tests of new keys, which take most of the time.
func (c *Custodian) GenerateFast(n int) (err error) {
	c.onSession(func(s *session) {
		s.token.objects.Lock()
		defer s.token.objects.Unlock()
		for range n {
			if err = s.generateFast(); err != nil {
				return
			}
		}
	})
	return err
}

func (s *session) generateFast() error {
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, m, public(wire.P256), append(private(wire.P256, wire.Bound), unsealed()...))
	if err != nil {
		return err
	}
	spki, err := s.spkiEC(pub)
	if err != nil {
		return err
	}
	h, err := s.seal(priv, spki)
	if err != nil {
		return err
	}
	e, err := newEntry(spki, h)
	if err != nil {
		return err
	}
	e.key.Custody, e.key.Origin = wire.Bound, wire.Generated
	s.token.index.put(e)
	if err := s.discard(pub); err != nil {
		return err
	}
	return s.discard(priv)
}

// UnpadOAEP is unpadOAEP.
func UnpadOAEP(hash crypto.Hash, em []byte, size int, label []byte, sizes ...int) ([]byte, bool) {
	return unpadOAEP(hash, em, size, label, sizes...)
}

// PrivateObjects counts the private keys in the token and in sessions.
func (c *Custodian) PrivateObjects() (n int) {
	c.onSession(func(s *session) {
		found, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)})
		if err != nil {
			panic(err)
		}
		n = len(found)
	})
	return n
}

// SessionObjects counts what is in sessions and not in the token.
func (c *Custodian) SessionObjects() (n int) {
	c.onSession(func(s *session) {
		found, err := s.find([]*p11.Attribute{attr(p11.CKA_TOKEN, false)})
		if err != nil {
			panic(err)
		}
		n = len(found)
	})
	return n
}

// Passing opens a wrap into the module, as on the way to a recipient, and runs f on what came of it.
func (c *Custodian) Passing(w block.Wrap, f func(*p11.Ctx, p11.SessionHandle, p11.ObjectHandle)) (err error) {
	c.onSession(func(s *session) {
		var h p11.ObjectHandle
		if h, err = s.takeIn(s.token.index.get(w.KeyID()).at(), w.Suite().OAEPHash(), w.Body()); err == nil {
			f(s.lib, s.handle, h)
			err = s.discard(h)
		}
	})
	return err
}

// Carry carries a wrap of a key that is in the module for this call only to a recipient.
func (c *Custodian) Carry(k *rsa.PrivateKey, by block.Suite, body []byte, to wire.Recipient) (sealed []byte, err error) {
	c.onSession(func(s *session) {
		_, suite, values, failed := parts(k)
		if failed != nil {
			panic(failed)
		}
		h, failed := s.lib.CreateObject(s.handle, append(append(values, private(suite, wire.Bound)...), unsealed()...))
		if failed != nil {
			panic(failed)
		}
		sealed, err = s.carry(h, by, body, to)
		err = errors.Join(err, s.discard(h))
	})
	return sealed, err
}

// CarryLost is Carry on a session that the module does not know, from a key that it does not know.
func (c *Custodian) CarryLost(by block.Suite, body []byte, to wire.Recipient) (err error) {
	c.onSession(func(s *session) {
		lost := *s
		lost.handle = 1 << 40
		_, err = lost.carry(1<<40, by, body, to)
	})
	return err
}

// ErrLength is errLength. The others say which step of carry failed.
var (
	ErrLength = errLength
	ErrImport = errImport
	ErrTakeIn = errTakeIn
	ErrPassOn = errPassOn
)

// Verdict is what token.verdict makes of an error of carry.
func (c *Custodian) Verdict(hash crypto.Hash, err error) error {
	return c.token.Load().verdict(hash, err)
}

// Refusal is the code by which the module refused a ciphertext to the probe.
func (c *Custodian) Refusal(hash crypto.Hash) p11.Error { return c.token.Load().oaep[hash] }

// ImportOld makes an RSA key as they were before keys could go on inside: it may decrypt and not unwrap.
func (c *Custodian) ImportOld(k *rsa.PrivateKey) (key wire.Key, err error) {
	c.onSession(func(s *session) {
		spki, suite, values, failed := parts(k)
		if failed != nil {
			panic(failed)
		}
		template := append(append(values, private(suite, wire.Bound)...), unsealed()...)
		for _, a := range template {
			if a.Type == p11.CKA_UNWRAP {
				a.Value = []byte{0}
			}
		}
		h, failed := s.lib.CreateObject(s.handle, template)
		if failed != nil {
			panic(failed)
		}
		s.token.objects.Lock()
		defer s.token.objects.Unlock()
		key, err = s.admit(h, spki, wire.Bound)
	})
	return key, err
}

// SetPIN gives the token of another module its first PIN, whose security officer has none yet.
func SetPIN(c Config, pin string) error {
	lib, err := load(c)
	if err != nil {
		return err
	}
	defer lib.Destroy()
	k := &token{lib: lib}
	if k.slot, err = k.find(c.Label); err != nil {
		return err
	}
	h, err := k.openSession()
	if err != nil {
		return err
	}
	if err := lib.Login(h, p11.CKU_SO, ""); err != nil {
		return err
	}
	return errors.Join(lib.InitPIN(h, pin), lib.Finalize())
}

// Folder is where the token's files lie.
func (c *Custodian) Folder() string { return c.token.Load().folder.path }

// changedIn replaces attributes of a template.
func changedIn(template, but []*p11.Attribute) []*p11.Attribute {
	for _, a := range template {
		for _, b := range but {
			if a.Type == b.Type {
				a.Value = b.Value
			}
		}
	}
	return template
}

// AttackTransferOut makes a sender's transfer key as it would be, but for the attributes given, and attacks it.
func (c *Custodian) AttackTransferOut(t wire.Token, but ...*p11.Attribute) (err error) {
	c.token.Load().pool.alone(func(s *session) {
		var born, h p11.ObjectHandle
		template := changedIn(transferOut(wire.Peer{1}, make([]byte, aesKeySize)), but)
		if e := s.asOfficer(t, func() (e error) { born, e = s.create(template); return e }); e != nil {
			panic(e)
		}
		h = born
		if !isAmong(but, p11.CKA_MODIFIABLE) {
			var e error
			if h, e = s.lib.CopyObject(s.handle, born, sealed()); e != nil {
				panic(e)
			}
			defer s.discard(h)
		}
		err = s.attackTransferOut(h)
		_ = s.discard(born)
	})
	return err
}

// AttackTransferIn is the same for the receiver's side of a letter, with a parcel that was packed under it.
func (c *Custodian) AttackTransferIn(letter []byte, p wire.Parcel, but ...*p11.Attribute) (err error) {
	value, err := c.transport.open(letter)
	if err != nil {
		return err
	}
	c.onSession(func(s *session) {
		template, free := transferIn(value)
		defer free()
		h, e := s.create(changedIn(template, but))
		if e != nil {
			panic(e)
		}
		entry, e := newEntry(p.SPKI, 0)
		if e != nil {
			panic(e)
		}
		err = s.attackTransferIn(h, p, entry)
		_ = s.discard(h)
	})
	return err
}

// TransferKeys returns the handles of the transfer keys in the token and in sessions.
func (c *Custodian) TransferKeys() (all []p11.ObjectHandle) {
	c.onSession(func(s *session) {
		var err error
		if all, err = s.find([]*p11.Attribute{attr(p11.CKA_LABEL, transferLabel)}); err != nil {
			panic(err)
		}
	})
	return all
}
