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
	cmd, err := console.Parse(r.Line)
	var syntax *console.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return wire.Outcome{Error: syntax.Caret()}
	case err != nil:
		return wire.Outcome{Error: sentence(err)}
	case !console.Allowed(cmd, a.c.Mode):
		return wire.Outcome{Error: a.refusal()}
	}
	do, ok := actionOf(cmd)
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
	s := &step{a: a, ctx: ctx, command: cmd, does: do, line: r.Line, officer: who, session: r.Session, answers: r.Answers, out: out}
	defer a.sessions.officer(r.Session) // who waited for a long answer was not idle
	if err := maintains(who, cmd); err != nil {
		return s.finish(ctx, err)
	}
	return s.finish(ctx, do.run(s, ctx))
}

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
	if a.c.Mode == console.Locked {
		return sentence(fmt.Errorf("this box is locked: %s. It serves nothing until that is mended; only status, enrol install, reboot and poweroff work", a.c.Reason))
	}
	return "This box is not in service yet; only status, enrol request, enrol install, reboot and poweroff work."
}
