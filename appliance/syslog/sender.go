// Package syslog forwards the release log to a syslog server: one message of RFC 5424 for each record, over TLS (RFC 5425).
//
//	audit.Log ─► Cursor ─► Message ─► TLS connection, one for each burst ─► server
//	    ▲                                    │ all is sent: close_notify
//	    └──────────── bookmark ◄─────────────┘ the server has closed too: it has read all
//
// The protocol has no acknowledgement. So a connection ends after a burst, and only when the server has closed it too, after our
// closure alert (RFC 5425, section 4.4), is the place in the log made durable; a server that went away before that gets the
// records again. So a record comes at least once, in order, and its index says which one it is: a reader drops what he has, and a
// gap in the numbers is a record that he was not given.
//
// The sender reads what is durable and has no part in a release: no lock, no queue, no wait. What a slow or missing server does not
// take, stays where it is, in the log.
package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Pace of the sender.
const (
	lookEvery    = time.Second      // how often it looks for new records
	restAfter    = 3 * time.Second  // without new records, a connection is ended and the place made durable
	burstFor     = time.Minute      // the longest connection
	burstRecords = 100_000          // of one connection: as many may come twice
	connectIn    = 20 * time.Second // name, connection, handshake
	takeIn       = 30 * time.Second // that the server may take nothing
	closeIn      = 20 * time.Second // for the server to close its side
	firstRetry   = 2 * time.Second  // after a failure; doubled each time
	lastRetry    = time.Minute
	alarmAfter   = 15 * time.Minute // behind: then the box says so
	maxReply     = 1 << 10          // bytes that a server may say; it has nothing to say
)

// A Dial opens a connection to HOST:PORT over network tcp.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// A Target is a server. The zero Target is none.
type Target struct {
	Host  string // of its certificate
	Port  int
	Roots *x509.CertPool // who may have issued that
	From  int64          // the first record that it gets
	Name  receipt.Hash   // of all of this: another has a bookmark of its own
}

// Address returns HOST:PORT.
func (t Target) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(t.Port)) }

// A journal is the release log.
type journal interface {
	Head() audit.Head
	Follow(from int64) *audit.Cursor
	Bookmark(name receipt.Hash) audit.Bookmark
	Removed() (below int64, at time.Time)
}

// A Sender forwards a log to one target. Its methods may be called from any number of goroutines.
type Sender struct {
	log  journal
	from func() Origin
	dial Dial
	now  func() time.Time
	says *slog.Logger

	target  atomic.Pointer[Target]
	changed chan struct{} // one token

	mu   sync.Mutex // guards what is below
	done Status
	even time.Time // when nothing was left last
}

// A Status is how far a sender is.
type Status struct {
	Target Target
	Next   int64 // the first record that the server is not known to have
	Behind int64 // records that it is not known to have
	Late   bool  // and some of them for long
	Last   time.Time
	Err    error // of the last try; nil after a good one
}

// New returns a sender of a log that has no target yet. Each message is from who from says then; a server's certificate is judged by now.
func New(log journal, from func() Origin, dial Dial, now func() time.Time, says *slog.Logger) *Sender {
	return &Sender{log: log, from: from, dial: dial, now: now, says: says, changed: make(chan struct{}, 1)}
}

// Configure has the sender send to t from now on; the zero Target ends it.
func (s *Sender) Configure(t Target) {
	if old := s.target.Load(); old != nil && old.Name == t.Name {
		return
	}
	s.mu.Lock()
	s.done, s.even = Status{Target: t, Next: t.From}, time.Now()
	s.target.Store(&t)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Status returns how far the sender is; the zero Target means that there is none.
func (s *Sender) Status() Status {
	size := s.log.Head().Size
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.done
	if st.Target.Host == "" {
		return st
	}
	st.Behind = max(0, size-st.Next)
	st.Late = st.Behind > 0 && time.Since(s.even) > alarmAfter
	return st
}

// Health returns why the server is far behind the log, or nil.
func (s *Sender) Health() error { return s.Status().health() }

func (st Status) health() error {
	if !st.Late {
		return nil
	}
	err := fmt.Errorf("the syslog server %s is %d records behind for more than %d minutes (syslog show)", st.Target.Address(), st.Behind, alarmAfter/time.Minute)
	if st.Err != nil {
		return fmt.Errorf("%w: %w", err, st.Err)
	}
	return err
}

// note takes the outcome of a try for the target.
func (s *Sender) note(t *Target, next int64, err error) {
	size := s.log.Head().Size
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.target.Load() != t {
		return
	}
	s.done.Next, s.done.Err = next, err
	if err == nil {
		s.done.Last = time.Now()
	}
	if next >= size {
		s.even = time.Now()
	}
}

// Run forwards until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	for ctx.Err() == nil {
		t := s.target.Load()
		if t == nil || t.Host == "" {
			s.wait(ctx, 0)
			continue
		}
		s.follow(ctx, t)
	}
}

// wait waits for another target, ctx's end, or, if d is not 0, that long.
func (s *Sender) wait(ctx context.Context, d time.Duration) (another bool) {
	var late <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-s.changed:
		return true
	case <-ctx.Done():
		return true
	case <-late:
		return false
	}
}

// follow forwards to one target.
func (s *Sender) follow(ctx context.Context, t *Target) {
	mark := s.log.Bookmark(t.Name)
	next, err := mark.Load()
	if err != nil {
		if !errors.Is(err, audit.ErrNoBookmark) {
			s.says.Error("forward log", "err", err)
		}
		if next = t.From; next > s.log.Head().Size {
			next = 0 // it was a place in another log, of which this box has only the state
		}
	}
	if below, _ := s.log.Removed(); next < below {
		s.says.Warn("forward log: it does not begin there any more", "from", next, "begins", below)
		next = below // the server sees the gap in the numbers
	}
	s.note(t, next, nil)
	retry := firstRetry
	for s.target.Load() == t {
		wait := lookEvery
		if next < s.log.Head().Size {
			to, err := s.burst(ctx, t, next)
			if err == nil {
				if err = mark.Save(to); err == nil {
					next, retry = to, firstRetry
				}
			}
			s.note(t, next, err)
			if err != nil {
				s.says.Warn("forward log", "to", t.Address(), "err", err)
				wait, retry = retry, min(2*retry, lastRetry)
			}
		} else {
			s.note(t, next, nil)
		}
		if s.wait(ctx, wait) {
			return
		}
	}
}

// burst sends records on one connection until there have been none for a while, and returns how far the server has read.
func (s *Sender) burst(ctx context.Context, t *Target, next int64) (int64, error) {
	c, err := s.connect(ctx, t)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() }) // what was sent comes again
	defer stop()
	l := listen(c)
	cursor := s.log.Follow(next)
	defer cursor.Close()
	began := time.Now()
	for rested := time.Now(); time.Since(rested) < restAfter && time.Since(began) < burstFor && s.target.Load() == t; {
		first, records, err := cursor.Next()
		if err == io.EOF {
			if err := l.within(lookEvery / 4); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		if err := s.send(c, first, records); err != nil {
			return 0, err
		}
		rested = time.Now()
		if first+int64(len(records))-next > burstRecords {
			next = first + int64(len(records))
			break
		}
		next = first + int64(len(records))
	}
	return next, l.end()
}

func (s *Sender) connect(ctx context.Context, t *Target) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	raw, err := s.dial(ctx, "tcp", t.Address())
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.Roots, ServerName: t.Host, Time: s.now})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", t.Address(), err), raw.Close())
	}
	return c, nil
}

// send writes records, each as a message behind its length (RFC 5425, section 4.3).
func (s *Sender) send(c *tls.Conn, first int64, records []receipt.Record) error {
	var out bytes.Buffer
	for i, r := range records {
		m, err := Message(s.from(), first+int64(i), r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%d ", len(m))
		out.Write(m)
		if out.Len() >= 64<<10 || i == len(records)-1 {
			if err := c.SetWriteDeadline(time.Now().Add(takeIn)); err != nil {
				return err
			}
			if _, err := c.Write(out.Bytes()); err != nil {
				return fmt.Errorf("send records: %w", err)
			}
			out.Reset()
		}
	}
	return nil
}

// A listener waits for the server to close its side.
type listener struct {
	c     *tls.Conn
	ended chan error
}

func listen(c *tls.Conn) listener {
	l := listener{c, make(chan error, 1)}
	go func() {
		n, err := io.Copy(io.Discard, io.LimitReader(c, maxReply))
		if err == nil && n == maxReply {
			err = errors.New("the server talks")
		}
		l.ended <- err // nil: its closure alert came
	}()
	return l
}

var errLeft = errors.New("the server has closed the connection")

// within waits that long; the server must not have gone meanwhile.
func (l listener) within(d time.Duration) error {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-l.ended:
		return errLeft
	case <-late.C:
		return nil
	}
}

// end closes our side and waits until the server has closed its own: then it has read all that was sent.
func (l listener) end() error {
	select {
	case <-l.ended:
		return errLeft
	default:
	}
	if err := errors.Join(l.c.SetDeadline(time.Now().Add(closeIn)), l.c.CloseWrite()); err != nil {
		return fmt.Errorf("end connection: %w", err)
	}
	if err := <-l.ended; err != nil {
		return fmt.Errorf("the server has not said that it read all: %w", err)
	}
	return nil
}
