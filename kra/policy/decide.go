package policy

import (
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of one decision. What would go beyond is refused, so that its trace fits a record of the log.
const (
	maxTried = 256 // lists tried
	maxAsked = 512 // rules asked
)

// A Request asks for the key of one block.
type Request struct {
	Header block.Header
	Facts  Facts
}

// A Grant is permission to unwrap one key for one decryptor, once decided. Only Decide makes one. The zero Grant permits
// nothing.
type Grant struct {
	wrap   block.Wrap
	access AccessID
	trace  Trace
	valid  bool
}

// Valid reports whether the grant permits anything.
func (g Grant) Valid() bool { return g.valid }

// Wrap returns the wrapped key that may be unwrapped.
func (g Grant) Wrap() block.Wrap { return g.wrap }

// KeyID returns the key that it may be unwrapped with: one of the access identifier's.
func (g Grant) KeyID() block.KeyID { return g.wrap.KeyID() }

// Access returns the access identifier whose list passed.
func (g Grant) Access() AccessID { return g.access }

// Decryptor returns whom the key may be given to.
func (g Grant) Decryptor() kra.Decryptor { return g.trace.facts.Decryptor }

// Trace returns how the decision came about.
func (g Grant) Trace() Trace { return g.trace }

// A Reason says why a request was refused. It is for the log and the console, never for the requester. Zero is not set.
type Reason uint8

// The reasons of Decide.
const (
	UnknownKey   Reason = iota + 1 // no wrap of the header names a key in the book; no rule was asked
	NotPermitted                   // no list of any access identifier passed
	NoDecryptor                    // nobody asks
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case UnknownKey:
		return "no key of this box"
	case NotPermitted:
		return "not permitted"
	case NoDecryptor:
		return "no decryptor"
	}
	return "unset"
}

// A Refusal is the error that Decide returns. It names nothing but the reason; the trace says more.
type Refusal struct {
	reason Reason
	trace  Trace
}

func (r *Refusal) Error() string { return "refuse release: " + r.reason.String() }

// Reason returns why.
func (r *Refusal) Reason() Reason { return r.reason }

// Trace returns how the decision came about.
func (r *Refusal) Trace() Trace { return r.trace }

// Decide answers whether the decryptor may have the key of the block now. Wraps are looked at in the header's order, the
// access identifiers of a wrap's key in that of their names, and the lists of each one at a time; the first that passes
// decides. The error is always a *Refusal.
func (b *Book) Decide(r Request, now time.Time) (Grant, error) {
	if b == nil || !r.Facts.Decryptor.Valid() {
		return Grant{}, &Refusal{NoDecryptor, Trace{facts: r.Facts, now: now.UTC().Truncate(time.Second), id: r.Facts.Decryptor.String()}}
	}
	e := newEvaluation(b, r.Facts, now)
	known := false
	tried := make([]*entry, 0, 4)
	for _, w := range r.Header.Wraps() {
		for _, entry := range b.byKey.At(w.KeyID()) {
			known = true
			if contains(tried, entry) {
				continue // an older key of it was in the header; its lists say the same again
			}
			tried = append(tried, entry)
			if e.passes(entry) {
				return Grant{wrap: w, access: entry.def.ID, trace: e.trace, valid: true}, nil
			}
		}
	}
	if !known {
		return Grant{}, &Refusal{UnknownKey, e.trace}
	}
	return Grant{}, &Refusal{NotPermitted, e.trace}
}

func contains(tried []*entry, x *entry) bool {
	for _, t := range tried {
		if t == x {
			return true
		}
	}
	return false
}

// passes tries the entry's lists in order until one passes.
func (e *evaluation) passes(x *entry) bool {
	for i, l := range x.lists {
		if len(e.trace.lists) == maxTried {
			return false
		}
		o := l.top.eval(e)
		e.trace.lists = append(e.trace.lists, ListStep{x.def.ID, i + 1, o})
		if o == Passed {
			return true
		}
	}
	return false
}

// WhoAmI returns the access identifiers that the decryptor belongs to now: those of which a list passes.
func (b *Book) WhoAmI(f Facts, now time.Time) []AccessID {
	if b == nil || !f.Decryptor.Valid() {
		return nil
	}
	var ids []AccessID
	for _, x := range b.order() {
		if newEvaluation(b, f, now).passes(x) {
			ids = append(ids, x.def.ID)
		}
	}
	return ids
}

// Explain returns how the lists of one access identifier come out for the decryptor now: every rule and every list that
// a release would ask, in order. Whether a list passes is the outcome of the last.
func (b *Book) Explain(id AccessID, f Facts, now time.Time) (Trace, error) {
	if b == nil || b.access.At(id) == nil {
		return Trace{}, fmt.Errorf("explain access: unknown access identifier %q", clip(string(id)))
	}
	if !f.Decryptor.Valid() {
		return Trace{}, fmt.Errorf("explain access %s: no decryptor", id)
	}
	e := newEvaluation(b, f, now)
	e.passes(b.access.At(id))
	return e.trace, nil
}
