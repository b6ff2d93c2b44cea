package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A job is one header of a request on its way through the pipeline.
type job struct {
	envelope block.Envelope
	hash     receipt.Hash
	grant    policy.Grant // valid if the decision was yes
	trace    policy.Trace
	key      kra.MessageKey // once unwrapped and fitting the header
	sealed   *kra.Sealed    // instead of key: it never left the HSM
	opened   bool
	gone     bool            // the HSM does not have its key any more
	other    bool            // opened by another key of the header
	terse    bool            // its record does not hold the decision
	ready    json.RawMessage // the private part of its record, should its key leave; nil: not written yet
	entry    audit.Entry

	held    []asked // what services set aside for it
	answers []policy.Answer
	before  []audit.Entry // of unwraps that came before entry's
}

// errUnavailable means that the request could not be served, whatever the decision was: no HSM, or no log.
var errUnavailable = errors.New("unavailable")

// parse closes the headers of a request.
func parse(req kra.Request) ([]job, error) {
	jobs := make([]job, len(req.Headers()))
	for i, raw := range req.Headers() {
		e, err := parseEnvelope(raw)
		if err != nil {
			return nil, fmt.Errorf("headers[%d]: %w", i, err)
		}
		jobs[i].envelope, jobs[i].hash = e, e.Hash()
	}
	return jobs, nil
}

// run takes every job from decision to log and returns the answer. What was unwrapped is in the log when run returns,
// however it returns, unless the log failed; then no key leaves.
func (s *Server) run(ctx context.Context, book *policy.Book, c *claimant, jobs []job) (kra.Response, error) {
	defer drop(jobs)
	defer s.cancel(ctx, jobs)
	began := time.Now()
	if c.refuse == nil {
		s.decide(ctx, book, c, jobs)
	} else {
		refuseAll(c, jobs)
	}
	fit(c, jobs)
	custodyErr := s.unwrap(ctx, c, jobs)
	if custodyErr == nil {
		custodyErr = s.others(ctx, book, c, jobs)
	}
	patience := s.patience(began)
	entries := make([]audit.Entry, 0, len(jobs))
	at := make([]int, len(jobs))
	for i := range jobs {
		entries = append(entries, jobs[i].before...)
		at[i] = len(entries)
		entries = append(entries, jobs[i].entry)
	}
	for i := range entries {
		entries[i].Patience = patience
	}
	done, err := s.append(ctx, entries)
	if err != nil {
		s.unlogged(entries)
		return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if custodyErr != nil && c.facts.Channel == policy.Authenticated {
		return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, custodyErr)
	}
	// Who proved nothing would learn from an error that the decision was yes: every job is refused then.
	if err := s.capture(ctx, c, jobs); err != nil {
		return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return answer(c, jobs, at, done)
}

// decide asks the book about every job, and services for what the book wants to know of them.
func (s *Server) decide(ctx context.Context, book *policy.Book, c *claimant, jobs []job) {
	within, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	for i := range jobs {
		j := &jobs[i]
		grant, err := s.decideOne(within, book, c, j)
		var no *policy.Refusal
		switch {
		case err == nil && !whole(book, grant, j.envelope):
			j.trace = grant.Trace()
			j.refuse(c, "header without its MAC")
		case err == nil:
			j.grant, j.trace = grant, grant.Trace()
		case errors.As(err, &no):
			j.trace = no.Trace()
			j.refuse(c, no.Reason().String())
		default:
			j.refuse(c, err.Error())
		}
	}
}

// whole reports whether enough of the header is there: all of it, unless the officers said otherwise.
func whole(book *policy.Book, g policy.Grant, e block.Envelope) bool {
	if e.Format() != block.FormatAge || e.Bound() {
		return true
	}
	a, _ := book.Access(g.Access())
	return a.Portion == policy.AnyPortion
}

// unwrap has the HSM open the wraps of all grants at once. An error means that the outcome of none of them is known.
func (s *Server) unwrap(ctx context.Context, c *claimant, jobs []job) error {
	grants := make([]policy.Grant, 0, len(jobs))
	for i := range jobs {
		if jobs[i].grant.Valid() {
			grants = append(grants, jobs[i].grant)
		}
	}
	if len(grants) == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	results, head, err := s.open(within, c, jobs, grants)
	if err == nil && len(results) != len(grants) {
		err = fmt.Errorf("custody gave %d results for %d grants", len(results), len(grants))
	}
	last := -1
	for i, n := 0, 0; i < len(jobs); i++ {
		switch {
		case !jobs[i].grant.Valid():
		case err != nil:
			jobs[i].refuse(c, "custody: "+err.Error())
		default:
			jobs[i].take(c, i, results[n], head.Instance)
			last, n = i, n+1
		}
	}
	if last >= 0 {
		jobs[last].entry.HSM = head
	}
	return err
}

// patience is how long a record may wait for others on its way to the log: where requests queue before the HSM, a small
// part of the time that has passed since; where there is no other request, not at all.
func (s *Server) patience(began time.Time) time.Duration {
	if s.count.inFlight.Load() < 2 {
		return 0
	}
	return time.Since(began) / patienceShare
}

// append logs the entries, with time of its own, however long the HSM took.
func (s *Server) append(ctx context.Context, entries []audit.Entry) (audit.Committed, error) {
	within, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	return s.o.Journal.Append(within, entries...)
}

// unlogged has somebody write down what the HSM did, if it did anything: the records of it are not in the log, or nobody
// knows.
func (s *Server) unlogged(entries []audit.Entry) {
	did := func(e audit.Entry) bool { return e.Item != nil }
	if s.o.Unlogged != nil && slices.ContainsFunc(entries, did) {
		s.o.Unlogged()
	}
}

// take records what the HSM did for the job and keeps the key if it is this header's.
func (j *job) take(c *claimant, result int, u Unwrapped, instance receipt.Instance) {
	err := u.Err
	switch {
	case err == nil && len(u.Sealed) > 0:
		err = j.passOn(c, u.Sealed)
	case err == nil:
		err = u.Key.Use(j.keep)
	}
	if err != nil {
		j.refuse(c, "unwrap: "+err.Error())
	} else {
		j.entry = audit.Entry{Kind: receipt.Release, Access: string(j.grant.Access()), Private: j.released(c), Answer: j.answer(c, result), Shown: (*receipt.Hash)(c.showed)}
	}
	j.entry.Book, j.entry.Header = j.trace.Version(), &j.hash
	j.gone = errors.Is(u.Err, ErrNoKey)
	w := j.grant.Wrap()
	j.entry.Item = &receipt.Item{Instance: instance, N: u.Seq, Key: receipt.Hash(w.KeyID()), Ciphertext: w.Hash()}
}

// keep keeps a copy of the key once it is found to be the header's: for age, the header's MAC is made under it. Else a
// stanza that somebody made himself, or took from another block, would open this one.
func (j *job) keep(key []byte) error {
	if err := j.envelope.Check(key); err != nil {
		return err
	}
	own, err := block.NewFileKey(append([]byte(nil), key...))
	j.key, j.opened = own, err == nil
	return err
}

// refuseAll refuses the claimant, whatever he asks for. Why, and what was noted, the first record says.
func refuseAll(c *claimant, jobs []job) {
	reason := c.refuse.Error()
	for i := range jobs {
		jobs[i].refuse(c, reason)
		reason, c.notes = asFirst, nil
	}
}

// refuse makes the job's entry a refusal. The reason goes to the log only.
func (j *job) refuse(c *claimant, reason string) {
	j.entry = audit.Entry{Kind: receipt.Refusal, Book: j.trace.Version(), Header: &j.hash, Private: j.private(c, reason)}
}
