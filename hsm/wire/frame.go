package wire

import (
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
	chunkSize   = 1 << 20
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
func readFrame(r io.Reader) (op uint32, rest []byte, err error) {
	var head [frameHead + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < frameLeast || n > MaxFrame {
		return 0, nil, errFrame
	}
	rest, err = readExactly(r, int(n-4))
	return binary.BigEndian.Uint32(head[frameHead:]), rest, err
}

func readExactly(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, chunkSize))
	for read := 0; ; {
		m, err := io.ReadFull(r, b[read:])
		if read += m; err != nil || read == n {
			return b, err
		}
		bigger := make([]byte, min(n, 2*len(b)))
		copy(bigger, b)
		clear(b)
		b = bigger
	}
}

// An intake buffers what arrives on a connection, and forgets what was taken out: PINs and keys.
type intake struct {
	conn  net.Conn
	buf   [bufferSize]byte
	begin int // of what was not taken out yet
	end   int
}

// Read implements io.Reader.
func (i *intake) Read(p []byte) (int, error) {
	if i.begin == i.end {
		if len(p) >= len(i.buf) {
			return i.conn.Read(p)
		}
		n, err := i.conn.Read(i.buf[:])
		if i.begin, i.end = 0, n; n == 0 {
			return 0, err
		}
	}
	n := copy(p, i.buf[i.begin:i.end])
	clear(i.buf[i.begin : i.begin+n])
	i.begin += n
	return n, nil
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
	o.append(frame)
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

// append adds to what is waiting and leaves no copy behind.
func (o *outbox) append(frame []byte) {
	if need := len(o.waiting) + len(frame); need > cap(o.waiting) {
		bigger := append(make([]byte, 0, 2*need), o.waiting...)
		clear(o.waiting)
		o.waiting = bigger
	}
	o.waiting = append(o.waiting, frame...)
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
