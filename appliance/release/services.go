package release

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits of what one header may have external services asked.
const (
	maxRounds    = 8                // services
	settleWithin = 10 * time.Second // for capture or cancel, whatever became of the request
)

// A Question is what an external service is asked about the release of one block's key. It is asked only for a decryptor
// that the secure channel proved.
type Question struct {
	Decryptor   kra.Decryptor
	Source      netip.Addr
	Header      receipt.Hash // of the block
	Presented   kra.Presented
	Information policy.Information
}

// Held is what a service set aside for one release until it is known whether the key leaves. Exactly one of its methods is
// called, once, with time of its own.
type Held interface {
	// Capture makes it final. It is called when the release is in the log and before the key leaves; an error keeps
	// the key in the box.
	Capture(ctx context.Context) error

	// Cancel gives it back. Nobody can do anything about an error, which the log for operators gets.
	Cancel(ctx context.Context) error
}

// services are the external services that rules may ask (external.allows).
type services interface {
	// Ask puts a question to a service and returns its answer and, with an answer that passed, what it set aside, or
	// nil. Doubt of any kind is an answer that did not pass. It is called by many goroutines.
	Ask(ctx context.Context, service string, q Question) (policy.Answer, Held)
}

// An asked is what one service set aside.
type asked struct {
	service string
	held    Held
}

// decideOne decides about one job. A refusal that a service's answer could change is decided again with the answer.
func (s *Server) decideOne(ctx context.Context, book *policy.Book, c *claimant, j *job) (policy.Grant, error) {
	facts := c.facts
	decide := func(answers []policy.Answer) (policy.Grant, error) {
		facts.Answers = answers
		return book.Decide(policy.Request{Envelope: j.envelope, Facts: facts}, c.now)
	}
	for range maxRounds {
		grant, err := decide(j.answers)
		var no *policy.Refusal
		if !errors.As(err, &no) || s.o.Services == nil || facts.Channel != policy.Authenticated {
			return s.needed(j, grant, err, decide)
		}
		service, ok := next(no.Asks(), j.answers)
		if !ok {
			return policy.Grant{}, err
		}
		answer, held := s.o.Services.Ask(ctx, service, Question{c.facts.Decryptor, c.facts.Source, j.hash, c.shown, c.facts.Information})
		answer.Service = service
		if held != nil {
			j.held = append(j.held, asked{service, held})
		}
		j.answers = append(j.answers, answer)
	}
	return decide(j.answers)
}

// next returns the first service that was not asked yet.
func next(wanted []string, answers []policy.Answer) (string, bool) {
	for _, w := range wanted {
		if !slices.ContainsFunc(answers, func(a policy.Answer) bool { return a.Service == w }) {
			return w, true
		}
	}
	return "", false
}

// needed leaves out the answers without which the same would have been granted, so that nothing is captured for them, and
// returns the decision on what is left.
func (s *Server) needed(j *job, grant policy.Grant, err error, decide func([]policy.Answer) (policy.Grant, error)) (policy.Grant, error) {
	if err != nil {
		return grant, err
	}
	for i := len(j.answers) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(j.answers), i, i+1)
		if g, err := decide(without); err == nil && g.Access() == grant.Access() && g.KeyID() == grant.KeyID() {
			grant, j.answers = g, without
		}
	}
	return grant, nil
}

// capture makes final what services set aside for the jobs whose keys are about to leave. A job with one that does not
// stay is refused after all, which the log then says too.
func (s *Server) capture(ctx context.Context, c *claimant, jobs []job) error {
	var failed []audit.Entry
	for i := range jobs {
		j := &jobs[i]
		if !j.opened || len(j.held) == 0 {
			continue
		}
		if err := s.captureOne(ctx, j); err != nil {
			s.o.Log.Error("release not captured", "error", err)
			_ = j.key.Use(func([]byte) error { return nil })
			j.opened = false
			j.refuse(c, "external: "+err.Error())
			failed = append(failed, j.entry)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	_, err := s.append(ctx, failed)
	return err
}

// captureOne leaves to cancel what the decision did not need.
func (s *Server) captureOne(ctx context.Context, j *job) error {
	within, done := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer done()
	var rest []asked
	var err error
	for _, h := range j.held {
		if err != nil || !j.uses(h.service) {
			rest = append(rest, h)
			continue
		}
		if err = h.held.Capture(within); err != nil {
			err = fmt.Errorf("capture %s: %w", h.service, err)
		}
	}
	j.held = rest
	return err
}

func (j *job) uses(service string) bool {
	return slices.ContainsFunc(j.answers, func(a policy.Answer) bool { return a.Service == service })
}

// cancel gives back what was not captured.
func (s *Server) cancel(ctx context.Context, jobs []job) {
	for i := range jobs {
		for _, h := range jobs[i].held {
			within, done := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
			if err := h.held.Cancel(within); err != nil {
				s.o.Log.Error("reservation not cancelled", "service", h.service, "error", err)
			}
			done()
		}
		jobs[i].held = nil
	}
}
