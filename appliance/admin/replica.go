package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A replicator is the part of the module's process that carries keys between tokens.
type replicator interface {
	Transport(ctx context.Context) ([]byte, error)
	Admit(ctx context.Context, t hsm.Token, request []byte) ([]byte, hsm.Files, error)
	Pack(ctx context.Context, p hsm.Peer, ids []block.KeyID) ([]hsm.Parcel, receipt.ChainHead, error)
	Receive(ctx context.Context, letter []byte, all []hsm.Parcel, m hsm.Mode) ([]hsm.Key, hsm.Files, error)
	Dismiss(ctx context.Context, p hsm.Peer) (hsm.Files, error)
}

// now is the time against which the statements of others are held. A clock that nobody vouches for would let old ones in.
func (s *step) now() (time.Time, error) {
	if trusted, _ := s.a.c.Clock(); !trusted {
		return time.Time{}, errors.New("the clock is not trusted, and what another box says counts for some days only; first: time set")
	}
	return time.Now(), nil
}

func (s *step) replicaRequest(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	transport, err := s.a.c.HSM.Transport(ctx)
	if err != nil {
		return err
	}
	r := label.ReplicaRequest{Domain: s.a.c.Domain.Hash(), Box: s.state().Box().Name, Transport: transport}
	rand.Read(r.Nonce[:])
	if err := s.commit(ctx, store.ReplicaAsk{Request: r.Digest()}); err != nil {
		return err
	}
	text, err := s.sign(ctx, r.Digest(), r.Sign)
	if err != nil {
		return err
	}
	s.Write(text)
	by, err := s.fingerprint(text)
	if err != nil {
		return err
	}
	field(s, "label key", by.Key.String())
	return s.say("Give this to the box that is to send copies: replica admit %s. Compare the label key there. What answers an earlier "+
		"request is not taken any more.", r.Box)
}

// fingerprint says how another box will see this one.
func (s *step) fingerprint(request []byte) (label.Member, error) {
	_, by, err := label.OpenReplicaRequest(request, s.a.c.Domain, time.Now())
	return by, err
}

func (s *step) replicaAdmit(ctx context.Context, c console.ReplicaAdmit) error {
	text, err := s.next(wire.Paste, fmt.Sprintf("Paste the request of %s (KRA REPLICA REQUEST).", c.Box))
	if err != nil {
		return err
	}
	r, by, err := s.request(text, c.Box)
	if err != nil {
		return err
	}
	p := store.Peer{Box: by.Box, Label: by.Key, Transport: r.Transport, Request: r.Digest(), Since: time.Now()}
	was, _ := s.state().Peer(by.Box)
	s.depends(was, p.ID())
	if err := s.confirm("Box %s of this domain, label key %s, asks for copies of keys.%s Let replicable keys be sent to it?", by.Box, by.Key, s.wasAdmitted(p)); err != nil {
		return err
	}
	if err := s.admitPeer(ctx, p, text); err != nil {
		return err
	}
	return s.say("Box %s was admitted. Send it copies with: replica send to %[1]s ACCESS", by.Box)
}

// wasAdmitted says what a box that is admitted again was, and what of that is another now.
func (s *step) wasAdmitted(now store.Peer) string {
	was, ok := s.state().Peer(now.Box)
	switch {
	case !ok:
		return ""
	case was.Label != now.Label:
		return fmt.Sprintf(" IT IS NOT WHO IT WAS: its label key was %s when it was admitted, %s; it is now %s.", was.Label, stamp(was.Since), now.Label)
	case was.ID() != now.ID():
		return fmt.Sprintf(" Its label key is what it was when it was admitted, %s, and its token is another: it was %s, it is now %s.", stamp(was.Since),
			label.Digest(was.ID()).Short(), label.Digest(now.ID()).Short())
	}
	return fmt.Sprintf(" It is who it was when it was admitted, %s.", stamp(was.Since))
}

// request reads the request of a box that has this name.
func (s *step) request(text string, box console.Box) (r label.ReplicaRequest, by label.Member, err error) {
	now, err := s.now()
	if err != nil {
		return r, by, err
	}
	if len(text) > hsm.MaxRequest {
		return r, by, fmt.Errorf("refused, nothing was done: %d bytes, and a request has at most %d; paste it alone", len(text), hsm.MaxRequest)
	}
	r, by, err = label.OpenReplicaRequest([]byte(text), s.a.c.Domain, now)
	switch {
	case err != nil:
		return r, by, fmt.Errorf("refused, nothing was done: %w", err)
	case by.Box != string(box):
		return r, by, fmt.Errorf("refused, nothing was done: that is the request of box %s, not of %s", by.Box, box)
	case by.Box == s.state().Box().Name:
		return r, by, errors.New("refused, nothing was done: that is this box's own request")
	}
	return r, by, nil
}

// admitPeer has the token make a transfer key for a box, in place of an earlier one. Where it cannot be stored it goes again.
// The module's process judges the request for itself.
func (s *step) admitPeer(ctx context.Context, p store.Peer, request string) error {
	old, again := s.state().Peer(p.Box)
	if err := s.act(ctx); err != nil {
		return err
	}
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	pins := s.state().PINs()
	defer s.follow(ctx) // an admission ends the log-in that loaded keys belong to
	letter, files, err := s.a.c.HSM.Admit(ctx, hsm.Token{PIN: pins.User.Bytes(), SOPIN: pins.SO.Bytes()}, []byte(request))
	if err != nil {
		return err
	}
	p.Letter = letter
	if again && old.ID() != p.ID() {
		gone, err := s.a.c.HSM.Dismiss(ctx, old.ID())
		if err != nil && !errors.Is(err, hsm.ErrNoKey) {
			return err
		}
		files = joined(files, gone)
	}
	if err := s.commit(ctx, store.PeerSet{Peer: p, Files: files}); err != nil {
		if again && old.ID() == p.ID() {
			return err // what the token has now fits no letter: admitting the box again mends it
		}
		_, undone := s.a.c.HSM.Dismiss(ctx, p.ID())
		return errors.Join(err, undone)
	}
	return s.refresh(ctx, before)
}

// joined is both sets of changed files; the later says what became of a file.
func joined(first, later hsm.Files) hsm.Files {
	all := hsm.Files{}
	maps.Copy(all, first)
	maps.Copy(all, later)
	return all
}

func (s *step) replicaDismiss(ctx context.Context, c console.ReplicaDismiss) error {
	p, err := s.peer(c.Box)
	if err != nil {
		return err
	}
	if err := s.confirm("Send copies of keys to box %s no longer? What it has, it keeps.", p.Box); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	files, err := s.a.c.HSM.Dismiss(ctx, p.ID())
	if err != nil && !errors.Is(err, hsm.ErrNoKey) {
		return err
	}
	if err := s.commit(ctx, store.PeerRemove{Box: p.Box, Files: files}); err != nil {
		return err
	}
	if err := s.refresh(ctx, before); err != nil {
		return err
	}
	return s.say("Nothing is sent to box %s any more.", p.Box)
}

func (s *step) peer(box console.Box) (store.Peer, error) {
	p, ok := s.state().Peer(string(box))
	if !ok {
		return store.Peer{}, fmt.Errorf("box %s was not admitted; do that with: replica admit %[1]s", box)
	}
	return p, nil
}

func (s *step) replicaList() error {
	t := newTable("BOX", "SENT TO SINCE", "COPIES FROM IT", "LABEL KEY")
	from := map[string]int{}
	for _, k := range s.state().Keys() {
		if k.From != nil {
			from[k.From.Box]++
		}
	}
	for _, p := range s.state().Peers() {
		t.row(p.Box, stamp(p.Since), fmt.Sprint(from[p.Box]), p.Label.Short())
		delete(from, p.Box)
	}
	for box, n := range maps.All(from) {
		t.row(box, "(not admitted)", fmt.Sprint(n), "")
	}
	return t.print(s, "No box was admitted, and no key is a copy.")
}
