package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/keyrelease/krabox/kra/receipt"
)

// Export writes the batches that hold the records from up to, but without, to, with their private parts, in the
// format of package receipt. A to of 0 means the end. It may run beside Append; it sees what was durable at its start.
func (l *Log) Export(w io.Writer, from, to int64) error {
	return l.export(w, receipt.Whole, from, to)
}

// ExportRedacted is Export with commitments in place of the private parts.
func (l *Log) ExportRedacted(w io.Writer, from, to int64) error {
	return l.export(w, receipt.Redacted, from, to)
}

// Records calls f for each record from up to, but without, to; a to of 0 means the end.
func (l *Log) Records(from, to int64, f func(index int64, r receipt.Record) error) error {
	to, err := l.extent(from, to)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	err = l.walk(from, to, func(b frame) error {
		for i, r := range b.records {
			if at := b.first + int64(i); at >= from && at < to {
				if err := f(at, r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// extent checks a range against what is durable.
func (l *Log) extent(from, to int64) (int64, error) {
	size := l.Head().Size
	if to == 0 {
		to = size
	}
	if from < 0 || from >= to || to > size {
		return 0, fmt.Errorf("records %d to %d: the log has %d", from, to, size)
	}
	return to, l.there(from)
}

func (l *Log) export(w io.Writer, d receipt.Detail, from, to int64) error {
	to, err := l.extent(from, to)
	if err != nil {
		return fmt.Errorf("export log: %w", err)
	}
	past := l.past.Load()
	before, err := past.after()
	if err != nil {
		return fmt.Errorf("export log: %w", err)
	}
	e := &exporting{log: l, w: w, detail: d, from: from, before: before}
	if err := l.walk(past.Size, to, e.batch); err != nil {
		return fmt.Errorf("export log: %w", err)
	}
	return e.out.Close()
}

// exporting follows the log from the first record that is there, for what the batches before the range leave behind.
type exporting struct {
	log    *Log
	w      io.Writer
	detail receipt.Detail
	from   int64
	out    *receipt.Exporter // nil until the range begins
	before follower
}

func (e *exporting) batch(f frame) error {
	if e.out == nil && f.first+int64(len(f.records)) > e.from {
		if err := e.begin(f.first); err != nil {
			return err
		}
	}
	if e.out == nil {
		return e.before.pass(f)
	}
	for _, r := range f.records {
		e.out.Record(r)
	}
	e.out.Checkpoint(f.checkpoint)
	return nil
}

// begin writes the header of an export whose first batch begins with record first.
func (e *exporting) begin(first int64) error {
	h := receipt.ExportHeader{Box: e.log.box, From: first}
	if first > 0 {
		edge, err := e.log.tree.ReadHashes(receipt.EdgeIndexes(first))
		if err != nil {
			return err
		}
		h.Start = &receipt.ExportStart{Checkpoint: e.before.checkpoint, Path: e.before.path, Edge: edge, Lives: e.before.hsm.states()}
	}
	e.out = receipt.NewExporter(e.w, e.detail, h)
	return nil
}

// walk reads the batches from the segment that holds record from, up to the one that holds record to-1.
func (l *Log) walk(from, to int64, f func(frame) error) error {
	firsts, err := l.segments()
	if err != nil {
		return err
	}
	if err := l.there(from); err != nil { // it went since the range was checked: no segment of the list holds it
		return err
	}
	for i, first := range firsts {
		if i+1 < len(firsts) && firsts[i+1] <= from || first >= to {
			continue
		}
		if err := l.walkSegment(first, to, f); err != nil {
			return fmt.Errorf("segment %s: %w", segmentName(first), err)
		}
	}
	return nil
}

// walkSegment stops behind record to-1. Before that, the end of the segment must be that of the batches.
func (l *Log) walkSegment(first, to int64, f func(frame) error) (err error) {
	s, err := l.openSegment(first)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(l.there(first), err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, next := newFrameReader(s), first
	for next < to {
		b, err := r.next()
		if errors.Is(err, errTorn) && l.hasSegment(next) {
			return nil
		}
		if gone := l.there(next); errors.Is(err, errTorn) && gone != nil {
			return gone
		}
		if err != nil {
			return err
		}
		if b.first != next {
			return fmt.Errorf("%w: a batch begins with record %d, want %d", ErrEdited, b.first, next)
		}
		if err := f(b); err != nil {
			return err
		}
		next += int64(len(b.records))
	}
	return nil
}

func (l *Log) hasSegment(first int64) bool {
	_, err := os.Lstat(l.path(segmentName(first)))
	return err == nil
}
