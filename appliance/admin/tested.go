package admin

import (
	"cmp"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
)

// inError returns why the agent is in the state error, or nil.
func (a *Agent) inError() error {
	if a.c.Failed == nil {
		return nil
	}
	return a.c.Failed()
}

// full returns why the disk takes no change, or nil. A log that is broken says so itself.
func (a *Agent) full() error {
	if a.c.Log == nil || a.c.Store == nil {
		return nil
	}
	if err := a.c.Log.Health(); errors.Is(err, audit.ErrFull) {
		return err
	}
	return a.c.Store.Room()
}

var errNoSelfTest = errors.New("this agent has no self-test")

// systemTest tests the agent's algorithms and programs. What fails is for good: from then on nothing is released.
func (s *step) systemTest(ctx context.Context) error {
	if s.a.c.SelfTest == nil {
		return errNoSelfTest
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	r, err := s.a.c.SelfTest(ctx)
	if err != nil {
		return err
	}
	for _, name := range r.Passed {
		field(s, "passed", name)
	}
	for _, err := range r.Failed {
		field(s, "FAILED", printable(err.Error()))
	}
	if len(r.Failed) > 0 {
		return s.a.inError()
	}
	field(s, "cryptography", cryptography())
	at, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask the module for its self-tests: %w", err)
	}
	for _, c := range at.Report.Checks {
		field(s, "module", c.Name+": "+cmp.Or(c.Failure, "passed when the token was opened"))
	}
	return s.say("%s passed in %s.", count(len(r.Passed), "self-test", "self-tests"), r.Took.Round(time.Millisecond))
}

// cryptography says which module computes, and in which mode.
func cryptography() string {
	if !fips140.Enabled() {
		return "Go's, FIPS 140 mode off"
	}
	if fips140.Enforced() {
		return "Go's, FIPS 140 mode only, module " + fips140.Version()
	}
	return "Go's, FIPS 140 mode on, module " + fips140.Version()
}
