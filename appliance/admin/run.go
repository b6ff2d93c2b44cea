package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

const notLoggedIn = "You are not logged in: the session has ended."

// Do executes one line of the console.
func (a *Agent) Do(ctx context.Context, r wire.Request, out io.Writer) wire.Outcome {
	officer := ""
	if a.c.Mode == console.Enrolled {
		var ok bool
		if officer, ok = a.sessions.officer(r.Session); !ok {
			return wire.Outcome{Error: notLoggedIn, End: true}
		}
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
	if !reads(cmd) {
		a.change.Lock()
		defer a.change.Unlock()
		if _, ok := a.sessions.officer(r.Session); a.c.Mode == console.Enrolled && !ok {
			return wire.Outcome{Error: notLoggedIn, End: true} // while the line waited for its turn
		}
		ctx = context.WithoutCancel(ctx) // a change is not left half done because the officer went away
	}
	s := &step{a: a, ctx: ctx, command: cmd, line: r.Line, officer: officer, session: r.Session, answers: r.Answers, out: out}
	defer a.sessions.officer(r.Session) // who waited for a long answer was not idle
	return s.finish(ctx, s.run(ctx))
}

func (a *Agent) refusal() string {
	if a.c.Mode == console.Locked {
		return sentence(fmt.Errorf("this box is locked: %s. It serves nothing until that is mended; only status, enrol install, reboot and poweroff work", a.c.Reason))
	}
	return "This box is not in service yet; only status, enrol request, enrol install, reboot and poweroff work."
}

// reads reports commands that may take long, change nothing, and stop when nobody listens any more.
func reads(c console.Command) bool {
	switch c.(type) {
	case console.LogExport, console.LogVerify, console.LogShow:
		return true
	}
	return false
}

// run executes the command.
func (s *step) run(ctx context.Context) error {
	switch c := s.command.(type) {
	case console.Nothing:
		return nil
	case console.Help:
		_, err := io.WriteString(s, console.HelpText(c.Topic, s.a.c.Mode))
		return err
	case console.Logout:
		return s.logout(ctx)
	case console.Status:
		return s.status(ctx)
	case console.Reboot:
		return s.reboot(ctx)
	case console.PowerOff:
		return s.powerOff(ctx)
	case console.EnrolRequest:
		return s.enrolRequest(ctx)
	case console.EnrolInstall:
		return s.enrolInstall(ctx)
	case console.TimeShow:
		return s.timeShow()
	case console.TimeSet:
		return s.timeSet(ctx, c)
	case console.LogShow:
		return s.logShow(c)
	case console.LogSize:
		return s.logSize()
	case console.LogExport:
		return s.logExport(c)
	case console.LogVerify:
		return s.logVerify(ctx)
	case console.LogHealth:
		return s.logHealth()
	case console.NetworkShow:
		return s.networkShow(ctx)
	case console.NetworkStatic:
		return s.networkStatic(ctx, c)
	case console.NetworkDHCP:
		return s.networkDHCP(ctx)
	case console.OfficerList:
		return s.officerList()
	case console.OfficerAdd:
		return s.officerAdd(ctx, c)
	case console.OfficerRemove:
		return s.officerRemove(ctx, c)
	case console.OfficerPassphrase:
		return s.officerPassphrase(ctx)
	}
	return s.runPolicy(ctx)
}

// runPolicy executes the commands about keys and who may have them.
func (s *step) runPolicy(ctx context.Context) error {
	switch c := s.command.(type) {
	case console.KeyGenerate:
		return s.keyGenerate(ctx, c)
	case console.KeyImport:
		return s.keyImport(ctx, c)
	case console.KeyList:
		return s.keyList()
	case console.KeyShow:
		return s.keyShow(c)
	case console.KeyMark:
		return s.keyMark(ctx, c)
	case console.AccessAdd:
		return s.accessAdd(ctx, c)
	case console.AccessList:
		return s.accessList()
	case console.AccessShow:
		return s.accessShow(c)
	case console.AccessTitle:
		return s.accessTitle(ctx, c)
	case console.AccessLists:
		return s.accessLists(ctx, c)
	case console.AccessKeys:
		return s.accessKeys(ctx, c)
	case console.AccessRemove:
		return s.accessRemove(ctx, c)
	case console.AccessTest:
		return s.accessTest(c)
	case console.WhoAmI:
		return s.whoAmI(c)
	case console.RuleAdd:
		return s.ruleAdd(ctx, c)
	case console.RuleSet:
		return s.ruleSet(ctx, c)
	case console.RuleList:
		return s.ruleList()
	case console.RuleShow:
		return s.ruleShow(c)
	case console.RuleRemove:
		return s.ruleRemove(ctx, c)
	}
	return s.runPeople(ctx)
}

// runPeople executes the commands about decryptors and those who vouch for them.
func (s *step) runPeople(ctx context.Context) error {
	switch c := s.command.(type) {
	case console.GroupAdd:
		return s.groupAdd(ctx, c)
	case console.GroupRemove:
		return s.groupRemove(ctx, c)
	case console.GroupList:
		return s.groupList()
	case console.GroupShow:
		return s.groupShow(c)
	case console.TrustAdd:
		return s.trustAdd(ctx, c)
	case console.TrustList:
		return s.trustList()
	case console.TrustRemove:
		return s.trustRemove(ctx, c)
	}
	return fmt.Errorf("%T is not executed here", s.command)
}
