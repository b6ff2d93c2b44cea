package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A step is one command on its way.
//
//	asking --(answers complete)--> begun --> shown            a command that only looks
//	                                 '-----> acted --> told   a command that changes something
//
// Questions come first and have no effect. begin logs the command, and only what has begun can write or act. Once it acts,
// its text is kept back until its outcome is logged.
type step struct {
	a       *Agent
	ctx     context.Context // of the request, for the lazy begin in Write
	command console.Command
	does    action
	line    string
	officer store.Officer
	session wire.Session
	answers []string
	out     io.Writer
	width   int // of the terminal; 0: columns. What is kept, signed or read by programs is not set for it

	dry      *draft         // not nil: it runs up to where it would begin to act, and no further
	approved *store.Request // not nil: the officer asked for it, and it is approved now
	approver string
	passed   []store.Secret // that were typed with what is approved

	begun bool
	kept  *bytes.Buffer // once it acts
	json  *object       // not nil: what is shown is one JSON object
	end   bool          // the session is over

	viewed, view *store.State // of a team: what the view is of, and the view

	waiting uint64 // the number of the request that it has become
}

// A question is the error of a command that needs another answer first.
type question wire.Question

func (q question) Error() string { return "waits for " + string(q.Kind) }

// next returns the answer to a question, or the question as an error.
func (s *step) next(kind wire.Kind, prompt string) (string, error) {
	if kind == wire.Confirm && (s.dry != nil || s.approved != nil) {
		s.tell(prompt) // what a draft would ask; what was approved was confirmed
		return wire.Yes, nil
	}
	switch {
	case len(s.answers) > 0:
	case s.approved != nil: // who approves is not asked what the asker was
		return "", errors.New("it asks for more than was given with it")
	default:
		return "", question{kind, prompt}
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	if s.dry != nil && kind == wire.Paste {
		s.dry.pasted = append(s.dry.pasted, a)
	}
	return a, nil
}

var errNotConfirmed = errors.New("not confirmed; nothing was done")

// confirm asks for a yes.
func (s *step) confirm(format string, a ...any) error {
	got, err := s.next(wire.Confirm, fmt.Sprintf(format, a...))
	if err == nil && got != wire.Yes {
		return errNotConfirmed
	}
	return err
}

// pass has an officer who is logged in pass the door as o. Others are not to wait for who waits there, so that it gives up a.change meanwhile: nothing
// has begun yet, and what was known of the account counts afterwards only if it is still so.
func (s *step) pass(ctx context.Context, o store.Officer, try func() error) error {
	err := func() error {
		s.a.change.Unlock()
		defer s.a.change.Lock()
		return s.a.door.pass(ctx, try)
	}()
	is, ok := s.a.who(s.session)
	switch {
	case !ok:
		s.end = true
		return errors.New("you are not logged in: the session has ended")
	case err != nil:
		return err
	case s.a.inError() != nil && !s.does.mend:
		return fmt.Errorf("nothing was done: %w", s.a.inError())
	case is.Hash != o.Hash || !sameCodes(is.Codes, o.Codes):
		return errors.New("your passphrase or second factor was changed meanwhile; nothing was done. Say it again")
	}
	return nil
}

// sameCodes reports whether two second factors have one secret, or neither is one.
func sameCodes(x, y *store.Codes) bool {
	if x == nil || y == nil {
		return x == y
	}
	a, b := x.Secret.Bytes(), y.Secret.Bytes()
	defer clear(a)
	defer clear(b)
	return secretHash(a) == secretHash(b)
}

// A commandRecord is the private part of a command's records.
type commandRecord struct {
	Officer string `json:"officer,omitempty"`
	Line    string `json:"line"`
	Stage   string `json:"stage"` // asked, done or failed
	Detail  string `json:"detail,omitempty"`

	Request  uint64 `json:"request,omitempty"`  // that it waits as, or was approved as
	Approver string `json:"approver,omitempty"` // the second officer
}

// Stages of a command's records.
const (
	stageAsked    = "asked"
	stageDone     = "done"
	stageFailed   = "failed"
	stageWaits    = "waits" // for a second officer
	stageRejected = "rejected"
	stageExpired  = "expired"
)

// begin logs the command, once. A command that helps to mend the box goes on without a log.
func (s *step) begin(ctx context.Context) error {
	if s.begun {
		return nil
	}
	if s.dry != nil {
		return errActs
	}
	err := s.record(ctx, receipt.Command, stageAsked, "")
	if err != nil && !s.does.mend {
		return fmt.Errorf("nothing was done: the log takes no record (%w). Until that is mended only help, logout, status, log health, log size, "+
			"time show, network show, board show, syslog show, system support, system maintenance, zeroize, reboot and poweroff work", err)
	}
	s.begun = true
	return nil
}

func (s *step) record(ctx context.Context, kind receipt.Kind, stage, detail string) error {
	if s.a.c.Log == nil {
		return nil // not enrolled: there is no log
	}
	r := commandRecord{Officer: s.officer.Name, Line: s.line, Stage: stage, Detail: clip(detail), Approver: s.approver}
	r.Request = s.waiting
	if s.approved != nil {
		r.Request = s.approved.Number
	}
	_, err := s.a.c.Log.Append(ctx, audit.Entry{Kind: kind, Private: r})
	return err
}

// Write shows text, logging the command first.
func (s *step) Write(p []byte) (int, error) {
	switch {
	case s.dry != nil:
		return len(p), nil
	case s.json != nil:
		return s.json.Write(p)
	case s.kept != nil:
		return s.kept.Write(p)
	}
	if err := s.begin(s.ctx); err != nil {
		return 0, err
	}
	return s.out.Write(p)
}

// act logs the command, which is about to change something, and from now on keeps back its text. On a full disk nothing begins but what
// makes room: it could be left half done.
func (s *step) act(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.a.full(); err != nil && !s.does.mend && !s.does.room {
		return fmt.Errorf("nothing was done: %w", err)
	}
	if s.kept == nil {
		s.kept = new(bytes.Buffer)
	}
	return nil
}

// finish logs what came of a command that acted, shows what it wrote, and turns its error into an answer.
func (s *step) finish(ctx context.Context, err error) wire.Outcome {
	var q question
	if errors.As(err, &q) {
		ask := wire.Question(q)
		return wire.Outcome{Ask: &ask}
	}
	if begun := s.begin(ctx); err == nil {
		err = begun
	}
	if err == nil {
		err = s.object()
	}
	o := wire.Outcome{End: s.end}
	detail := ""
	if err != nil {
		o.Error, detail = clip(sentenceTo(err, across(s))), clip(sentence(err))
	}
	if s.kept == nil && err == nil || !s.begun {
		return o
	}
	stage := stageDone
	switch {
	case err != nil:
		stage = stageFailed
	case s.waiting != 0:
		stage = stageWaits
	}
	if logged := s.record(ctx, cmp.Or(s.does.kind, receipt.Command), stage, detail); logged != nil && !s.does.mend {
		o.Error = sentenceTo(errors.Join(err, fmt.Errorf("what came of this command is not in the log: %w", logged)), across(s))
	}
	if s.kept == nil {
		return o
	}
	s.out.Write(s.kept.Bytes()) // a console that has gone is told nothing; the log knows
	return o
}
