package console

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/console/wire"
)

// A size is of a terminal, in characters.
type size struct{ columns, rows int }

// Rows within which a terminal is believed; columns are the wire's.
const (
	leastRows = 24
	mostRows  = 100
)

// usual is the size of a terminal that does not say its own.
var usual = size{wire.LeastColumns, leastRows}

// sizeOf is the size to work with where a terminal says this.
func sizeOf(columns, rows int) size {
	return size{min(max(columns, wire.LeastColumns), wire.MostColumns), min(max(rows, leastRows), mostRows)}
}

// askSize asks the terminal at the other end of a line where its cursor is when it was sent as far as it goes: save cursor, cursor
// position, device status report, restore cursor, and the return for whoever only reads lines. What comes back is a report.
const askSize = "\x1b7\x1b[999;999H\x1b[6n\x1b8\r"

// sizeWithin is how long a log-in waits for the report. A line of 9600 baud takes some 40 ms for both.
const sizeWithin = 300 * time.Millisecond

// A reports takes the answers to askSize out of what comes over the line, however late: they are no text of the officer's.
//
//	ESC [ rows ; columns R     rows and columns 1 to 4 digits
//
// Nothing is looked for before it was asked. The pump strips; the rest is for the reader.
type reports struct {
	owed atomic.Int32 // questions without an answer
	said chan size    // the latest answer
	part []byte       // what may be the beginning of one; the pump's
}

func newReports() *reports { return &reports{said: make(chan size, 1)} }

// strip returns b without reports. What may be the beginning of one is kept back until it is seen what it is.
func (r *reports) strip(b []byte) []byte {
	if r.owed.Load() == 0 && len(r.part) == 0 {
		return b
	}
	out := make([]byte, 0, len(r.part)+len(b))
	for _, c := range b {
		r.part = append(r.part, c)
		switch s, what := reportOf(r.part); {
		case what == keySequence:
			r.note(s)
			r.part = r.part[:0]
		case what == keyGarbage && c == byteEscape: // perhaps this begins one
			out = append(out, r.part[:len(r.part)-1]...)
			r.part = append(r.part[:0], c)
		case what == keyGarbage:
			out = append(out, r.part...)
			r.part = r.part[:0]
		}
	}
	return out
}

// rest is what was kept back when the line ended.
func (r *reports) rest() []byte { return r.part }

// note keeps the latest answer for the reader.
func (r *reports) note(s size) {
	if r.owed.Load() > 0 { // only here it gets less
		r.owed.Add(-1)
	}
	select {
	case <-r.said:
	default:
	}
	r.said <- s // there is room: nobody else puts one there
}

// reportOf reads a report: a keySequence, a keyPart of one, or keyGarbage.
func reportOf(b []byte) (size, keyKind) {
	const digits = 4
	number, at, n := [2]int{}, 0, 0 // of rows and columns, and how many digits
	for i, c := range b {
		switch {
		case i == 0 && c == byteEscape, i == 1 && c == '[':
		case i < 2:
			return size{}, keyGarbage
		case c >= '0' && c <= '9' && n < digits:
			number[at], n = 10*number[at]+int(c-'0'), n+1
		case c == ';' && at == 0 && n > 0:
			at, n = 1, 0
		case c == 'R' && at == 1 && n > 0 && i == len(b)-1:
			return sizeOf(number[1], number[0]), keySequence
		default:
			return size{}, keyGarbage
		}
	}
	return size{}, keyPart
}

// ask asks the terminal how large it is, and waits a moment for its word. One that says nothing is as usual.
func (t *Terminal) ask(ctx context.Context) {
	if !t.serial {
		return
	}
	t.in.reports.owed.Add(1)
	io.WriteString(t.out, askSize)
	select {
	case t.sized = <-t.in.reports.said:
	case <-time.After(sizeWithin):
	case <-ctx.Done():
	}
}

// size is how large the terminal is, as far as it is known now.
func (t *Terminal) size() size {
	if t.window != nil {
		if columns, rows, err := t.window(); err == nil {
			return sizeOf(columns, rows)
		}
		return usual
	}
	select {
	case t.sized = <-t.in.reports.said: // which came late
	default:
	}
	return t.sized
}
