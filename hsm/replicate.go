package hsm

import (
	"errors"
	"fmt"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Transport returns the public key to which other boxes seal transfer keys for this one.
func (c *Custodian) Transport() ([]byte, error) { return c.transport.public(), nil }

// Admit makes a transfer key for another box's token, or for a backup key: see wire.Client.Admit. That an officer said yes is beyond
// this package; that it is a box of the domain, and this its own word, or a backup key that the domain has approved, is not: an agent in
// the wrong hands could admit a key of its own.
func (c *Custodian) Admit(t wire.Token, request []byte) (letter []byte, changed wire.Files, err error) {
	to, err := c.config.asker(request)
	if err != nil {
		return nil, nil, err
	}
	c.change.Lock()
	defer c.change.Unlock()
	open := c.token.Load()
	if open == nil {
		return nil, nil, wire.ErrClosed
	}
	if !equalHash(open.pin, pinHash(t.PIN)) {
		return nil, nil, wire.ErrPIN
	}
	if !open.pool.alone(func(s *session) {
		if err = s.revive(); err == nil {
			letter, err = c.admit(s, t, to)
		}
	}) {
		return nil, nil, wire.ErrClosed
	}
	if err == nil {
		changed, err = c.changed(open)
	}
	if err != nil {
		return nil, nil, err
	}
	return letter, changed, nil
}

func (c *Custodian) admit(s *session, t wire.Token, to receiver) ([]byte, error) {
	if err := c.newer(s, to); err != nil {
		return nil, err
	}
	letter, err := s.newTransfer(to, func(f func() error) error { return s.asOfficer(t, f) })
	if err != nil {
		return nil, err
	}
	return letter, c.supersede(s, to)
}

// asker returns whom a text asks a transfer key for: the box that made the request, or a backup key that the domain has approved for
// this one. What this box alone has signed is nobody's word: its agent can have anything signed.
func (c Config) asker(text []byte) (receiver, error) {
	if c.Domain.Name == "" || c.Box == "" {
		return receiver{}, wire.Refused{Reason: "this token's process was told of no domain: nothing leaves"}
	}
	if label.IsBackupApproval(text) {
		return c.approved(text)
	}
	if label.IsBackupKey(text) {
		return receiver{}, wire.Refused{Reason: "that backup key is not approved by the domain: at the desk, domain backup approve"}
	}
	r, by, err := label.OpenReplicaRequest(text, c.Domain, time.Now())
	switch {
	case err != nil:
		return receiver{}, wire.Refused{Reason: err.Error()}
	case by.Box == c.Box:
		return receiver{}, wire.Refused{Reason: fmt.Sprintf("%q is this box: it has no copies for itself", by.Box)}
	}
	return receiver{transport: r.Transport}, nil
}

// asOfficer runs f while the security officer is logged in. A token has one log-in for all of a process: the user's ends
// and begins again, every handle of a private object is another, and those of sessions, which are the keys that are loaded, are gone. No other session may be at work. A token in which
// the user cannot log in again is beyond help.
func (s *session) asOfficer(t wire.Token, f func() error) error {
	k := s.token
	k.index.dropLoaded()
	s.drop(k.cache.clear())
	if err := k.lib.Logout(s.handle); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	err := k.login(s.handle, p11.CKU_SO, t.SOPIN)
	if err == nil {
		err = errors.Join(f(), k.lib.Logout(s.handle))
	}
	again := k.login(s.handle, p11.CKU_USER, t.PIN)
	if again == nil {
		again = s.findAll()
	}
	if again != nil {
		k.giveUp()
	}
	return errors.Join(err, again)
}

// findAll looks up every handle again.
func (s *session) findAll() error {
	if s.token.kek != 0 {
		if err := s.findKEK(); err != nil {
			return err
		}
	}
	if s.token.vault != 0 {
		if err := s.findVaultKey(); err != nil {
			return err
		}
	}
	fresh, err := s.scan()
	if err != nil {
		return fmt.Errorf("index keys: %w", err)
	}
	s.token.index.move(fresh)
	return nil
}

// Dismiss destroys the transfer key of a peer.
func (c *Custodian) Dismiss(p wire.Peer) (wire.Files, error) {
	return c.mutate(func(s *session) error { return s.dismiss(p) })
}

// Pack wraps replicable keys for a peer. Each is an item of the chain before any of them leaves this process.
func (c *Custodian) Pack(p wire.Peer, ids []block.KeyID) (all []wire.Parcel, head receipt.ChainHead, err error) {
	open := c.token.Load()
	if open == nil {
		return nil, head, wire.ErrClosed
	}
	if len(ids) == 0 || len(ids) > wire.MaxParcels {
		return nil, head, wire.Refused{Reason: fmt.Sprintf("pack %d keys: limit 1 to %d", len(ids), wire.MaxParcels)}
	}
	done := make(chan struct{})
	if !open.pool.submit(call(func(s *session) {
		defer close(done)
		all, err = c.packed(s, p, ids)
	}), 1) {
		return nil, head, wire.ErrClosed
	}
	<-done
	if err != nil {
		return nil, head, err
	}
	return all, c.chain.depart(p, all), nil
}

func (c *Custodian) packed(s *session, p wire.Peer, ids []block.KeyID) ([]wire.Parcel, error) {
	if err := s.revive(); err != nil {
		return nil, err
	}
	s.token.objects.RLock()
	by, err := c.transferFor(s, p)
	s.token.objects.RUnlock()
	if err != nil {
		return nil, err
	}
	all := make([]wire.Parcel, len(ids))
	for i, id := range ids {
		if all[i], err = s.packOne(by, id); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *session) packOne(by p11.ObjectHandle, id block.KeyID) (p wire.Parcel, err error) {
	e := s.token.index.get(id)
	switch {
	case e == nil:
		return p, wire.ErrNoKey
	case e.key.Custody == wire.Labelled:
		return p, wire.Refused{Reason: fmt.Sprintf("key %s is bound to a label of this box: it was made so that it never leaves", id)}
	case e.key.Custody != wire.Replicable:
		return p, wire.Refused{Reason: fmt.Sprintf("key %s is bound to this token: it was made so that it never leaves", id)}
	}
	if e.kept != nil {
		return s.packKept(by, e)
	}
	p.SPKI = e.key.SPKI
	if p.Wrapped, err = s.wrapOut(by, e); err != nil || e.hybrid == nil {
		return p, err
	}
	p.Seed = e.hybrid.sealed
	p.SeedKey, err = s.wrapOut(by, e.hybrid.key)
	return p, err
}

func (s *session) wrapOut(by p11.ObjectHandle, e *entry) (wrapped []byte, err error) {
	err = s.with(e, func(h p11.ObjectHandle) (err error) {
		wrapped, err = s.lib.WrapKey(s.handle, keyWrap, by, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wrap key %s: %w", e.key.ID, err)
	}
	return wrapped, nil
}
