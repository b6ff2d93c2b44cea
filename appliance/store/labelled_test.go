package store

import (
	"strings"
	"testing"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestBindings: a key that is bound to a label comes with what opens it, and no other key does.
func TestBindings(t *testing.T) {
	key := func(n byte, c hsm.Custody) hsm.Key {
		spki := []byte{n}
		return hsm.Key{ID: block.KeyIDOfSPKI(spki), SPKI: spki, Suite: hsm.P256, Custody: c, Origin: hsm.Generated, Mode: hsm.Resident}
	}
	bound := Binding{Label: "attended", Secret: []byte("blob"), Sealed: []byte("key")}
	for why, c := range map[string]KeyAdd{
		"has what opens it": {Key: key(0, hsm.Labelled)},
		"and each of those": {Key: key(0, hsm.Bound), Bound: &bound},
		"bound to no label": {Key: key(0, hsm.Labelled), Bound: &Binding{Label: "No Label", Secret: bound.Secret, Sealed: bound.Sealed}},
		"is missing":        {Key: key(0, hsm.Labelled), Bound: &Binding{Label: bound.Label, Sealed: bound.Sealed}},
		"or too long":       {Key: key(0, hsm.Labelled), Bound: &Binding{Label: bound.Label, Secret: bound.Secret, Sealed: make([]byte, hsm.MaxEnclosed+1)}},
		"missing or":        {Key: key(0, hsm.Labelled), Bound: &Binding{Label: bound.Label, Secret: make([]byte, maxLabelSecret+1), Sealed: bound.Sealed}},
	} {
		if _, err := Apply(newState(), c); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want an error with %q", err, why)
		}
	}
	st := newState()
	for i := range hsm.MaxLoaded + 1 {
		next, err := Apply(st, KeyAdd{Key: key(byte(i), hsm.Labelled), Made: time.Now(), Bound: &bound})
		if (err != nil) != (i == hsm.MaxLoaded) {
			t.Fatalf("key %d: %v", i+1, err)
		}
		if err == nil {
			st = next
		}
	}
	if n := len(st.Labelled()); n != hsm.MaxLoaded {
		t.Errorf("%d keys, want %d", n, hsm.MaxLoaded)
	}
	if st, err := Apply(st, KeyAdd{Key: key(200, hsm.Bound)}); err != nil || len(st.Labelled()) != hsm.MaxLoaded {
		t.Errorf("another key: %v", err)
	}
}

// TestStandbySet: the service ends after some minutes, or never.
func TestStandbySet(t *testing.T) {
	if n := newState().Standby().Minutes; n != 0 {
		t.Errorf("a new box is on standby after %d minutes", n)
	}
	for minutes, ok := range map[int]bool{-1: false, 0: true, 1: true, MaxStandby: true, MaxStandby + 1: false} {
		st, err := Apply(newState(), StandbySet{Minutes: minutes})
		if (err == nil) != ok || ok && st.Standby().Minutes != minutes {
			t.Errorf("%d minutes: %v", minutes, err)
		}
	}
}
