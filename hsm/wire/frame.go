package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Each side begins a connection with the preamble; then frames follow, in any order, both ways:
//
//	length of the rest (4) ‖ operation (4) ‖ verb, or status of the answer (1…) ‖ body
//
// The asking side chooses the operation's number; the answer repeats it.
const preamble = "KRA-HSM/1\n"

const (
	frameHead   = 4
	frameLeast  = 5 // operation and one byte
	bufferSize  = 64 << 10
	writeWithin = 30 * time.Second
)

var errFrame = errors.New("frame is malformed")

// newFrame begins a frame whose length is set by seal.
func newFrame(op uint32, room int) *writer {
	w := &writer{make([]byte, frameHead, frameHead+frameLeast+room)}
	w.u32(op)
	return w
}

// seal completes the frame.
func (w *writer) seal() ([]byte, error) {
	n := len(w.b) - frameHead
	if n > MaxFrame {
		return nil, fmt.Errorf("write frame: %d bytes, limit %d", n, MaxFrame)
	}
	binary.BigEndian.PutUint32(w.b, uint32(n))
	return w.b, nil
}

// readFrame returns the operation and what follows it. It allocates as the bytes arrive, not as they are announced.
func readFrame(r *bufio.Reader) (op uint32, rest []byte, err error) {
	var head [frameHead + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < frameLeast || n > MaxFrame {
		return 0, nil, errFrame
	}
	n -= 4
	if n <= bufferSize {
		rest = make([]byte, n)
		_, err = io.ReadFull(r, rest)
	} else {
		rest, err = io.ReadAll(io.LimitReader(r, n))
	}
	if err == nil && int64(len(rest)) != n {
		err = io.ErrUnexpectedEOF
	}
	return binary.BigEndian.Uint32(head[frameHead:]), rest, err
}

// greet exchanges the preambles. A supervisor that holds the socket for an hsmd to come makes this wait.
func greet(conn net.Conn, r io.Reader) error {
	if err := conn.SetDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, preamble); err != nil {
		return fmt.Errorf("write preamble: %w", err)
	}
	got := make([]byte, len(preamble))
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("read preamble: %w", err)
	}
	if string(got) != preamble {
		return errors.New("the other side speaks another protocol")
	}
	return conn.SetDeadline(time.Time{})
}

// An outbox sends frames on one connection. Whoever finds it idle writes, and takes along what others leave meanwhile,
// so that frames share system calls under load and cost no hand-over without.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	waiting []byte // frames to send; owned by mu
	spare   []byte // the buffer that was sent last
	busy    bool   // somebody is writing
	err     error  // the first failure; everything after it fails
}

// send queues frame, which may hold secrets: it is copied, and cleared when ours to clear.
func (o *outbox) send(frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.waiting = append(o.waiting, frame...)
	clear(frame)
	if o.busy {
		return nil
	}
	o.busy = true
	for len(o.waiting) > 0 && o.err == nil {
		b := o.waiting
		o.waiting = o.spare[:0]
		o.mu.Unlock()
		err := o.write(b)
		clear(b)
		o.mu.Lock()
		o.spare, o.err = b[:0], err
		if cap(o.spare) > 16*bufferSize {
			o.spare = nil
		}
	}
	o.busy = false
	return o.err
}

// write closes the connection when it fails, so that the reading side notices too.
func (o *outbox) write(b []byte) error {
	err := o.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if err == nil {
		_, err = o.conn.Write(b)
	}
	if err != nil {
		o.conn.Close()
		return fmt.Errorf("write frames: %w", err)
	}
	return nil
}
