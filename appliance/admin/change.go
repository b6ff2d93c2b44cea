package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
)

// commit makes a change of an officer's.
func (s *step) commit(ctx context.Context, changes ...store.Change) error {
	return s.a.commit(ctx, s.act, changes...)
}

// commit makes a change: tried out, prepared, begun, which logs it, committed, put to work, in this order. What cannot be
// compiled is refused before anything of it is durable. It needs a.change.
func (a *Agent) commit(ctx context.Context, begin func(context.Context) error, changes ...store.Change) error {
	next, err := store.Apply(a.c.Store.State(), changes...)
	if err != nil {
		return err
	}
	use, err := a.c.Prepare(next)
	if err != nil {
		return err
	}
	if err := begin(ctx); err != nil {
		return err
	}
	if _, err := a.c.Store.Commit(ctx, changes...); err != nil {
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
