// Package selftest holds the algorithms that the agent relies on to known answers, at each start and on command, and keeps the verdict.
//
//	untested --Run--> good --Run--> good
//	   '----Run--->  error <--Run---'      for good: only a restart leaves it
//
// In the state error the agent hands out nothing. What the HSM computes, hsmd tests; each new key gets a pairwise test there.
package selftest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A test holds one algorithm to its known answer. check must refuse any other answer.
type test struct {
	name   string
	answer string // hexadecimal
	check  func(answer []byte) error
}

// A Part is a test that what this package knows does not suffice for. Its error says what is wrong.
type Part struct {
	Name string
	Err  error
}

// A Suite is the tests of one process, and what came of them.
type Suite struct {
	tests  []test
	failed atomic.Pointer[error] // the first failure, for good
	ran    atomic.Bool
}

// New returns all tests, of which none was run.
func New() *Suite { return &Suite{tests: known} }

// A Report is what came of one run.
type Report struct {
	Passed []string
	Failed []error
	Took   time.Duration
}

// Run runs all tests, also those after one that failed, and takes in what came of others. Each has its result; one that panics has failed.
func (s *Suite) Run(others ...Part) (r Report) {
	began := time.Now()
	parts := make([]Part, 0, len(s.tests)+len(others))
	for _, t := range s.tests {
		parts = append(parts, Part{t.name, t.run()})
	}
	for _, p := range append(parts, others...) {
		if p.Err != nil {
			err := fmt.Errorf("self-test of %s: %w", p.Name, p.Err)
			r.Failed = append(r.Failed, err)
			s.failed.CompareAndSwap(nil, &err)
			continue
		}
		r.Passed = append(r.Passed, p.Name)
	}
	s.ran.Store(true)
	r.Took = time.Since(began)
	return r
}

var errUntested = errors.New("no self-test was run yet")

// Health returns nil after every run was good, and otherwise the first failure.
func (s *Suite) Health() error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("state error, nothing is released: %w; restart the box, and replace it if that does not help", *err)
	}
	if !s.ran.Load() {
		return errUntested
	}
	return nil
}

func (t test) run() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	answer, err := hex.DecodeString(t.answer)
	if err != nil {
		return fmt.Errorf("read known answer: %w", err)
	}
	return t.check(answer)
}
