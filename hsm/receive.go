package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// Receive takes keys that another box packed for this one: all of them or none.
func (c *Custodian) Receive(letter []byte, all []wire.Parcel, m wire.Mode) (keys []wire.Key, changed wire.Files, err error) {
	if len(all) == 0 || len(all) > wire.MaxParcels {
		return nil, nil, wire.Refused{Reason: fmt.Sprintf("receive %d keys: limit 1 to %d", len(all), wire.MaxParcels)}
	}
	if m != wire.Resident && m != wire.Vault {
		return nil, nil, errMode
	}
	value, err := c.transport.open(letter)
	if err != nil {
		return nil, nil, err
	}
	defer clear(value)
	changed, err = c.mutate(func(s *session) error { keys, err = s.receive(value, all, m); return err })
	if err != nil {
		return nil, nil, err
	}
	return keys, changed, nil
}

func (s *session) receive(value []byte, all []wire.Parcel, m wire.Mode) (keys []wire.Key, err error) {
	if err := s.checkRoom(); err != nil {
		return nil, err
	}
	template, free := transferIn(bytes.Clone(value))
	defer free()
	by, err := s.create(template)
	if err != nil {
		return nil, fmt.Errorf("create transfer key: %w", err)
	}
	defer func() {
		if err = errors.Join(err, s.discard(by)); err != nil {
			err = errors.Join(err, s.forget(keys))
		}
	}()
	for i, p := range all {
		e, err := s.expect(p)
		if err == nil && i == 0 {
			err = s.attackTransferIn(by, p, e)
		}
		if err != nil {
			return keys, err
		}
		k, err := s.receiveOne(by, p, e, m)
		if err != nil {
			return keys, fmt.Errorf("receive key %s: %w", e.key.ID, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// forget undoes a receipt.
func (s *session) forget(keys []wire.Key) (err error) {
	for _, k := range keys {
		if k.Mode == wire.Vault {
			s.forgetKept(k.ID)
			delete(s.token.vaultChanges, vaultName(k.ID)) // nobody was told of it
			s.token.index.left(k.ID)
			continue
		}
		s.token.index.leave(k.ID)
		if e := s.erase(k.ID); e != nil {
			err = errors.Join(err, e) // as a destruction that can be finished
			continue
		}
		s.token.index.left(k.ID)
	}
	return err
}

// expect says what key a parcel holds, by its public half.
func (s *session) expect(p wire.Parcel) (*entry, error) {
	e, err := newEntry(p.SPKI, 0)
	if err != nil {
		return nil, wire.Refused{Reason: "a public key is of no kind that is kept here"}
	}
	hybrid := e.key.Suite == wire.Hybrid
	switch {
	case s.token.index.get(e.key.ID) != nil || s.token.index.isLeaving(e.key.ID):
		return nil, wire.Refused{Reason: fmt.Sprintf("key %s is in the token already", e.key.ID)}
	case len(p.Wrapped) == 0 || hybrid != (len(p.SeedKey) > 0) || hybrid != (len(p.Seed) == sealedSeed) || !hybrid && len(p.Seed) > 0:
		return nil, wire.Refused{Reason: fmt.Sprintf("key %s is not whole", e.key.ID)}
	case hybrid && s.token.noSeed != nil:
		return nil, wire.Refused{Reason: fmt.Sprintf("hybrid keys cannot be kept in this token: %v", s.token.noSeed)}
	}
	return e, nil
}

// receiveOne unwraps a key, which goes the way of a generated one: it is attacked, and opens what is wrapped to its
// public half, or does not stay.
func (s *session) receiveOne(by p11.ObjectHandle, p wire.Parcel, e *entry, m wire.Mode) (wire.Key, error) {
	if m == wire.Vault {
		return s.receiveKept(by, p, e)
	}
	h, err := s.unwrapWith(by, keyType(e.key.Suite), p.Wrapped, private(e.key.Suite, wire.Replicable))
	if err != nil {
		return wire.Key{}, fmt.Errorf("unwrap: %w", err)
	}
	if e.key.Suite == wire.Hybrid {
		if err := s.receiveSeed(by, p, e); err != nil {
			return wire.Key{}, errors.Join(err, s.discard(h), s.erase(e.key.ID))
		}
	}
	return s.admit(h, p.SPKI, wire.Replicable, wire.Imported)
}

// receiveSeed puts a sealed seed and the key over it into the token.
func (s *session) receiveSeed(by p11.ObjectHandle, p wire.Parcel, e *entry) error {
	pub, err := block.ParsePublicKey(p.SPKI)
	if err != nil {
		return err
	}
	k, ok := pub.(*block.HybridKey)
	if !ok {
		return errForeign
	}
	may := slices.DeleteFunc(seedKeyMay(wire.Replicable), func(a *p11.Attribute) bool {
		return a.Type == p11.CKA_VALUE_LEN || a.Type == p11.CKA_MODIFIABLE
	})
	is := append(may, attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, true),
		attr(p11.CKA_ID, e.key.ID[:]), attr(p11.CKA_LABEL, seedKey), attr(p11.CKA_MODIFIABLE, false)) // after it, SoftHSM sets nothing
	if _, err := s.lib.UnwrapKey(s.handle, keyWrap, by, p.SeedKey, is); err != nil {
		return fmt.Errorf("unwrap key over seed: %w", err)
	}
	return s.createSeed(e.key.ID, append(k.Bytes(), p.Seed...))
}

// keyType is the PKCS#11 type of what the token has of a key.
func keyType(s wire.Suite) uint {
	if isEC(s) {
		return p11.CKK_EC
	}
	return p11.CKK_RSA
}
