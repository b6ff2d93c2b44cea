package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// onSession runs f on a session of the pool, which LoseSessions may have left to be replaced.
func (c *Custodian) onSession(f func(*session)) {
	done := make(chan struct{})
	c.token.Load().pool.submit(call(func(s *session) {
		defer close(done)
		if err := s.revive(); err != nil {
			panic(err)
		}
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
	c.weak(custody, but, func(s *session, h p11.ObjectHandle, spki []byte) { _, err = s.admit(h, spki, custody, wire.Generated) })
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
	h, err := s.seal(priv, spki, wire.Generated)
	if err != nil {
		return err
	}
	e, err := newEntry(spki, h)
	if err != nil {
		return err
	}
	e.key.Custody, e.key.Origin, e.key.Mode = wire.Bound, wire.Generated, wire.Resident
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
		key, err = s.admit(h, spki, wire.Bound, wire.Generated)
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
		template := changedIn(transferOut(receiver{transport: []byte{1}}, make([]byte, aesKeySize)), but)
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

// BackupTransferKeys returns the handles of the transfer keys of backup keys.
func (c *Custodian) BackupTransferKeys() (all []p11.ObjectHandle) {
	c.onSession(func(s *session) {
		of, err := c.backupTransfers(s)
		if err != nil {
			panic(err)
		}
		for _, t := range of {
			all = append(all, t.handle)
		}
	})
	return all
}

// Enclosed encloses any parcel.
func (c *Custodian) Enclosed(p wire.Parcel, l label.ID, secret []byte) wire.Enclosed {
	by, err := newLid(secret)
	if err != nil {
		panic(err)
	}
	return by.close(p, l)
}

// Disclosed returns what is enclosed.
func (c *Custodian) Disclosed(e wire.Enclosed, secret []byte) wire.Parcel {
	by, err := newLid(secret)
	if err != nil {
		panic(err)
	}
	p, err := by.open(e)
	if err != nil {
		panic(err)
	}
	return p
}

// BareLoaded is Bare for a key in vault mode that is loaded.
func (c *Custodian) BareLoaded(id block.KeyID, f func(*p11.Ctx, p11.SessionHandle, p11.ObjectHandle)) {
	c.onSession(func(s *session) {
		l := s.token.cache.take(id)
		defer func() { s.drop(s.token.cache.letGo(l)) }()
		f(s.lib, s.handle, l.at())
	})
}

// VaultKey is the handle of the vault key.
func (c *Custodian) VaultKey() p11.ObjectHandle { return c.token.Load().vault }

// UnwrapVault unwraps what is kept of a key as it is for use, but for one attribute.
func (c *Custodian) UnwrapVault(id block.KeyID, but *p11.Attribute) (err error) {
	c.onSession(func(s *session) {
		e := s.token.index.get(id)
		as := append(isPrivate(keyType(e.key.Suite)), private(e.key.Suite, wire.Bound)...)
		for _, a := range as {
			if a.Type == but.Type {
				a.Value = but.Value
			}
		}
		var h p11.ObjectHandle
		h, err = s.lib.UnwrapKey(s.handle, keyWrap, s.token.vaultKey(e.key.Custody), e.kept.parcel.Wrapped, append(as, attr(p11.CKA_TOKEN, false)))
		if err == nil {
			err = s.discard(h)
		}
	})
	return err
}

// Vaulted is what the file of a key in vault mode has, not sealed.
func (c *Custodian) Vaulted(id block.KeyID) []byte {
	e := c.token.Load().index.get(id)
	return e.kept.bytes(e.key.Suite)
}

// VaultedAs is the same with another public half.
func (c *Custodian) VaultedAs(id block.KeyID, spki []byte) []byte {
	e := c.token.Load().index.get(id)
	k := *e.kept
	k.parcel.SPKI = spki
	return k.bytes(e.key.Suite)
}

// SealVault seals a file as this box does.
func (c *Custodian) SealVault(name string, data []byte) []byte {
	return c.sealer.seal(wire.Files{name: data})[name]
}

// DestroyTrusted destroys a wrapping key and returns the files that changed.
func (c *Custodian) DestroyTrusted(named string) wire.Files {
	changed, err := c.mutate(func(s *session) error {
		found, err := s.find([]*p11.Attribute{attr(p11.CKA_LABEL, named)})
		for _, h := range found {
			err = errors.Join(err, s.discard(h))
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return changed
}

// Loads is how many keys in vault mode, and keys over their seeds, the module was asked to unwrap.
func (c *Custodian) Loads() uint64 { return c.token.Load().loads.Load() }

// LoadedNow is how many keys in vault mode are loaded.
func (c *Custodian) LoadedNow() int { return c.token.Load().cache.size() }

// LoadedObjects is how many objects they are.
func (c *Custodian) LoadedObjects() (n int) {
	for i := range c.token.Load().cache.shards {
		for _, at := range c.token.Load().cache.shards[i].keys {
			if n++; at.Value.(*loaded).hybrid != nil {
				n++
			}
		}
	}
	return n
}

// MisplaceLoadedSeedKey is MisplaceSeedKey for a key in vault mode that is loaded.
func (c *Custodian) MisplaceLoadedSeedKey(id block.KeyID) {
	l := c.token.Load().cache.take(id)
	l.hybrid.key.handle.Store(1 << 40)
	c.token.Load().cache.letGo(l)
}

// VaultBytes is what the files of keys in vault mode are counted as.
func (c *Custodian) VaultBytes() int { return c.token.Load().index.vaultBytes() }

// FillVault has it count so many more.
func (c *Custodian) FillVault(n int) {
	x := c.token.Load().index
	x.mu.Lock()
	defer x.mu.Unlock()
	x.vault += n
}

// LoseSessions closes the sessions of the pool behind its back, with what is in them.
func (c *Custodian) LoseSessions() {
	k := c.token.Load()
	n := len(k.pool.busy)
	var mu sync.Mutex
	var in, out sync.WaitGroup
	in.Add(n)
	for range n {
		out.Go(func() {
			c.onSession(func(s *session) {
				in.Done()
				in.Wait() // so that each session has one of these
				mu.Lock()
				defer mu.Unlock()
				if err := s.lib.CloseSession(s.handle); err != nil && !isSession(err) {
					panic(err)
				}
			})
		})
	}
	out.Wait()
}

// KeepFast makes n bound P-256 keys in vault mode without the tests of new keys.
func (c *Custodian) KeepFast(n int) (err error) {
	c.change.Lock()
	defer c.change.Unlock()
	_, err = c.during(func(s *session) error {
		for range n {
			p, err := s.wrapNew(wire.P256, s.token.vault)
			if err != nil {
				return err
			}
			k := &kept{wire.Bound, wire.Generated, p}
			e := k.entry(wire.P256)
			s.token.index.put(e)
			s.token.vaultChanges[vaultName(e.key.ID)] = k.bytes(wire.P256)
		}
		return nil
	})
	return err
}

// LoadAlone loads and unloads a key in vault mode as a change of keys does, while what wraps it is not where it was.
func (c *Custodian) LoadAlone(id block.KeyID) error {
	return c.onToken(func(s *session) error {
		kek, vault := s.token.kek, s.token.vault
		defer func() { s.token.kek, s.token.vault = kek, vault }()
		s.token.kek, s.token.vault = 1<<40, 1<<40
		e, err := s.loadKept(s.token.index.get(id))
		if err != nil {
			return err
		}
		return s.unload(e)
	})
}

// lasting creates a P-256 key as a session object that can be wrapped, and that the module does not destroy.
func (s *session) lasting() (p11.ObjectHandle, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, nil, err
	}
	spki, suite, values, err := parts(key)
	if err != nil {
		return 0, nil, err
	}
	h, err := s.lib.CreateObject(s.handle, slices.Concat(values, private(suite, wire.Replicable), unsealed(), []*p11.Attribute{attr(p11.CKA_DESTROYABLE, false)}))
	return h, spki, err
}

// KeepLasting takes a key into the vault whose object the module does not destroy.
func (c *Custodian) KeepLasting() error {
	return c.onToken(func(s *session) error {
		h, spki, err := s.lasting()
		if err != nil {
			return err
		}
		_, err = s.keepObject(h, wire.Parcel{SPKI: spki}, wire.P256, wire.Bound, wire.Imported)
		return err
	})
}

// LastingHalf gives a loaded hybrid key a private half that the module does not destroy, and a key over its seed that is gone.
func (c *Custodian) LastingHalf(id block.KeyID) error {
	c.MisplaceLoadedSeedKey(id)
	return c.onToken(func(s *session) error {
		h, _, err := s.lasting()
		if err != nil {
			return err
		}
		l := s.token.cache.take(id)
		l.handle.Store(uint64(h))
		s.token.cache.letGo(l)
		return nil
	})
}

// CheckFlags says whether hsmd takes flags.
func CheckFlags(args ...string) error {
	_, _, err := parseFlags(args)
	return err
}

// MayEnd says whether a custodian that is spent may end.
func (c *Custodian) MayEnd() bool { return c.mayEnd() }

// AttackInner attacks the key of the inner part of a wrapped key, made without a demand for the attributes but.
func (c *Custodian) AttackInner(wrapped []byte, custody wire.Custody, but ...uint) error {
	_, err := c.mutate(func(s *session) error {
		e, err := s.importEntry()
		if err != nil {
			return err
		}
		value, err := s.ephemeral(e, wrapped[:len(e.modulus)])
		if err != nil {
			return err
		}
		in := inner{wrapped: wrapped[len(e.modulus):], custody: custody, mode: wire.Resident}
		must := slices.DeleteFunc(in.must(), func(a *p11.Attribute) bool { return slices.Contains(but, a.Type) })
		template, free := opener(value, importLabel, must...)
		defer free()
		if in.by, err = s.create(template); err != nil {
			return err
		}
		spki, err := s.glimpse(in)
		if err != nil {
			return err
		}
		is, err := newEntry(spki, 0)
		if err != nil {
			return err
		}
		return errors.Join(s.attackInner(in, is.key.Suite), s.discard(in.by))
	})
	return err
}
