package store

import (
	"strings"
	"testing"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// TestDestroyedKeyStaysAway: what was destroyed here is not taken again, as a copy or as an import, and it can be read what it was.
func TestDestroyedKeyStaysAway(t *testing.T) {
	k, bound := testKeyNumbered(1), testKeyNumbered(2)
	k.Custody, bound.Custody = hsm.Replicable, hsm.Bound
	copied := CopyAdd{Key: k, State: Active, Made: time.Unix(1790000000, 0), From: Copy{Box: "box1", Origin: "generated"}}
	s, err := Apply(newState(), copied, KeyAdd{Key: bound}, KeyRemove{ID: k.ID}, KeyRemove{ID: bound.ID})
	if err != nil {
		t.Fatal(err)
	}
	if !s.WasDestroyed(k.ID) || !s.WasDestroyed(bound.ID) || s.Destroyed()[bound.ID.String()].Custody != hsm.Bound {
		t.Errorf("destroyed: %v, bound: %v", s.WasDestroyed(k.ID), s.WasDestroyed(bound.ID))
	}
	if _, err := Apply(s, copied); err == nil || !strings.Contains(err.Error(), "was destroyed here") {
		t.Errorf("a destroyed key comes back: %v", err)
	}
	for _, o := range []hsm.Origin{hsm.Imported, hsm.Wrapped} {
		for _, again := range []hsm.Key{k, bound} {
			again.Origin = o
			if _, err := Apply(s, KeyAdd{Key: again}); err == nil || !strings.Contains(err.Error(), "was destroyed here, and stays so") {
				t.Errorf("a destroyed key is %s again: %v", o, err)
			}
		}
	}
}

// TestNewestRequest: the newest request takes the place of the one before.
func TestNewestRequest(t *testing.T) {
	s := newState()
	if _, ok := s.Asked(); ok {
		t.Error("a request before there was one")
	}
	s, err := Apply(s, ReplicaAsk{label.Digest{1}}, ReplicaAsk{label.Digest{2}})
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := s.Asked(); !ok || d != (label.Digest{2}) {
		t.Errorf("newest request %v", d)
	}
	if _, err := Apply(s, ReplicaAsk{}); err == nil {
		t.Error("a request without a digest")
	}
}
