package board

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
)

// A far connection is one from another address than it is from.
type far struct {
	net.Conn
	from string
}

func (f *far) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.from)
	if err != nil {
		panic(err)
	}
	return a
}

// closed says that the server has hung up.
func closed(c net.Conn) bool {
	_, err := c.Write([]byte("x"))
	return err != nil
}

// One source holds a part of the places, all sources together no more than there are, and who goes leaves his to another.
func TestCrowd(t *testing.T) {
	c := newCrowd()
	come := func(from string) (net.Conn, net.Conn) {
		here, there := net.Pipe()
		t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
		f := &far{here, from}
		c.watch(f, http.StateNew)
		go func() { _, _ = io.Copy(io.Discard, here) }()
		return f, there
	}
	var first net.Conn
	for i := range maxConnsFrom {
		here, there := come("192.0.2.1:1000")
		if closed(there) {
			t.Fatalf("connection %d is closed", i)
		}
		if first == nil {
			first = here
		}
	}
	here, there := come("192.0.2.1:2000")
	if !closed(there) {
		t.Error("one source has more than its places")
	}
	c.watch(here, http.StateClosed) // it never had one to give back
	if _, there := come("192.0.2.1:2000"); !closed(there) {
		t.Error("who was not let in has left a place")
	}
	if _, there := come("192.0.2.2:1000"); closed(there) {
		t.Error("another source has none")
	}
	c.watch(first, http.StateActive)
	c.watch(first, http.StateClosed)
	if _, there := come("192.0.2.1:2000"); closed(there) {
		t.Error("who left has kept his place")
	}
	for range maxConnsFrom + 1 {
		if _, there := come("127.0.0.1:1000"); closed(there) {
			t.Fatal("a proxy on this machine is one source")
		}
	}
	for len(c.in) < maxConns {
		come("127.0.0.1:1000")
	}
	if _, there := come("192.0.2.9:1000"); !closed(there) {
		t.Error("more connections than there are places")
	}
	for conn := range c.in {
		c.watch(conn, http.StateClosed)
	}
	if len(c.in) != 0 || len(c.from) != 0 {
		t.Errorf("after all are gone: %d, %d", len(c.in), len(c.from))
	}
}

// A served board counts its connections.
func TestServedCrowd(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Server.Serve(ctx, farListener{l}) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for i := range maxConnsFrom + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = c.Read(make([]byte, 1))
		if let := err == nil; let != (i < maxConnsFrom) {
			t.Errorf("connection %d: answered %v", i+1, let)
		}
	}
}

type farListener struct{ net.Listener }

func (l farListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &far{c, "192.0.2.1:1000"}, nil
}
