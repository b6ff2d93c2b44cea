package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// An incoming is what of a statement is new here.
type incoming struct {
	by      label.Member
	replica label.Replica
	places  []int // in replica.Keys
	ids     []block.KeyID
	known   int // keys that are here already
}

func (s *step) replicaReceive(ctx context.Context, c console.ReplicaReceive) error {
	text, err := s.next(wire.Paste, fmt.Sprintf("Paste what %s has sent (KRA REPLICA).", c.Box))
	if err != nil {
		return err
	}
	in, err := s.incoming(ctx, text, c.Box)
	if err != nil {
		return fmt.Errorf("refused, nothing was received: %w", err)
	}
	if err := s.confirm("Box %s of this domain, label key %s, sends %s (%s) for %s. Take them?", in.by.Box, in.by.Key,
		count(len(in.ids), "key", "keys"), shorts(in.ids), in.names()); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.recordReceipt(ctx, in); err != nil {
		return err
	}
	if err := s.take(ctx, in); err != nil {
		return err
	}
	return s.received(in)
}

// incoming reads a statement of a box that has this name, for this box, and finds what of it is new.
func (s *step) incoming(ctx context.Context, text string, from console.Box) (in incoming, err error) {
	now, err := s.now()
	if err != nil {
		return in, err
	}
	if in.replica, in.by, err = label.OpenReplica([]byte(text), s.a.c.Domain, now); err != nil {
		return in, err
	}
	transport, err := s.a.c.HSM.Transport(ctx)
	if err != nil {
		return in, err
	}
	here := s.state().Box().Name
	switch {
	case in.by.Box != string(from):
		return in, fmt.Errorf("that was sent by box %s, not by %s", in.by.Box, from)
	case in.replica.To != here:
		return in, fmt.Errorf("that is for box %s; this is %s", in.replica.To, here)
	case hsm.Peer(in.replica.Peer) != hsm.PeerOf(transport):
		return in, fmt.Errorf("that was wrapped for another token; have box %s admit this box again: replica request", in.by.Box)
	}
	if asked, ok := s.state().Asked(); !ok || asked != in.replica.Request {
		return in, fmt.Errorf("that answers an older request of this box than its newest; have box %s admit the newest, or make another: replica request", in.by.Box)
	}
	for i, k := range in.replica.Keys {
		if err := in.add(s.state(), i, k); err != nil {
			return in, err
		}
	}
	if len(in.ids) == 0 {
		return in, errors.New("every key of it is here already")
	}
	return in, nil
}

func (in *incoming) add(st *store.State, place int, k label.ReplicaKey) error {
	id := block.KeyIDOfSPKI(k.SPKI)
	if _, err := hsm.ParseSuite(k.Suite); err != nil {
		return err
	}
	if k.Custody != hsm.Replicable.String() {
		return fmt.Errorf("key %s is %s, not replicable", short(id), k.Custody)
	}
	if st := store.KeyState(k.State); st != store.Active && st != store.Deactivated && st != store.Compromised {
		return fmt.Errorf("key %s has the unknown state %q", short(id), k.State)
	}
	if st.WasDestroyed(id) {
		return fmt.Errorf("key %s was destroyed here, and stays so; have box %s leave it out", short(id), in.by.Box)
	}
	if _, ok := st.Key(id); ok {
		in.known++
		return nil
	}
	in.places, in.ids = append(in.places, place), append(in.ids, id)
	return nil
}

// shorts are the ids, as key list shows them, as many as one text has.
func shorts(ids []block.KeyID) string {
	var all []string
	for _, id := range ids[:min(len(ids), label.MaxReplicaKeys)] {
		all = append(all, short(id))
	}
	if n := len(ids) - len(all); n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all, ", "), n)
	}
	return strings.Join(all, ", ")
}

func (in incoming) names() string {
	var all []store.Access
	for _, a := range in.replica.Access {
		all = append(all, store.Access{ID: kra.AccessID(a.ID)})
	}
	return names(all)
}

// take brings the keys into token and store. Keys that cannot be certified or stored are destroyed again.
func (s *step) take(ctx context.Context, in incoming) error {
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	parcels := make([]hsm.Parcel, len(in.places))
	for i, at := range in.places {
		k := in.replica.Keys[at]
		parcels[i] = hsm.Parcel{SPKI: k.SPKI, Wrapped: k.Wrapped, SeedKey: k.SeedKey, Seed: k.Seed}
	}
	keys, files, err := s.a.c.HSM.Receive(ctx, in.replica.Letter, parcels, s.state().KeyMode())
	if err != nil {
		return err
	}
	changes, err := s.copies(ctx, in, keys)
	if err == nil {
		err = s.commit(ctx, append([]store.Change{store.TokenSet{Files: files}}, changes...)...)
	}
	if err != nil {
		for _, k := range keys {
			if _, ok := s.state().Key(k.ID); !ok {
				_, undone := s.a.c.HSM.Destroy(ctx, k.ID)
				err = errors.Join(err, undone)
			}
		}
		return err
	}
	return s.refresh(ctx, before)
}

// copies are the changes that make keys of the token known: access identifiers that are not there, without rules; the keys;
// and that they belong to their access identifiers, behind the keys which those have, each certified for it.
func (s *step) copies(ctx context.Context, in incoming, keys []hsm.Key) (changes []store.Change, err error) {
	if len(keys) != len(in.places) {
		return nil, fmt.Errorf("the module returned %d keys, want %d", len(keys), len(in.places))
	}
	for i, at := range in.places {
		k := in.replica.Keys[at]
		made, err := time.Parse(time.RFC3339, k.Made)
		if err != nil || keys[i].ID != in.ids[i] || keys[i].Suite.String() != k.Suite {
			return nil, fmt.Errorf("key %s is not the %s that it was said to be", short(keys[i].ID), k.Suite)
		}
		changes = append(changes, store.CopyAdd{Key: keys[i], State: store.KeyState(k.State), Made: made,
			From: store.Copy{Box: in.by.Box, Origin: k.Origin}})
	}
	for _, a := range in.replica.Access {
		used, err := s.use(ctx, kra.AccessID(a.ID), a.Title, in.of(a, keys))
		if err != nil {
			return nil, err
		}
		changes = append(changes, used...)
	}
	return changes, nil
}

// of returns the new keys of an access identifier, in its order.
func (in incoming) of(a label.ReplicaAccess, keys []hsm.Key) (out []hsm.Key) {
	for _, at := range a.Keys {
		if i := slices.Index(in.places, at); i >= 0 {
			out = append(out, keys[i])
		}
	}
	return out
}

// use puts keys behind those of an access identifier.
func (s *step) use(ctx context.Context, id kra.AccessID, title string, keys []hsm.Key) (changes []store.Change, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	a, ok := s.state().Access(id)
	if !ok {
		changes = append(changes, store.AccessAdd{ID: id, Title: title})
	}
	all := slices.Clone(a.Keys)
	for _, k := range keys {
		all = append(all, k.ID)
	}
	changes = append(changes, store.AccessKeys{ID: id, Keys: all})
	for _, k := range keys {
		chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(id), usage(k.Suite))
		if err != nil {
			return nil, fmt.Errorf("certify key %s: %w", short(k.ID), err)
		}
		changes = append(changes, store.CertificateSet{Access: id, Key: k.ID, Chain: chain})
	}
	return changes, nil
}

// received says what is to be done next.
func (s *step) received(in incoming) error {
	if in.known > 0 {
		s.say("%s already.", count(in.known, "key of it was here", "keys of it were here"))
	}
	for _, a := range in.replica.Access {
		x, _ := s.state().Access(kra.AccessID(a.ID))
		switch {
		case len(in.of(a, make([]hsm.Key, len(in.ids)))) == 0:
		case len(x.Lists) == 0:
			s.say("Access identifier %s is nobody's here until you say whose: access lists %[1]s is …", a.ID)
		default:
			s.say("Access identifier %s has rules here; they count for the copies too.", a.ID)
		}
	}
	return s.say("%s from box %s.", count(len(in.ids), "key was received", "keys were received"), in.by.Box)
}
