package console

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// How lines end that are not to be run.
var (
	errIdle      = errors.New("nobody typed for too long")
	errCancelled = errors.New("cancelled")
	errTooLong   = errors.New("too long")
)

// Control bytes of the line.
const (
	byteBreak     = 0x00 // what a BREAK arrives as
	byteInterrupt = 0x03
	byteBackspace = 0x08
	byteTab       = 0x09
	byteKill      = 0x15
	byteEscape    = 0x1b
	byteDelete    = 0x7f
)

// readAhead bounds what is read while a command runs: chunks of a read.
const (
	readAhead = 16
	readSize  = 4 << 10
)

// An input makes a serial line safe for the line editor.
//
// A goroutine reads the line into a bounded queue, so that an interrupt is seen while a command runs. Read gives the line
// editor one line at a time: only printable characters, the editing keys and known key sequences, never more than MaxLine
// characters. What else came is counted; verdict then says that the line is not to be run.
type input struct {
	queue   chan []byte // filled by pump, closed when the line ends
	busy    atomic.Pointer[func()]
	spilled atomic.Bool // more came while a command ran than the queue takes, and was forgotten
	rest    atomic.Bool // what comes follows a paste, and may be the next one
	reports *reports

	// The rest belongs to the one reader.
	buf    []byte // read from the queue, not yet looked at
	out    []byte // for the line editor
	keys   keyState
	column int  // characters of the line that the editor was given
	ended  bool // the end of a line was given
	gone   bool // there will be no more
	wasCR  bool // a line feed that follows belongs to it
	verdict
}

// A verdict is what was wrong with a line.
type verdict struct {
	garbage   int // bytes that are no characters
	long      bool
	cancelled bool
}

func newInput(r io.Reader) *input {
	in := &input{queue: make(chan []byte, readAhead), reports: newReports()}
	go in.pump(r)
	return in
}

// pump reads until the line ends. Nothing can stop a read of a serial line but its end: the goroutine lives as long.
func (in *input) pump(r io.Reader) {
	defer close(in.queue)
	for {
		b := make([]byte, readSize)
		n, err := r.Read(b)
		if b = in.reports.strip(b[:n]); len(b) > 0 {
			in.put(in.watch(b))
		}
		if err != nil {
			if b = in.reports.rest(); len(b) > 0 {
				in.put(b)
			}
			return
		}
	}
}

// fullFor is how often a full queue is looked at.
const fullFor = 50 * time.Millisecond

// put hands bytes on. While a command runs it does not wait for long, so that an interrupt is seen behind whatever else came: what the
// queue does not take is forgotten, with what it had, unless it may be a paste.
func (in *input) put(b []byte) {
	for {
		select {
		case in.queue <- b:
			return
		case <-time.After(fullFor):
		}
		if in.busy.Load() != nil && !in.rest.Load() {
			in.spilled.Store(true)
			in.empty()
			return
		}
	}
}

func (in *input) empty() {
	for {
		select {
		case <-in.queue:
		default:
			return
		}
	}
}

// watch looks for an interrupt while a command runs; what was typed before it is forgotten, as on any terminal.
func (in *input) watch(b []byte) []byte {
	stop := in.busy.Load()
	i := bytes.LastIndexByte(b, byteInterrupt)
	if stop == nil || i < 0 {
		return b
	}
	(*stop)()
	in.empty()
	return b[i+1:]
}

// while runs f and calls stop if an interrupt is typed meanwhile.
func (in *input) while(stop, f func()) {
	var stopped atomic.Bool
	both := func() {
		stopped.Store(true)
		stop()
	}
	in.busy.Store(&both)
	f()
	in.busy.Store(nil)
	if stopped.Load() {
		in.buf = nil
	}
}

// An aside is what is told while a line is waited for. The zero aside is nothing.
type aside struct {
	news <-chan report
	tell func(report)
}

// byte returns the next byte, waiting for at most idle if that is not zero.
func (in *input) byte(idle time.Duration) (byte, error) { return in.await(idle, aside{}) }

// await is byte, and tells what there is to tell meanwhile. That is nobody's typing: the wait is no longer for it.
func (in *input) await(idle time.Duration, a aside) (byte, error) {
	var after <-chan time.Time
	if len(in.buf) == 0 && idle > 0 {
		t := time.NewTimer(idle)
		defer t.Stop()
		after = t.C
	}
	for len(in.buf) == 0 {
		select {
		case b, ok := <-in.queue:
			if !ok {
				in.gone = true
				return 0, io.EOF
			}
			in.buf = b
		case r := <-a.news:
			a.tell(r)
		case <-after:
			return 0, errIdle
		}
	}
	b := in.buf[0]
	in.buf = in.buf[1:]
	return b, nil
}

// pasteGap is how long nothing comes before what comes next was typed: what is pasted comes at once, at any speed of the line.
const pasteGap = 200 * time.Millisecond

// more looks whether what was pasted goes on with anything but white space, which is skipped.
func (in *input) more() bool {
	for {
		b, err := in.byte(pasteGap)
		if err != nil {
			return false
		}
		if in.wasCR = b == '\r'; !in.wasCR && b != '\n' && b != ' ' && b != '\t' {
			in.buf = append([]byte{b}, in.buf...)
			return true
		}
	}
}

// drop forgets what comes until the line is quiet, and counts it. A line that is not quiet for long is errIdle: nobody types there.
func (in *input) drop() (n int, err error) {
	for until := time.Now().Add(answerLimit); ; n++ {
		switch _, err := in.byte(pasteGap); {
		case errors.Is(err, errIdle):
			return n, nil
		case err != nil:
			return n, err
		case time.Now().After(until):
			return n, errIdle
		}
	}
}

// press returns one byte; a CR LF is one.
func (in *input) press(idle time.Duration) (byte, error) {
	for {
		b, err := in.byte(idle)
		follows := in.wasCR && b == '\n'
		in.wasCR = b == '\r'
		if err != nil || !follows {
			return b, err
		}
	}
}

// begin starts a new line.
func (in *input) begin() {
	in.out, in.column, in.ended, in.verdict, in.keys = nil, 0, false, verdict{}, keyState{}
}

// editor is the reader of the line editor.
type editor struct {
	in    *input
	idle  time.Duration
	aside aside
}

// Read gives what has come of the current line. It never crosses the end of the line.
func (e editor) Read(p []byte) (int, error) {
	in := e.in
	for len(in.out) == 0 || len(in.buf) > 0 && !in.ended && len(in.out) < len(p) {
		if in.ended {
			return 0, io.EOF
		}
		b, err := in.await(e.idle, e.aside)
		if err != nil {
			return 0, err
		}
		in.feed(b)
	}
	n := copy(p, in.out)
	in.out = in.out[n:]
	return n, nil
}

// feed decides about one byte.
func (in *input) feed(b byte) {
	follows := in.wasCR && b == '\n'
	in.wasCR = b == '\r'
	if follows {
		return
	}
	switch k, what := in.keys.next(b); what {
	case keyPart:
	case keySequence:
		in.out = append(in.out, k...)
	case keyText:
		in.text(k)
	case keyGarbage:
		in.garbage++
		if b == '\r' || b == '\n' || b == byteInterrupt {
			in.control(b)
		}
	case keyControl:
		in.control(b)
	}
}

func (in *input) text(k []byte) {
	if in.column >= MaxLine {
		in.long = true
		return
	}
	in.column++
	in.out = append(in.out, k...)
}

func (in *input) control(b byte) {
	switch b {
	case '\r', '\n':
		in.finish()
	case byteInterrupt:
		in.cancel()
	case byteBreak:
		if in.column > 0 {
			in.cancel()
		}
	case byteBackspace, byteDelete:
		in.column = max(0, in.column-1)
		in.out = append(in.out, b)
	case byteKill:
		in.column = 0
		in.out = append(in.out, b)
	case byteTab, 1, 2, 4, 5, 6, 11, 12, 14, 16, 20, 23: // keys of the line editor
		in.out = append(in.out, b)
	default:
		in.garbage++
	}
}

func (in *input) cancel() {
	in.cancelled = true
	in.out = append(in.out, "^C"...)
	in.finish()
}

func (in *input) finish() {
	in.out = append(in.out, '\r')
	in.ended = true
}

// raw reads one line as it is, without editing, for pastes. A BREAK or an interrupt cancels. A line over limit is read to
// its end and is errTooLong.
func (in *input) raw(limit int, idle time.Duration) ([]byte, error) {
	var line []byte
	long := false
	for {
		b, err := in.byte(idle)
		if err != nil {
			return nil, err
		}
		follows := in.wasCR && b == '\n'
		in.wasCR = b == '\r'
		switch {
		case follows:
		case b == byteBreak, b == byteInterrupt:
			return nil, errCancelled
		case b == '\r', b == '\n':
			if long {
				return nil, errTooLong
			}
			return line, nil
		case len(line) >= limit:
			long = true
		default:
			line = append(line, b)
		}
	}
}

// secret reads one line with erase and kill, for passphrases. Nothing of it is shown.
func (in *input) secret(limit int, idle time.Duration) ([]byte, error) {
	line := make([]byte, 0, limit)
	long := false
	for {
		b, err := in.byte(idle)
		if err != nil {
			clear(line)
			return nil, err
		}
		follows := in.wasCR && b == '\n'
		in.wasCR = b == '\r'
		switch {
		case follows:
		case b == byteBreak, b == byteInterrupt:
			clear(line)
			return nil, errCancelled
		case b == '\r', b == '\n':
			if long || !utf8.Valid(line) {
				clear(line)
				return nil, errTooLong
			}
			return line, nil
		case b == byteKill:
			line, long = line[:0], false
		case b == byteBackspace, b == byteDelete:
			_, n := utf8.DecodeLastRune(line)
			line = line[:len(line)-n]
		case len(line) == limit:
			long = true
		default:
			line = append(line, b)
		}
	}
}
