package wire

import (
	"bytes"
	"net"
	"testing"
)

// crowded is a connection on which, behind the first frame, another is to be sent when the other side has gone.
type crowded struct {
	net.Conn
	then func()
}

func (c *crowded) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if then := c.then; then != nil {
		c.then = nil
		then()
	}
	return n, err
}

// TestAnsweredBesideAnother: who sends takes along what others leave; that theirs cannot be sent any more takes nobody's answer away, or what was
// done would be done twice.
func TestAnsweredBesideAnother(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		op, _, err := readFrame(far)
		if err != nil {
			t.Error(err)
		}
		w := newFrame(op, 8)
		w.u8(42)
		frame, err := w.seal()
		if err != nil {
			t.Error(err)
		}
		far.Write(frame)
	}()
	l := &link{waiting: map[uint32]chan []byte{}, ended: make(chan struct{})}
	l.out = &outbox{conn: &crowded{Conn: near, then: func() {
		<-l.ended
		l.out.mu.Lock()
		defer l.out.mu.Unlock()
		l.out.append([]byte("another's"))
	}}}
	go l.read(near)
	if got, err := l.do(t.Context(), verbStatus, 8, nothing); err != nil || !bytes.Equal(got, []byte{42}) {
		t.Errorf("do = %v, %v", got, err)
	}
	if l.alive() {
		t.Error("the link is alive")
	}
}
