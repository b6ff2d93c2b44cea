package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of one decision. What would go beyond is refused, so that its trace fits a record of the log.
const (
	maxTried = 256 // lists tried
	maxAsked = 256 // rules asked
)

// A Request asks for the key of one block.
type Request struct {
	Envelope block.Envelope
	Facts    Facts
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
	NoDecryptor                    // nobody asks, or nobody said how
)

var reasons = []string{UnknownKey: "no key of this box", NotPermitted: "not permitted", NoDecryptor: "no decryptor"}

// String returns the reason in words.
func (r Reason) String() string {
	if s := nameOf(reasons, int(r)); s != "" {
		return s
	}
	return "unset"
}

// A Refusal is the error that Decide returns. It names nothing but the reason; the trace says more.
type Refusal struct {
	reason Reason
	trace  Trace
	asks   []string
}

func (r *Refusal) Error() string { return "refuse release: " + r.reason.String() }

// Reason returns why.
func (r *Refusal) Reason() Reason { return r.reason }

// Trace returns how the decision came about.
func (r *Refusal) Trace() Trace { return r.trace }

// Asks returns the external services whose answers could change the refusal, each once, in the order in which lists wanted
// them. Whoever has the answers adds them to the facts and decides again. The caller must not write to it.
func (r *Refusal) Asks() []string { return r.asks }

// Decide answers whether the decryptor may have the key of the block now. Wraps are looked at in the header's order, the
// access identifiers of a wrap's key in that of their names, and the lists of each one at a time; the first that passes
// decides. The error is always a *Refusal.
func (b *Book) Decide(r Request, now time.Time) (Grant, error) {
	wraps := b.resolve(r.Envelope.Wraps())
	keys := make([]block.KeyID, len(wraps))
	for i, w := range wraps {
		keys[i] = w.KeyID()
	}
	trace, asks := b.decide(keys, r.Facts, now)
	if trace.reason != 0 {
		return Grant{}, &Refusal{trace.reason, trace, asks}
	}
	return Grant{wrap: wraps[trace.granted], access: trace.access, trace: trace, valid: true}, nil
}

// resolve returns the wraps with the ids of the keys that they name. What names no key of the book is left out, unless it
// names it by its id. A tag may fit two keys; after block.MaxTags of them no more are tried, for each costs a trial of every
// tagged key.
func (b *Book) resolve(wraps []block.Wrap) []block.Wrap {
	if b == nil {
		return nil
	}
	out := make([]block.Wrap, 0, len(wraps))
	tags := 0
	for _, w := range wraps {
		switch w.Ref().Kind() {
		case block.RefKeyID:
			out = append(out, w)
		case block.RefTag:
			if tags++; tags > block.MaxTags {
				continue
			}
			for _, id := range block.MatchTag(w, b.terms.tagged) {
				out = append(out, w.Named(id))
			}
		default:
			if id, ok := b.refs.Get(w.Ref()); ok {
				out = append(out, w.Named(id))
			}
		}
	}
	return out
}

// decide decides about the keys that a header names. The trace has the reason of a refusal, or else which key is granted.
func (b *Book) decide(keys []block.KeyID, f Facts, now time.Time) (Trace, []string) {
	if b == nil {
		b = &Book{}
	}
	e := newEvaluation(b, f, now)
	e.trace.keys, e.trace.reason = keys, UnknownKey
	if !f.Decryptor.Valid() || f.Channel.String() == "" {
		e.trace.reason = NoDecryptor
		return e.trace, nil
	}
	var few [4]*entry
	tried := few[:0]
	for i, key := range keys {
		for _, x := range b.byKey.At(key) {
			e.trace.reason = NotPermitted
			if slices.Contains(tried, x) {
				continue // an older key of it was in the header; its lists say the same again
			}
			tried = append(tried, x)
			if e.passes(x) {
				e.trace.reason, e.trace.granted, e.trace.access = 0, i, x.def.ID
				return e.trace, nil
			}
		}
	}
	return e.trace, e.asks
}

// passes tries the entry's lists in order until one passes.
func (e *evaluation) passes(x *entry) bool {
	if e.facts.Channel != Authenticated && x.def.Delivery != ToAnyone {
		return false
	}
	for i, l := range x.lists {
		if len(e.trace.lists) == maxTried {
			return false
		}
		e.wanted, e.access = nil, x.def.ID
		v := l.top.eval(e)
		e.trace.lists = append(e.trace.lists, ListStep{x.def.ID, i + 1, v.outcome})
		if v.outcome == Passed {
			return true
		}
		if v.outcome == Errored && v.could.has(Passed) {
			for _, s := range e.wanted {
				e.asks = with(e.asks, s)
			}
		}
	}
	return false
}

// WhoAmI returns the access identifiers that the decryptor belongs to now: those of which a list passes, sorted.
func (b *Book) WhoAmI(f Facts, now time.Time) []AccessID {
	if b == nil || !f.Decryptor.Valid() || f.Channel.String() == "" {
		return nil
	}
	var ids []AccessID
	e := newEvaluation(b, f, now)
	for _, x := range b.access.All() {
		if e.trace.lists = e.trace.lists[:0]; len(e.trace.rules)+x.uses() > maxAsked {
			e = newEvaluation(b, f, now) // as far as a decision about this one alone would go
		}
		if e.passes(x) {
			ids = append(ids, x.def.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Explain returns how the lists of one access identifier come out for the decryptor now: every rule and every list that
// a release would ask, in order. Whether a list passes is the outcome of the last.
func (b *Book) Explain(id AccessID, f Facts, now time.Time) (Trace, error) {
	if b == nil || b.access.At(id) == nil {
		return Trace{}, fmt.Errorf("explain access: unknown access identifier %q", clip(string(id)))
	}
	if !f.Decryptor.Valid() || f.Channel.String() == "" {
		return Trace{}, fmt.Errorf("explain access %s: %s", id, NoDecryptor)
	}
	e := newEvaluation(b, f, now)
	e.passes(b.access.At(id))
	return e.trace, nil
}
