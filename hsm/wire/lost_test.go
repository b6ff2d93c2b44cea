package wire

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRetry loses the connection in every way in which it can be lost during one operation.
func TestRetry(t *testing.T) {
	for _, x := range []struct {
		name  string
		fates []fate // of the connections, in order
		want  error
		done  int32 // how often the operation was performed
	}{
		{"never", []fate{works}, nil, 1},
		{"lost before it was done", []fate{diesUnread, works}, nil, 1},
		{"lost after it was done", []fate{diesDone, works}, nil, 2},
		{"answered in part", []fate{diesMidway, works}, nil, 2},
		{"refused at first", []fate{refuses, refuses, diesUnread, refuses, works}, nil, 1},
		{"lost twice", []fate{diesUnread, diesUnread, works}, ErrLost, 0},
		{"done and lost twice", []fate{diesDone, diesDone, works}, ErrLost, 2},
		{"answered with nonsense", []fate{babbles, works}, nil, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			path, l := listen(t)
			var done atomic.Int32
			go misbehave(l, x.fates, &done)
			c, err := Dial(path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := c.List(ctx); !errors.Is(err, x.want) {
				t.Errorf("List = %v, want %v", err, x.want)
			}
			if done.Load() != x.done {
				t.Errorf("performed %d times, want %d", done.Load(), x.done)
			}
			if _, err := c.List(ctx); err != nil {
				t.Errorf("List, once hsmd works = %v", err)
			}
		})
	}
}

type fate int

const (
	works      fate = iota
	refuses         // ends before the preamble
	diesUnread      // ends when a request comes
	diesDone        // performs it and ends
	diesMidway      // performs it and ends in the middle of the answer
	babbles         // answers with a frame that is none
)

// misbehave serves List on each connection with its fate, the last one for ever.
func misbehave(l net.Listener, fates []fate, done *atomic.Int32) {
	for i := -1; ; i++ { // the first connection is Dial's
		conn, err := l.Accept()
		if err != nil {
			return
		}
		suffer(conn, fates[min(max(i, 0), len(fates)-1)], done)
		conn.Close()
	}
}

func suffer(conn net.Conn, f fate, done *atomic.Int32) {
	r := bufio.NewReader(conn)
	if f == refuses || greet(conn, r) != nil {
		return
	}
	for {
		op, _, err := readFrame(r)
		if err != nil || f == diesUnread {
			return
		}
		if f == babbles {
			_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
			return
		}
		done.Add(1)
		w := newFrame(op, 0)
		w.err(nil)
		w.keys(nil)
		frame, _ := w.seal()
		if f == diesMidway {
			frame = frame[:len(frame)-1]
		}
		if f == diesDone {
			return
		}
		if _, err := conn.Write(frame); err != nil || f == diesMidway {
			return
		}
	}
}

// A source for tests.
type source struct {
	fail   atomic.Bool
	asked  atomic.Int32
	opened atomic.Int32
}

func (s *source) Token(context.Context) (Token, error) {
	s.asked.Add(1)
	if s.fail.Load() {
		return Token{}, errors.New("store is away")
	}
	return Token{PIN: []byte("1234")}, nil
}
func (s *source) Opened(Instance) { s.opened.Add(1) }

// accept returns the next connection on which a preamble comes: the one that Dial tries is closed at once.
func accept(l net.Listener) (net.Conn, error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return nil, err
		}
		r := bufio.NewReader(conn)
		if _, err := r.Peek(1); err == nil {
			return peeked{conn, r}, nil
		}
		conn.Close()
	}
}

// peeked is a connection of which something was read ahead.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

func TestRecover(t *testing.T) {
	path, l := listen(t)
	s := stub()
	serve := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			conn, err := accept(l)
			if err != nil {
				return
			}
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.converse(ctx, conn, nil)
			conn.Close()
		}()
		return func() { cancel(); <-ended }
	}
	stop := serve()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src := &source{}
	c.Recover(src)
	if _, err := c.List(t.Context()); err != nil || src.opened.Load() != 1 {
		t.Errorf("List = %v, the token was opened %d times; want 1", err, src.opened.Load())
	}
	stop()
	stop = serve()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := c.List(t.Context()); err != nil {
				t.Errorf("List after a loss = %v", err)
			}
		})
	}
	all.Wait()
	if src.opened.Load() != 2 {
		t.Errorf("the token was opened %d times after one loss, want 2", src.opened.Load())
	}
	stop()
	src.fail.Store(true)
	defer serve()()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.List(ctx); err == nil {
		t.Error("List without a token succeeded")
	}
	c.Close()
}

// TestWrongPINIsTriedOnce: many a module locks itself after a few wrong PINs.
func TestWrongPINIsTriedOnce(t *testing.T) {
	var tries atomic.Int32
	s := stub()
	s.Open = func(Token) (Instance, error) {
		if tries.Add(1) == 1 {
			return Instance{}, ErrPIN
		}
		return Instance{}, nil
	}
	c := start(t, s)
	c.Recover(&source{})
	for range 3 {
		if _, err := c.List(t.Context()); !errors.Is(err, ErrPIN) {
			t.Errorf("List = %v, want %v", err, ErrPIN)
		}
	}
	if tries.Load() != 1 {
		t.Errorf("the PIN was tried %d times, want 1", tries.Load())
	}
	c.Recover(&source{})
	if _, err := c.List(t.Context()); err != nil || tries.Load() != 2 {
		t.Errorf("List after Recover = %v, PIN tried %d times; want 2", err, tries.Load())
	}
}
