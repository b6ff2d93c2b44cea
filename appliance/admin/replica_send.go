package admin

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// sign has a statement signed by a key that is made for it and certified for it alone by the label key, which works in an approved
// state only.
func (s *step) sign(ctx context.Context, statement label.Digest, f func(chain [][]byte, by crypto.Signer) ([]byte, error)) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make statement key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make statement key: %w", err)
	}
	chain, err := s.a.c.TPM.LeafReplica(ctx, spki, statement)
	if err != nil {
		return nil, fmt.Errorf("certify statement key: %w", err)
	}
	return f(chain, key)
}

// An outgoing is what of the box's keys goes to another, in the order of access identifiers and their keys.
type outgoing struct {
	access []store.Access // with the keys that go
	keys   []store.Key    // each once
	bound  []string       // what stays, in words
}

func (s *step) replicaSend(ctx context.Context, c console.ReplicaSend) error {
	p, err := s.peer(c.Box)
	if err != nil {
		return err
	}
	if err := s.state().CheckPeer(p); err != nil {
		return fmt.Errorf("nothing was sent: %w; admit it again: replica admit %s", err, p.Box)
	}
	o, err := s.outgoing(c.Access)
	if err != nil {
		return err
	}
	s.depends(p.ID(), p.Letter, o.access, o.ids())
	if err := s.confirm("Send %s (%s) of %s to box %s, label key %s? What it does with them is then up to its officers and its rules.",
		count(len(o.keys), "key", "keys"), shorts(o.ids()), names(o.access), p.Box, p.Label); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	parts := slices.Collect(slices.Chunk(o.keys, label.MaxReplicaKeys))
	for _, keys := range parts {
		if err := s.sendPart(ctx, p, keys, o.access); err != nil {
			return err
		}
	}
	for _, b := range o.bound {
		s.say("%s", b)
	}
	return s.say("%s for box %s. It takes %s with: replica receive from %s", count(len(o.keys), "key", "keys"), p.Box,
		count(len(parts), "this text", "each of these texts"), s.state().Box().Name)
}

// outgoing collects the replicable keys of access identifiers, or of all if none is named. One whose current key is bound
// is not for copying: named, it is refused.
func (s *step) outgoing(named []kra.AccessID) (o outgoing, err error) {
	for _, id := range named {
		if err := s.hasAccess(id); err != nil {
			return o, err
		}
	}
	for _, a := range s.state().Accesses() {
		if len(named) > 0 && !slices.Contains(named, a.ID) {
			continue
		}
		leave, stay := s.replicable(a)
		if len(stay) > 0 {
			k, _ := s.state().Key(stay[0])
			to := "this box"
			if k.Bound != nil {
				to = "label " + string(k.Bound.Label) + " of this box"
			}
			why := fmt.Sprintf("%s of %s is bound to %s: it was made so that it never leaves", short(stay[0]), a.ID, to)
			if len(named) > 0 && stay[0] == a.Keys[0] {
				return o, fmt.Errorf("nothing was sent: key %s. Make a key to replace it: key generate … replicable for %s", why, a.ID)
			}
			o.bound = append(o.bound, "Not sent: key "+why+".")
		}
		if len(leave) > 0 && leave[0] == a.Keys[0] {
			a.Keys = leave
			o.add(s.state(), a)
		}
	}
	if len(o.keys) == 0 {
		return o, errors.New("nothing was sent: there is no replicable key")
	}
	return o, nil
}

// replicable parts the keys of an access identifier into those that may leave and those that stay.
func (s *step) replicable(a store.Access) (leave, stay []block.KeyID) {
	for _, id := range a.Keys {
		k, _ := s.state().Key(id)
		if !k.Opens() { // suspended or about to be destroyed: it goes nowhere
			continue
		}
		if k.Custody == hsm.Replicable {
			leave = append(leave, id)
		} else {
			stay = append(stay, id)
		}
	}
	return leave, stay
}

func (o *outgoing) add(st *store.State, a store.Access) {
	o.access = append(o.access, a)
	for _, id := range a.Keys {
		if !slices.ContainsFunc(o.keys, func(k store.Key) bool { return k.ID == id }) {
			k, _ := st.Key(id)
			o.keys = append(o.keys, k)
		}
	}
}

func (o outgoing) ids() (all []block.KeyID) {
	for _, k := range o.keys {
		all = append(all, k.ID)
	}
	return all
}

func names(all []store.Access) string {
	var out []string
	for _, a := range all {
		out = append(out, string(a.ID))
	}
	if len(out) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(out[:5], ", "), len(out)-5)
	}
	return strings.Join(out, ", ")
}

// sendPart writes one text. Its keys are in the log before they are shown to anybody.
func (s *step) sendPart(ctx context.Context, p store.Peer, keys []store.Key, of []store.Access) error {
	r := label.Replica{Domain: s.a.c.Domain.Hash(), Box: s.state().Box().Name, To: p.Box, Peer: label.Digest(p.ID()),
		Request: p.Request, Letter: p.Letter}
	ids := make([]block.KeyID, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
		r.Keys = append(r.Keys, replicaKey(k, hsm.Parcel{Wrapped: []byte("later")}))
	}
	r.Access = places(of, ids)
	if err := r.Check(); err != nil {
		return fmt.Errorf("nothing was sent: %w", err) // before a key is wrapped for anybody
	}
	parcels, head, err := s.a.c.HSM.Pack(ctx, p.ID(), ids)
	if err != nil {
		return err
	}
	if err := s.recordDeparture(ctx, "box "+p.Box, p.Label, hsm.Departed(p.ID(), parcels, head), head); err != nil {
		return err
	}
	for i, k := range keys {
		r.Keys[i] = replicaKey(k, parcels[i])
	}
	text, err := s.sign(ctx, r.Digest(), r.Sign)
	if err != nil {
		return err
	}
	if len(text) > wire.MaxPaste {
		return fmt.Errorf("nothing was sent: one text would have %d bytes, and a paste takes %d; name fewer access identifiers", len(text), wire.MaxPaste)
	}
	_, err = s.Write(text)
	return err
}

func replicaKey(k store.Key, p hsm.Parcel) label.ReplicaKey {
	origin := k.Origin.String()
	if k.From != nil {
		origin = k.From.Origin // where it was made, not where it came through
	}
	return label.ReplicaKey{SPKI: k.SPKI, Suite: k.Suite.String(), Custody: k.Custody.String(), Origin: origin, State: string(k.State),
		Made: k.Made.UTC().Format(time.RFC3339), Wrapped: p.Wrapped, SeedKey: append([]byte{}, p.SeedKey...), Seed: append([]byte{}, p.Seed...)}
}

// places are the access identifiers that have some of the keys.
func places(of []store.Access, ids []block.KeyID) (out []label.ReplicaAccess) {
	for _, a := range of {
		var at []int
		for _, id := range a.Keys {
			if i := slices.Index(ids, id); i >= 0 {
				at = append(at, i)
			}
		}
		if len(at) > 0 {
			out = append(out, label.ReplicaAccess{ID: string(a.ID), Title: a.Title, Keys: at})
		}
	}
	return out
}

// A replicaRecord is the private part of the record of keys that go from box to box.
type replicaRecord struct {
	Officer string   `json:"officer"`
	Line    string   `json:"line"`
	Stage   string   `json:"stage"` // sends or receives
	Detail  string   `json:"detail"`
	Label   string   `json:"label"` // the other box's label key, SHA-256; of a backup, the backup key's
	Keys    []string `json:"keys,omitempty"`
}

// recordDeparture logs, in one with what is sent to whom, a record for each key that hsmd says has left the token. Where the log
// does not take them, somebody writes down later that they left.
func (s *step) recordDeparture(ctx context.Context, to string, label label.Digest, items []receipt.Item, head receipt.ChainHead) error {
	r := replicaRecord{Officer: s.officer.Name, Line: s.line, Stage: "sends", Detail: count(len(items), "key", "keys") + ", " + to, Label: label.String()}
	entries := make([]audit.Entry, len(items))
	for i := range items {
		entries[i] = audit.Entry{Kind: receipt.Copy, Item: &items[i], HSM: head, Private: r}
	}
	if _, err := s.a.c.Log.Append(ctx, entries...); err != nil {
		if s.a.c.Unlogged != nil {
			s.a.c.Unlogged()
		}
		return fmt.Errorf("nothing was sent: the log takes no record: %w", err)
	}
	return nil
}

// recordReceipt logs which keys come from where, before they do.
func (s *step) recordReceipt(ctx context.Context, in incoming) error {
	r := replicaRecord{Officer: s.officer.Name, Line: s.line, Stage: "receives", Detail: count(len(in.ids), "key", "keys") + ", box " + in.by.Box, Label: in.by.Key.String()}
	for _, id := range in.ids {
		r.Keys = append(r.Keys, id.String())
	}
	if _, err := s.a.c.Log.Append(ctx, audit.Entry{Kind: receipt.Command, Private: r}); err != nil {
		return fmt.Errorf("nothing was received: the log takes no record: %w", err)
	}
	return nil
}
