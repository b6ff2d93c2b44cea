package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A link is one connection to hsmd. It never recovers: when it ends, every operation under way on it is lost.
type link struct {
	out *outbox

	over  atomic.Bool   // nothing more is asked
	ended chan struct{} // closed when nothing more is read

	mu      sync.Mutex // guards all below
	next    uint32
	waiting map[uint32]chan []byte
}

var errLink = errors.New("connection to hsmd is lost")

// dialLink connects and reads answers until the connection ends.
func dialLink(ctx context.Context, path string) (*link, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to hsmd: %w", err)
	}
	r := &intake{conn: conn}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err := greet(conn, r); err != nil || !stop() {
		conn.Close()
		return nil, fmt.Errorf("greet hsmd: %w", errors.Join(err, ctx.Err()))
	}
	l := &link{out: &outbox{conn: conn}, waiting: map[uint32]chan []byte{}, ended: make(chan struct{})}
	go l.read(r)
	return l, nil
}

func (l *link) read(r io.Reader) {
	defer close(l.ended)
	defer l.close()
	for {
		op, rest, err := readFrame(r)
		if err != nil {
			return
		}
		l.mu.Lock()
		c := l.waiting[op]
		delete(l.waiting, op)
		l.mu.Unlock()
		if c == nil {
			clear(rest) // the asker has gone; the answer may hold keys
			continue
		}
		c <- rest
	}
}

// close ends the link. What was read by then is an answer.
func (l *link) close() {
	l.over.Store(true)
	l.out.conn.Close()
}

// alive reports whether the link has not been seen to end.
func (l *link) alive() bool { return !l.over.Load() }

// do sends one request, written by fill, and returns the answer: status and body. errLink means that nobody knows
// whether hsmd did it.
func (l *link) do(ctx context.Context, v verb, room int, fill func(*writer)) ([]byte, error) {
	if !l.alive() {
		return nil, errLink
	}
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.next++
	op := l.next
	l.waiting[op] = answer
	l.mu.Unlock()

	w := newFrame(op, room)
	w.u8(uint8(v))
	fill(w)
	frame, err := w.seal()
	if err != nil {
		l.forget(op)
		return nil, err
	}
	if l.out.send(frame) != nil { // this frame, or another that was sent with it: this one may have been answered
		l.close()
	}
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		l.forget(op)
		return nil, ctx.Err()
	case <-l.ended:
		select {
		case b := <-answer: // it came just before the end
			return b, nil
		default:
			return nil, errLink
		}
	}
}

// forget abandons an operation. hsmd goes on with it; its answer is thrown away.
func (l *link) forget(op uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, op)
}
