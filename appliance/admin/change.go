package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
)

// commit makes a change of an officer's.
func (s *step) commit(ctx context.Context, changes ...store.Change) error {
	changes, err := s.within(changes)
	if err != nil {
		return err
	}
	if s.dry != nil {
		return s.dry.commit(s.a, changes)
	}
	if s.a.full() != nil { // act says so, before anything of the change is in the log
		if err := s.act(ctx); err != nil {
			return err
		}
	}
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
	_, err := fmt.Fprintln(s, foldTo(fmt.Sprintf(format, a...), across(s)-1))
	return err
}

// state is the state that the command sees.
func (s *step) state() *store.State {
	st := s.a.c.Store.State()
	if s.officer.Duty != store.TeamOfficer {
		return st
	}
	if s.viewed != st {
		s.viewed, s.view = st, st.View(s.officer.Team)
	}
	return s.view
}
