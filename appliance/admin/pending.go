package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

// waitLimit is how long a request waits for a second officer.
const waitLimit = 24 * time.Hour

// waits reports whether the command needs a second officer now.
func (s *step) waits(r console.Rights) bool {
	return s.a.c.Mode == console.Enrolled && s.state().Two() && r.Second(s.state().Control().Rules)
}

// ask has a command wait for a second officer.
//
//	asked --dry run, confirmed--> waits --approve--> done or failed
//	                                |  '--reject---> rejected
//	                                '----time------> expired
func (s *step) ask(ctx context.Context) error {
	if err := s.mayAsk(); err != nil {
		return err
	}
	d, err := s.dryRun(ctx)
	if err != nil {
		return err
	}
	basis, err := d.digest(strings.TrimSpace(s.line))
	if err != nil {
		return err
	}
	now := s.a.now()
	r := store.Request{By: s.officer.Name, Team: s.officer.Team, Line: strings.TrimSpace(s.line), Secrets: d.secrets, Hash: d.hash, Told: d.told, Basis: basis, Made: now, Until: now.Add(waitLimit)}
	for _, p := range d.pasted {
		r.Pasted = append(r.Pasted, store.NewSecret([]byte(p)))
	}
	if len(r.Told) == 0 {
		r.Told = []string{"Do that?"}
	}
	if _, err := store.Apply(s.state(), store.RequestAdd{Request: r}); err != nil {
		return err
	}
	if err := s.confirm("%s This waits for a second officer. Ask for it?", strings.Join(d.told, " ")); err != nil {
		return err
	}
	if err := s.commit(ctx, store.RequestAdd{Request: r}); err != nil {
		return err
	}
	s.waiting = s.state().LastRequest()
	return s.say("Request %d waits for a second officer until %s: approve %[1]d", s.waiting, stamp(r.Until))
}

// mayAsk refuses who is no officer: it takes two of them, and whoever approves must not have asked under another account with
// a lesser duty.
func (s *step) mayAsk() error {
	if s.officer.Duty != store.Chief && s.officer.Duty != store.TeamOfficer {
		return fmt.Errorf("this takes two officers: one has to ask for it and another to approve it, and %s is not one", s.officer.Name)
	}
	return nil
}

// expire ends the requests that have waited too long.
func (a *Agent) expire(ctx context.Context) {
	if a.c.Mode != console.Enrolled || a.full() != nil {
		return
	}
	for _, r := range a.c.Store.State().Requests() {
		if r.Waits(a.now()) {
			continue
		}
		_, err := a.c.Log.Append(ctx, audit.Entry{Kind: receipt.Command, Private: commandRecord{Officer: r.By, Line: r.Line, Stage: stageExpired, Request: r.Number}})
		if err == nil {
			_, err = a.c.Store.Commit(ctx, store.RequestEnd{Number: r.Number})
		}
		if err != nil {
			return // it can be approved no more all the same
		}
	}
}

func (s *step) pendingList() error {
	t := newTable("REQUEST", "BY", "UNTIL", "COMMAND")
	for _, r := range s.state().Requests() {
		if s.sees(r) {
			t.row(fmt.Sprint(r.Number), r.By, stamp(r.Until), r.Line)
		}
	}
	return t.print(s, "Nothing waits for a second officer.")
}

// sees reports whether a request is an officer's business. What a team asked for stays the team's, whatever becomes of who typed it.
func sees(o store.Officer, r store.Request) bool {
	switch o.Duty {
	case store.Chief, store.Auditor:
		return true
	case store.TeamOfficer:
		return r.Team == o.Team
	}
	return r.By == o.Name
}

func (s *step) sees(r store.Request) bool { return sees(s.officer, r) }

// waitingAs finds a request, and what would be done for it now. Why it can be done no more is the second error.
func (s *step) waitingAs(ctx context.Context, number uint64) (r store.Request, as *step, d *draft, gone, err error) {
	r, ok := s.state().Request(number)
	if !ok || !s.sees(r) || !r.Waits(s.a.now()) {
		return r, nil, nil, nil, fmt.Errorf("there is no request %d; what waits: pending", number)
	}
	as = &step{a: s.a, ctx: s.ctx, line: r.Line, approved: &r, approver: s.officer.Name, passed: r.Secrets, out: s.out, width: s.width}
	for _, p := range r.Pasted {
		as.answers = append(as.answers, string(p.Bytes()))
	}
	d, gone = as.redraft(ctx)
	return r, as, d, gone, nil
}

// mends says whether a request is for what looks after a box that can do nothing else.
func (a *Agent) mends(number uint64) bool {
	if a.c.Store == nil {
		return false
	}
	r, _ := a.c.Store.State().Request(number)
	cmd, _, err := console.Read(r.Line)
	if err != nil {
		return false
	}
	do, ok := a.find(cmd)
	return ok && do.mend
}

// redraft finds out what a request would do now, and whether that is what it was about.
func (s *step) redraft(ctx context.Context) (*draft, error) {
	var rights console.Rights
	var err error
	if s.command, rights, err = console.Read(s.line); err != nil {
		return nil, err
	}
	var ok bool
	if s.does, ok = s.a.find(s.command); !ok {
		return nil, fmt.Errorf("%T is not executed here", s.command)
	}
	if s.officer, ok = s.state().Officer(s.approved.By); !ok {
		return nil, fmt.Errorf("%s is no officer any more", s.approved.By)
	}
	if s.officer.Team != s.approved.Team {
		return nil, fmt.Errorf("%s is not who asked for it any more, but %s", s.officer.Name, dutyWords(s.officer))
	}
	if err := errors.Join(s.may(rights), s.mayAsk()); err != nil {
		return nil, err
	}
	dry := *s
	d, err := dry.dryRun(ctx)
	if err != nil {
		return nil, err
	}
	basis, err := d.digest(s.line)
	if err == nil && basis != s.approved.Basis {
		err = errors.New("what it depends on is not what it was")
	}
	return d, err
}

func (s *step) pendingShow(ctx context.Context, c console.PendingShow) error {
	r, _, d, gone, err := s.waitingAs(ctx, c.Request)
	if err != nil {
		return err
	}
	field(s, "request", fmt.Sprint(r.Number))
	field(s, "by", r.By)
	field(s, "asked", stamp(r.Made))
	field(s, "until", stamp(r.Until))
	field(s, "command", printable(r.Line))
	for _, t := range r.Told {
		field(s, "asks", printable(t))
	}
	if d != nil {
		for _, line := range changeLines(d.changed) {
			field(s, "would", printable(line))
		}
	}
	for i, p := range r.Pasted {
		b := p.Bytes()
		field(s, fmt.Sprintf("pasted %d", i+1), fmt.Sprintf("%d bytes, SHA-256 %x", len(b), sha256.Sum256(b)))
	}
	if n := len(r.Secrets); n > 0 {
		field(s, "typed", count(n, "secret", "secrets")+", kept until this ends and shown to nobody")
	}
	if r.Hash != "" {
		field(s, "typed", "a passphrase, of which only a hash is kept")
	}
	if gone != nil {
		return field(s, "NOT ANY MORE", sentenceTo(gone, across(s)))
	}
	return field(s, "state", "as it was when this was asked")
}

// approve has done what another officer asked for, if that is still what it was. It is done once: the request ends first.
func (s *step) approve(ctx context.Context, c console.Approve) error {
	r, as, _, gone, err := s.waitingAs(ctx, c.Request)
	switch {
	case err != nil:
		return err
	case r.By == s.officer.Name:
		return fmt.Errorf("request %d is your own: another officer has to approve it", r.Number)
	case s.officer.Given:
		return errors.New("somebody else has chosen your passphrase, and could be you; first: officer passphrase")
	case gone != nil:
		return fmt.Errorf("nothing was done: %v. Reject request %d, and have it asked for again", gone, r.Number)
	}
	s.does.room = as.does.room // a full disk takes the end of the request, too
	if err := s.confirm("%s asks for: %s. %s Do it?", r.By, printable(r.Line), printable(strings.Join(r.Told, " "))); err != nil {
		return err
	}
	if err := s.commit(ctx, store.RequestEnd{Number: r.Number}); err != nil && !as.does.mend {
		return err
	}
	s.say("Request %d of %s: %s", r.Number, r.By, printable(r.Line))
	as.out = s // text, or part of one JSON object
	if o := as.finish(ctx, as.does.run(as, ctx)); o.Error != "" {
		return fmt.Errorf("approved, and failed: %s", o.Error)
	}
	return nil
}

func (s *step) reject(ctx context.Context, c console.Reject) error {
	r, ok := s.state().Request(c.Request)
	if !ok || !s.sees(r) {
		return fmt.Errorf("there is no request %d; what waits: pending", c.Request)
	}
	if err := s.commit(ctx, store.RequestEnd{Number: r.Number}); err != nil {
		return err
	}
	as := &step{a: s.a, line: r.Line, officer: store.Officer{Name: r.By}, approved: &r, approver: s.officer.Name}
	if err := as.record(ctx, receipt.Command, stageRejected, ""); err != nil {
		return err
	}
	return s.say("Request %d of %s was %s: %s", r.Number, r.By, cmp.Or(map[bool]string{true: "withdrawn"}[r.By == s.officer.Name], "rejected"), printable(r.Line))
}

func (s *step) dualShow() error {
	c, st := s.state().Control(), s.state()
	switch {
	case c.Off:
		field(s, "dual control", "off: one officer does everything alone")
	case st.Chiefs() < 2:
		field(s, "dual control", "not yet: there is one officer; with a second one it begins")
	default:
		field(s, "dual control", "on: what weakens or destroys waits for a second officer")
	}
	rules := "may be changed by one officer"
	if c.Rules {
		rules = "wait too"
	}
	field(s, "rules", rules)
	return field(s, "waiting", count(len(slices.DeleteFunc(st.Requests(), func(r store.Request) bool { return !s.sees(r) })), "request", "requests"))
}

// dualSet changes what waits for a second officer.
func dualSet(change func(*store.Control)) func(*step, context.Context) error {
	return func(s *step, ctx context.Context) error {
		c := s.state().Control()
		change(&c)
		set := store.ControlSet(c)
		next, err := store.Apply(s.state(), set)
		if err != nil {
			return err
		}
		if now := s.state().Control(); now.Off != c.Off && c.Off || now.Rules && !c.Rules {
			if err := s.confirm("Let one officer do alone what waited for a second one?"); err != nil {
				return err
			}
		}
		if err := s.commit(ctx, set); err != nil {
			return err
		}
		if next.Control().Off {
			return s.say("One officer does everything alone now.")
		}
		return s.dualShow()
	}
}
