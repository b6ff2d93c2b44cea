// Package replay rebuilds the books of a release log from its edits and decides again about every request in it.
package replay

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

var (
	// ErrUnknownBook is wrapped where the log does not have, or does not have before, the book that decided.
	ErrUnknownBook = errors.New("its book is not in the log before it")
	// ErrRedacted is wrapped where a record lacks the private part that a decision is in.
	ErrRedacted = errors.New("its private part is not in the export")
)

// A Difference is the first record that is not what its book makes of it.
type Difference struct {
	Index int64
	Err   error
}

func (d *Difference) Error() string { return fmt.Sprintf("record %d: %v", d.Index, d.Err) }
func (d *Difference) Unwrap() error { return d.Err }

// A Report is what was replayed, up to the first difference.
type Report struct {
	Books     int   // versions
	Releases  int64 // records of keys that left, decided again
	Refusals  int64 // records of refusals, decided again
	Undecided int64 // refusals without a decision: the request itself was refused
}

// A Player takes the records of one log in their order. What it says of them holds only once the log is verified.
type Player struct {
	books  map[uint64]*policy.Book
	used   map[uint64]struct{} // versions that decided
	edits  collector
	report Report
	first  *Difference
}

// New returns a player for a log whose first record is still to come, or the first record after a start of the agent.
func New() *Player {
	return &Player{books: map[uint64]*policy.Book{}, used: map[uint64]struct{}{}}
}

// Report returns what was replayed; the error, a *Difference, is the first that was found.
func (p *Player) Report() (Report, error) {
	if p.first != nil {
		return p.report, p.first
	}
	return p.report, nil
}

// Record takes the next record; private is nil if it is redacted.
func (p *Player) Record(index int64, public receipt.Public, private []byte) {
	if p.first != nil {
		return
	}
	if err := p.record(public, private); err != nil {
		p.first = &Difference{index, err}
	}
}

func (p *Player) record(public receipt.Public, private []byte) error {
	switch public.Kind {
	case receipt.Book, receipt.Release, receipt.Refusal:
	default:
		return nil
	}
	if private == nil {
		return ErrRedacted
	}
	if public.Kind == receipt.Book {
		return p.book(public, private)
	}
	return p.decision(public, private)
}

// book makes the next version. A version that never decided anything may come again: it was prepared for a change that was
// then not committed.
func (p *Player) book(public receipt.Public, private []byte) error {
	part, err := parsePart(private)
	if err != nil {
		return err
	}
	if part.Version != public.Book {
		return fmt.Errorf("edit of book %d in a record of book %d", part.Version, public.Book)
	}
	if _, decided := p.used[part.Version]; decided {
		return fmt.Errorf("book %d changes after it has decided", part.Version)
	}
	edit, complete, err := p.edits.add(part)
	if err != nil || !complete {
		return err
	}
	from, ok := p.books[part.From]
	if !ok && part.From != 0 {
		return fmt.Errorf("edit of book %d: %w", part.From, ErrUnknownBook)
	}
	next, err := from.Revise(part.Version, edit)
	if err != nil {
		return err
	}
	p.books[part.Version] = next
	p.report.Books = len(p.books)
	return nil
}

// A decided is what replay reads of the private part of a release or refusal.
type decided struct {
	Decision json.RawMessage `json:"decision"`
	Key      string          `json:"key"` // set if another key of the header was used than the one granted
}

func (p *Player) decision(public receipt.Public, private []byte) error {
	var d decided
	if err := json.Unmarshal(private, &d); err != nil {
		return fmt.Errorf("parse decision: %w", err)
	}
	if d.Decision == nil {
		if public.Kind == receipt.Release || public.Item != nil {
			return errors.New("a key was used without a decision")
		}
		p.report.Undecided++
		return nil
	}
	trace, err := policy.ParseTrace(d.Decision)
	if err != nil {
		return err
	}
	if trace.Version() != public.Book {
		return fmt.Errorf("a decision of book %d in a record of book %d", trace.Version(), public.Book)
	}
	book, ok := p.books[trace.Version()]
	if !ok {
		return fmt.Errorf("book %d: %w", trace.Version(), ErrUnknownBook)
	}
	p.used[trace.Version()] = struct{}{}
	if err := policy.Replay(book, trace); err != nil {
		return err
	}
	if public.Kind == receipt.Refusal {
		p.report.Refusals++
	} else {
		p.report.Releases++
	}
	return d.fits(public, trace)
}

// fits reports how what was done is not what was decided.
func (d decided) fits(public receipt.Public, trace policy.Trace) error {
	access, key, granted := trace.Granted()
	switch {
	case public.Item == nil:
		return nil
	case !granted:
		return errors.New("a key was used although the decision was no")
	case public.Kind == receipt.Release && public.Access != string(access):
		return fmt.Errorf("released to %s, decided for %s", public.Access, access)
	case d.Key == "" && block.KeyID(public.Item.Key) != key:
		return fmt.Errorf("key %s was used, decided for %s", public.Item.Key, key)
	}
	return nil
}
