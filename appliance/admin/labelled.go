package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// A labeller keeps the keys that are bound to labels of the box.
type labeller interface {
	// Enclose makes a key of which nothing stays but what the binding opens. It cannot be used before it is stored and Follow was called.
	Enclose(ctx context.Context, s hsm.Suite, l label.ID) (hsm.Key, store.Binding, error)
	// Follow makes every key usable whose label can be had now, and no other.
	Follow(ctx context.Context)
	// Usable says why a key that is stored cannot be used now, or nothing.
	Usable(id block.KeyID) error
}

var errNoLabels = errors.New("this box keeps no keys that are bound to labels")

// labelledKey makes the current key of an access identifier, which is bound to a label.
func (s *step) labelledKey(ctx context.Context, suite hsm.Suite, c console.KeyGenerate) error {
	l, err := label.ParseID(string(c.Label))
	if err != nil {
		return err
	}
	return s.enclose(ctx, suite, l, c.Access)
}

// usableNow is whether a key that is bound to a label can be used, in words.
func (s *step) usableNow(id block.KeyID) string {
	if s.a.c.Labels == nil {
		return "not usable: " + errNoLabels.Error()
	}
	if err := s.a.c.Labels.Usable(id); err != nil {
		return fmt.Sprintf("not usable now: %v", err)
	}
	return "usable now"
}

// boundTo is a key's custody, in words.
func boundTo(k store.Key) string {
	if k.Bound == nil && k.Mode == hsm.Vault {
		return k.Mode.String() + ", " + k.Custody.String()
	}
	if k.Bound == nil {
		return k.Custody.String()
	}
	return "label " + string(k.Bound.Label)
}

// follow loads again what the module's process has lost.
func (s *step) follow(ctx context.Context) {
	if s.a.c.Labels != nil {
		s.a.c.Labels.Follow(ctx)
	}
}
