package hsm

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Transport returns the public key to which other boxes seal transfer keys for this one.
func (c *Custodian) Transport() ([]byte, error) { return c.transport.public(), nil }

// Admit makes a transfer key for another box's token: see wire.Client.Admit. Whether that box may have keys was decided by
// who asks, and is beyond this package.
func (c *Custodian) Admit(t wire.Token, transport []byte) (letter []byte, changed wire.Files, err error) {
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
			letter, err = s.newTransfer(transport, func(f func() error) error { return s.asOfficer(t, f) })
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

// asOfficer runs f while the security officer is logged in. A token has one log-in for all of a process: the user's ends
// and begins again, and every handle of a private object is another. No other session may be at work. A token in which
// the user cannot log in again is beyond help.
func (s *session) asOfficer(t wire.Token, f func() error) error {
	k := s.token
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
		all, err = s.pack(p, ids)
	}), 1) {
		return nil, head, wire.ErrClosed
	}
	<-done
	if err != nil {
		return nil, head, err
	}
	return all, c.chain.depart(p, all), nil
}

func (s *session) pack(p wire.Peer, ids []block.KeyID) ([]wire.Parcel, error) {
	if err := s.revive(); err != nil {
		return nil, err
	}
	s.token.objects.RLock()
	by, err := s.transferFor(p)
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
	case e.key.Custody != wire.Replicable:
		return p, wire.Refused{Reason: fmt.Sprintf("key %s is bound to this token: it was made so that it never leaves", id)}
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
