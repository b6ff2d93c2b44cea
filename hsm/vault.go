package hsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// A key in vault mode is no object of the token. It is born as session objects that nothing but a trusted key wraps, wrapped there, and
// kept in a file beside those of the token. It is used as session objects that nothing wraps, of which there are so many at a time: see
// cache.
//
//	born --wrapped by the trusted key--> kept --sealed under its name--> file, kept by the agent
//	                                      |  ^
//	                          first use   v  |  room for another, destruction, log-out, end of hsmd
//	                                 session objects, in the cache
//
// See VAULT.md.
const (
	vaultFolder   = "vault/" // and the key id in hex: the name of a key's file, under which it is sealed
	vaultKeyLabel = "kra-vault-key"
)

// A kept is what opens a key in vault mode again.
type kept struct {
	custody wire.Custody
	origin  wire.Origin
	parcel  wire.Parcel // wrapped by vaultKey(custody)
}

func vaultName(id block.KeyID) string { return vaultFolder + hex.EncodeToString(id[:]) }

// bytes is the one form of what a file has: custody, origin, suite, one byte each, and the parcel.
func (k *kept) bytes(s wire.Suite) []byte {
	return append([]byte{byte(k.custody), byte(k.origin), byte(s)}, k.parcel.Bytes()...)
}

// parseKept reads what a file of this name has. Only its public half is looked at when the key is used: to do so for each of many would
// take seconds.
func parseKept(name string, b []byte) (*entry, error) {
	refused := wire.Refused{Reason: fmt.Sprintf("open token files: %.80q is no key in vault mode", name)}
	if len(b) < 3 {
		return nil, refused
	}
	k := &kept{custody: wire.Custody(b[0]), origin: wire.Origin(b[1])}
	suite := wire.Suite(b[2])
	var err error
	if k.parcel, err = wire.ParseParcel(b[3:]); err != nil || suite.Wraps() == 0 || k.custody != wire.Bound && k.custody != wire.Replicable ||
		k.origin < wire.Generated || k.origin > wire.OriginLast || !bytes.Equal(k.bytes(suite), b) {
		return nil, refused
	}
	e := k.entry(suite)
	if vaultName(e.key.ID) != name {
		return nil, wire.Refused{Reason: fmt.Sprintf("open token files: %.80q is another key's", name)}
	}
	return e, nil
}

// entry is what the index has of a key in vault mode. It has no object.
func (k *kept) entry(s wire.Suite) *entry {
	return &entry{key: wire.Key{ID: block.KeyIDOfSPKI(k.parcel.SPKI), SPKI: k.parcel.SPKI, Suite: s, Custody: k.custody, Origin: k.origin, Mode: wire.Vault}, kept: k}
}

// splitVault takes the keys in vault mode out of files that a sealer has opened.
func splitVault(files wire.Files) (of wire.Files, keys []*entry, err error) {
	of = wire.Files{}
	for name, data := range files {
		if !strings.HasPrefix(name, vaultFolder) {
			of[name] = data
			continue
		}
		e, err := parseKept(name, data)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, e)
	}
	return of, keys, nil
}

// vaultKey returns the token key that wraps keys of a custody. What that of bound keys unwraps is not extractable: they stay. Replicable
// ones can be unwrapped to be wrapped for another box.
func (k *token) vaultKey(c wire.Custody) p11.ObjectHandle {
	if c == wire.Replicable {
		return k.kek
	}
	return k.vault
}

// checkVault refuses a key in vault mode that cannot be kept here.
func (s *session) checkVault(suite wire.Suite, c wire.Custody) error {
	switch {
	case s.token.vaultKey(c) == 0:
		return wire.Refused{Reason: "this module keeps no keys in vault mode: it has no trusted wrapping"}
	case suite == wire.Hybrid && s.token.noSeed != nil:
		return wire.Refused{Reason: "this module keeps no hybrid keys: " + s.token.noSeed.Error()}
	case s.token.index.vaultBytes() > wire.MaxVault:
		return wire.Refused{Reason: fmt.Sprintf("the keys in vault mode take %d MiB, which is the limit: delete some, or make resident ones (key mode resident)", wire.MaxVault>>20)}
	}
	return nil
}

// checkRoom refuses a key, of whatever mode, with which the token could not be opened again: all of its files are one message.
func (s *session) checkRoom() error {
	const most = wire.MaxFrame - wire.MaxFrame/16 // what is received comes in parcels
	if s.token.index.fileBytes() > most {
		return wire.Refused{Reason: fmt.Sprintf("the token's files take %d MiB, which is all that can be opened: delete keys before others are made", most>>20)}
	}
	return nil
}

// keepNew makes a key in vault mode.
func (s *session) keepNew(suite wire.Suite, c wire.Custody) (wire.Key, error) {
	if err := s.checkVault(suite, c); err != nil {
		return wire.Key{}, err
	}
	p, err := s.wrapNew(suite, s.token.vaultKey(c))
	if err != nil {
		return wire.Key{}, err
	}
	return s.keep(&kept{c, wire.Generated, p}, suite)
}

// keepObject keeps a session object that came from outside, and destroys it.
func (s *session) keepObject(h p11.ObjectHandle, p wire.Parcel, suite wire.Suite, c wire.Custody, o wire.Origin) (k wire.Key, err error) {
	if err = s.checkVault(suite, c); err == nil {
		p.Wrapped, err = s.lib.WrapKey(s.handle, keyWrap, s.token.vaultKey(c), h)
	}
	if err = errors.Join(err, s.vanish(h)); err != nil {
		return wire.Key{}, fmt.Errorf("wrap key: %w", err)
	}
	return s.keep(&kept{c, o, p}, suite)
}

// keep takes a wrapped key into the index, once it was seen to come back: attacked and tested as any new key.
func (s *session) keep(k *kept, suite wire.Suite) (wire.Key, error) {
	e := k.entry(suite)
	l, err := s.loadKept(e)
	if err == nil {
		if err = s.attack(l); err == nil {
			err = s.pairwise(l)
		}
		err = errors.Join(err, s.unload(l))
	}
	if err != nil {
		return wire.Key{}, fmt.Errorf("test new key: %w", err)
	}
	s.token.index.put(e)
	s.token.vaultChanges[vaultName(e.key.ID)] = k.bytes(suite)
	return e.key, nil
}

// loadKept unwraps a key into session objects.
func (s *session) loadKept(e *entry) (*entry, error) {
	l, err := newEntry(e.key.SPKI, 0)
	if err != nil || l.key.Suite != e.key.Suite {
		return nil, fmt.Errorf("load key %s: its public half is of another kind", e.key.ID)
	}
	l.key, l.kept, l.unwraps = e.key, e.kept, l.modulus != nil
	l.key.Custody = wire.Bound // whatever the key may do: this never leaves
	h, err := s.unwrapKept(l)
	if err != nil {
		return nil, fmt.Errorf("load key %s: %w", e.key.ID, err)
	}
	l.handle.Store(uint64(h))
	if e.key.Suite != wire.Hybrid {
		return l, nil
	}
	over := &entry{key: l.key, kept: e.kept, over: true}
	if h, err = s.unwrapKept(over); err != nil {
		return nil, errors.Join(fmt.Errorf("load key over seed of %s: %w", e.key.ID, err), s.discard(l.at()))
	}
	over.handle.Store(uint64(h))
	l.hybrid = &hybrid{key: over, sealed: e.kept.parcel.Seed}
	return l, nil
}

// unwrapKept unwraps one object of a key in vault mode. A lost session is replaced once, and a wrapping key that moved is looked up.
func (s *session) unwrapKept(e *entry) (p11.ObjectHandle, error) {
	s.token.loads.Add(1)
	by := s.token.vaultKey(e.kept.custody)
	h, err := s.unwrapLocked(by, e)
	if isSession(err) {
		if err = s.renew(); err == nil {
			h, err = s.unwrapLocked(by, e)
		}
	}
	if isHandle(err) {
		if by, err = s.findTrusted(vaultLabels[e.kept.custody]); err == nil {
			h, err = s.unwrapLocked(by, e)
		}
	}
	if isFatal(err) {
		s.token.giveUp()
	}
	return h, err
}

// unwrapLocked unwraps what can be used for its one purpose, and neither read, changed nor wrapped.
func (s *session) unwrapLocked(by p11.ObjectHandle, e *entry) (p11.ObjectHandle, error) {
	wrapped, as := e.kept.parcel.Wrapped, slices.Concat(isPrivate(keyType(e.key.Suite)), named(e.key.ID, e.kept.origin), private(e.key.Suite, wire.Bound))
	if e.over {
		wrapped, as = e.kept.parcel.SeedKey, seedKeyUnwrapped(e.key.ID, wire.Bound)
	}
	as = append(as, attr(p11.CKA_TOKEN, false), attr(p11.CKA_MODIFIABLE, false)) // last: SoftHSM sets them in this order
	return s.lib.UnwrapKey(s.handle, keyWrap, by, wrapped, as)
}

// unwrapAgain gives a key in vault mode whose objects went with their session new ones. Of two that do so at once, one is in time.
func (s *session) unwrapAgain(e *entry, gone p11.ObjectHandle) error {
	if e.at() != gone {
		return nil
	}
	h, err := s.unwrapKept(e)
	if err != nil {
		return err
	}
	if !e.handle.CompareAndSwap(uint64(gone), uint64(h)) {
		return s.discard(h)
	}
	return nil
}

// hold returns a key ready for use, until it is let go. One in vault mode is unwrapped if it is not loaded.
func (s *session) hold(e *entry) (ready *entry, letGo func(), err error) {
	if e.kept == nil {
		return e, func() {}, nil
	}
	c := s.token.cache
	l := c.take(e.key.ID)
	if l == nil {
		fresh, err := s.loadKept(e)
		if err != nil {
			return nil, nil, err
		}
		var out []*loaded
		l, out = c.add(fresh)
		s.drop(out)
	}
	return l.entry, func() { s.drop(c.letGo(l)) }, nil
}

// drop destroys the objects of keys that are no longer loaded. What cannot be destroyed ends the process.
func (s *session) drop(out []*loaded) {
	for _, l := range out {
		_ = s.unload(l.entry) // what it could not destroy has ended the process
	}
}

// packKept wraps a replicable key for another box. What it unwraps for that can be wrapped by a trusted key, and is gone at once.
func (s *session) packKept(by p11.ObjectHandle, e *entry) (p wire.Parcel, err error) {
	p = e.kept.parcel
	p.Wrapped, err = s.rewrap(by, p.Wrapped, append(isPrivate(keyType(e.key.Suite)), private(e.key.Suite, wire.Replicable)...))
	if err == nil && e.key.Suite == wire.Hybrid {
		p.SeedKey, err = s.rewrap(by, p.SeedKey, seedKeyUnwrapped(e.key.ID, wire.Replicable))
	}
	if err != nil {
		return wire.Parcel{}, fmt.Errorf("wrap key %s: %w", e.key.ID, err)
	}
	return p, nil
}

func (s *session) rewrap(by p11.ObjectHandle, wrapped []byte, as []*p11.Attribute) (again []byte, err error) {
	h, err := s.lib.UnwrapKey(s.handle, keyWrap, s.token.kek, wrapped, append(as, attr(p11.CKA_TOKEN, false), attr(p11.CKA_MODIFIABLE, false)))
	if err != nil {
		return nil, err
	}
	again, err = s.lib.WrapKey(s.handle, keyWrap, by, h)
	return again, errors.Join(err, s.vanish(h))
}

// receiveKept takes a key that another box packed into the vault.
func (s *session) receiveKept(by p11.ObjectHandle, p wire.Parcel, e *entry) (wire.Key, error) {
	if err := s.checkVault(e.key.Suite, wire.Replicable); err != nil {
		return wire.Key{}, err
	}
	h, err := s.unwrapWith(by, keyType(e.key.Suite), p.Wrapped, private(e.key.Suite, wire.Replicable))
	if err != nil {
		return wire.Key{}, fmt.Errorf("unwrap: %w", err)
	}
	if e.key.Suite == wire.Hybrid {
		if p.SeedKey, err = s.receiveSeedKey(by, p, e.key.ID); err != nil {
			return wire.Key{}, errors.Join(err, s.vanish(h))
		}
	}
	return s.keepObject(h, p, e.key.Suite, wire.Replicable, wire.Imported)
}

func (s *session) receiveSeedKey(by p11.ObjectHandle, p wire.Parcel, id block.KeyID) ([]byte, error) {
	as := append(seedKeyUnwrapped(id, wire.Replicable), attr(p11.CKA_TOKEN, false), attr(p11.CKA_MODIFIABLE, false))
	h, err := s.lib.UnwrapKey(s.handle, keyWrap, by, p.SeedKey, as)
	if err != nil {
		return nil, fmt.Errorf("unwrap key over seed: %w", err)
	}
	wrapped, err := s.lib.WrapKey(s.handle, keyWrap, s.token.kek, h)
	return wrapped, errors.Join(err, s.vanish(h))
}

// seedKeyUnwrapped is the key over a seed, as it is unwrapped.
func seedKeyUnwrapped(id block.KeyID, c wire.Custody) []*p11.Attribute {
	is := []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_ID, id[:]), attr(p11.CKA_LABEL, seedKey)}
	return append(is, slices.DeleteFunc(seedKeyMay(c), func(a *p11.Attribute) bool {
		return a.Type == p11.CKA_VALUE_LEN || a.Type == p11.CKA_MODIFIABLE
	})...)
}

// expunge destroys a key in vault mode: what is being opened with it is finished first. ErrNoKey says that there is none, and that none
// waits to be reported.
func (c *Custodian) expunge(id block.KeyID) (wire.Files, error) {
	c.change.Lock()
	defer c.change.Unlock()
	open := c.token.Load()
	if open == nil {
		return nil, wire.ErrClosed
	}
	e := open.index.get(id)
	if e == nil && open.index.isLeaving(id) && open.ownsRemoval(id) {
		return c.expunged(open, id)
	}
	if e == nil || e.kept == nil {
		return nil, wire.ErrNoKey
	}
	var err error
	if !open.pool.alone(func(s *session) {
		if err = s.revive(); err == nil {
			s.forgetKept(id)
		}
	}) {
		return nil, wire.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	return c.expunged(open, id)
}

func (c *Custodian) expunged(open *token, id block.KeyID) (wire.Files, error) {
	changed, err := c.changed(open)
	if err == nil {
		open.index.left(id)
	}
	return changed, err
}

// ownsRemoval says whether the removal of a key in vault mode is not reported yet.
func (k *token) ownsRemoval(id block.KeyID) bool {
	data, there := k.vaultChanges[vaultName(id)]
	return there && data == nil
}

// forgetKept takes a key in vault mode out.
func (s *session) forgetKept(id block.KeyID) {
	s.token.index.leave(id)
	s.drop(s.token.cache.remove(id))
	s.token.vaultChanges[vaultName(id)] = nil
}
