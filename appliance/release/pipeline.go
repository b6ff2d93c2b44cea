package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A job is one header of a request on its way through the pipeline.
type job struct {
	header block.Header
	hash   receipt.Hash
	grant  policy.Grant // valid if the decision was yes
	trace  policy.Trace
	key    kra.MessageKey // once unwrapped and fitting the header
	opened bool
	entry  audit.Entry
}

// errUnavailable means that the request could not be served, whatever the decision was: no HSM, or no log.
var errUnavailable = errors.New("unavailable")

// parse closes the headers of a request.
func parse(req kra.Request) ([]job, error) {
	jobs := make([]job, len(req.Headers()))
	for i, raw := range req.Headers() {
		h, err := block.ParseHeaderBytes(raw)
		if err != nil {
			return nil, fmt.Errorf("headers[%d]: %w", i, err)
		}
		jobs[i].header, jobs[i].hash = h, h.Hash()
	}
	return jobs, nil
}

// run takes every job from decision to log and returns the answer. What was unwrapped is in the log when run returns,
// however it returns, unless the log failed; then no key leaves.
func (s *Server) run(ctx context.Context, book *policy.Book, facts policy.Facts, claim string, jobs []job) (kra.Response, error) {
	defer drop(jobs)
	began := time.Now()
	if facts.Decryptor.Claimed(claim) {
		s.decide(book, facts, jobs)
	} else {
		impostor(facts, claim, jobs)
	}
	custodyErr := s.unwrap(ctx, jobs)
	patience := s.patience(began)
	entries := make([]audit.Entry, len(jobs))
	for i := range jobs {
		entries[i] = jobs[i].entry
		entries[i].Patience = patience
	}
	done, err := s.append(ctx, entries)
	if err != nil {
		return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if custodyErr != nil {
		return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, custodyErr)
	}
	return answer(jobs, done)
}

// decide asks the book about every job.
func (s *Server) decide(book *policy.Book, facts policy.Facts, jobs []job) {
	now, trusted := s.o.Clock()
	facts.ClockTrusted = trusted
	for i := range jobs {
		j := &jobs[i]
		grant, err := book.Decide(policy.Request{Envelope: block.EnvelopeOf(j.header), Facts: facts}, now)
		var no *policy.Refusal
		switch {
		case err == nil:
			j.grant, j.trace = grant, grant.Trace()
		case errors.As(err, &no):
			j.trace = no.Trace()
			j.refuse(no.Reason().String(), nil)
		default:
			j.refuse(err.Error(), nil)
		}
	}
}

// impostor refuses every job of a request that claims to come from somebody else, before any rule is asked.
func impostor(facts policy.Facts, claim string, jobs []job) {
	for i := range jobs {
		jobs[i].refuse("claims to be another decryptor", impostorPart{facts.Decryptor.String(), claim, facts.Source.String()})
	}
}

// unwrap has the HSM open the wraps of all grants at once. An error means that the outcome of none of them is known.
func (s *Server) unwrap(ctx context.Context, jobs []job) error {
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
	results, head, err := s.o.Custody.Unwrap(within, grants)
	if err == nil && len(results) != len(grants) {
		err = fmt.Errorf("custody gave %d results for %d grants", len(results), len(grants))
	}
	last := -1
	for i, n := 0, 0; i < len(jobs); i++ {
		switch {
		case !jobs[i].grant.Valid():
		case err != nil:
			jobs[i].refuse("custody: "+err.Error(), nil)
		default:
			jobs[i].take(results[n], head.Instance)
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

// take records what the HSM did for the job and keeps the key if it is this header's.
func (j *job) take(u Unwrapped, instance receipt.Instance) {
	err := u.Err
	if err == nil {
		err = u.Key.Use(j.keep)
	}
	if err != nil {
		j.refuse("unwrap: "+err.Error(), nil)
	} else {
		j.entry = audit.Entry{Kind: receipt.Release, Access: string(j.grant.Access()), Private: private("", j.trace, nil)}
	}
	j.entry.Book, j.entry.Header = j.trace.Version(), &j.hash
	w := j.grant.Wrap()
	j.entry.Item = &receipt.Item{Instance: instance, N: u.Seq, Key: receipt.Hash(w.KeyID()), Ciphertext: w.Hash()}
}

// keep keeps a copy of the key once the header's MAC is found to be made under it. Else a stanza that somebody made
// himself, or took from another block, would open this one.
func (j *job) keep(key []byte) error {
	if err := j.header.VerifyMAC(key); err != nil {
		return err
	}
	own, err := block.NewFileKey(append([]byte(nil), key...))
	j.key, j.opened = own, err == nil
	return err
}

// refuse makes the job's entry a refusal. The reason goes to the log only.
func (j *job) refuse(reason string, more any) {
	j.entry = audit.Entry{Kind: receipt.Refusal, Book: j.trace.Version(), Header: &j.hash, Private: private(reason, j.trace, more)}
}

type impostorPart struct {
	Decryptor string `json:"decryptor"`
	Claim     string `json:"claim"`
	Source    string `json:"source"`
}

// private returns the part of a record that only the owner of the log can read: why, and the whole decision.
func private(reason string, t policy.Trace, more any) json.RawMessage {
	b := make([]byte, 0, 512)
	b = append(b, '{')
	if reason != "" {
		b = append(append(append(b, `"reason":`...), text(reason)...), ',')
	}
	if more != nil {
		b = append(append(b, `"request":`...), text(more)...)
	} else {
		b = t.AppendJSON(append(b, `"decision":`...))
	}
	return append(b, '}')
}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("release: text has no JSON") // cannot be: Marshal of strings does not fail
	}
	return b
}

// answer makes the response of what the log holds now. It cannot be called without the log's proof.
func answer(jobs []job, done audit.Committed) (kra.Response, error) {
	r := kra.Response{Results: make([]kra.Result, len(jobs))}
	receipts := done.Receipts()
	if len(receipts) != len(jobs) {
		return kra.Response{}, fmt.Errorf("%w: %d receipts for %d headers", errUnavailable, len(receipts), len(jobs))
	}
	for i := range jobs {
		if !jobs[i].opened {
			continue
		}
		r.Results[i] = kra.Released(jobs[i].key, jobs[i].grant.Access(), receipts[i].Append(make([]byte, 0, 1024)))
		r.Checkpoint, r.Chain = done.Checkpoint(), done.Path().PEM()
		jobs[i].opened = false // the key is the response's now
	}
	return r, nil
}

// drop zeroes the keys that go nowhere.
func drop(jobs []job) {
	for i := range jobs {
		if jobs[i].opened {
			_ = jobs[i].key.Use(func([]byte) error { return nil })
		}
	}
}
