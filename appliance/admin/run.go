package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

const notLoggedIn = "You are not logged in: the session has ended."

// Do executes one line of the console.
func (a *Agent) Do(ctx context.Context, r wire.Request, out io.Writer) wire.Outcome {
	if _, ok := a.who(r.Session); !ok {
		return wire.Outcome{Error: notLoggedIn, End: true}
	}
	cmd, rights, err := console.Read(r.Line)
	var syntax *console.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return wire.Outcome{Error: syntax.Caret()}
	case err != nil:
		return wire.Outcome{Error: sentence(err)}
	case !console.Allowed(cmd, a.c.Mode):
		return wire.Outcome{Error: a.refusal()}
	}
	do, ok := a.find(cmd)
	if !ok {
		return wire.Outcome{Error: sentence(fmt.Errorf("%T is not executed here", cmd))}
	}
	if !do.long {
		a.change.Lock()
		defer a.change.Unlock()
		ctx = context.WithoutCancel(ctx) // a change is not left half done because the officer went away
	}
	who, ok := a.who(r.Session)
	if !ok {
		return wire.Outcome{Error: notLoggedIn, End: true} // while the line waited for its turn
	}
	if c, ok := cmd.(console.Approve); ok {
		do.mend = a.mends(c.Request)
	}
	_, view, _ := console.Split(r.Line) // it was read
	s := &step{a: a, json: objectFor(view), ctx: ctx, command: cmd, does: do, line: r.Line, officer: who, session: r.Session, answers: r.Answers, out: out}
	if s.json == nil {
		s.width = r.Width()
	}
	defer a.sessions.officer(r.Session) // who waited for a long answer was not idle
	if err := s.may(rights); err != nil {
		return s.finish(ctx, err)
	}
	if err := s.a.inError(); err != nil && !do.mend {
		return s.finish(ctx, fmt.Errorf("nothing was done: %w", err))
	}
	if !do.long {
		s.a.lapse()
		s.a.expire(ctx)
	}
	if s.waits(rights) {
		return s.finish(ctx, s.ask(ctx))
	}
	return s.finish(ctx, do.run(s, ctx))
}

// may refuses what an officer's duty is not. A box that is not in service has no officers.
func (s *step) may(r console.Rights) error {
	switch {
	case s.a.c.Mode != console.Enrolled:
		return nil
	case s.officer.Duty == store.Maintainer:
		return maintains(s.officer, s.command, r)
	case !r.Has(dutyOf(s.officer)):
		return fmt.Errorf("that is not for %s, whose duty is %s, but for: %s. What you can do: help", s.officer.Name, dutyWords(s.officer), r)
	}
	return nil
}

// dutyOf is an officer's duty as commands have it.
func dutyOf(o store.Officer) console.Duty { return console.Duty(o.Duty) }

// who returns the officer of a session, as the state has them now. A box that is not in service has none, and none is
// asked for.
func (a *Agent) who(id wire.Session) (store.Officer, bool) {
	if a.c.Mode != console.Enrolled {
		return store.Officer{}, true
	}
	name, ok := a.sessions.officer(id)
	if !ok {
		return store.Officer{}, false
	}
	return a.c.Store.State().Officer(name)
}

func (a *Agent) refusal() string {
	if a.c.Mode == console.Maintenance {
		return sentence(fmt.Errorf("this box is in maintenance: %s. Nothing is open and nothing is served; only status, system events, system secrets, system support, enrol request, enrol install, reboot and poweroff work", a.c.Reason))
	}
	if a.c.Mode == console.Locked {
		return sentence(fmt.Errorf("this box is locked: %s. It serves nothing until that is mended; only status, system events, system secrets, system support, enrol install, zeroize, reboot and poweroff work", a.c.Reason))
	}
	if a.c.Mode == console.Attended {
		return sentence(fmt.Errorf("this box waits: %s. Only unlock, status, system events, system secrets, system support, reboot and poweroff work until then", a.c.Reason))
	}
	return "This box is not in service yet; only status, system events, system secrets, system support, enrol request, enrol install, enrol listen, reboot and poweroff work."
}
