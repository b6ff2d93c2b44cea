package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
)

// commit makes a change: tried out, prepared, logged, committed, put to work, in this order. What cannot be compiled is
// refused before anything of it is durable.
func (s *step) commit(ctx context.Context, changes ...store.Change) error {
	next, err := store.Apply(s.a.c.Store.State(), changes...)
	if err != nil {
		return err
	}
	use, err := s.a.c.Prepare(next)
	if err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if _, err := s.a.c.Store.Commit(ctx, changes...); err != nil {
		return err
	}
	use()
	return nil
}

// say writes one paragraph.
func (s *step) say(format string, a ...any) error {
	_, err := fmt.Fprintln(s, foldTo(fmt.Sprintf(format, a...), columns-1))
	return err
}

// state is the state that the command sees.
func (s *step) state() *store.State { return s.a.c.Store.State() }
