package wire

import (
	"context"
	"net"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestEnough: when there is enough, what is under way is answered, then Serve ends; what comes meanwhile is asked again of the next.
func TestEnough(t *testing.T) {
	path, l := listen(t)
	ours := l.(*net.UnixListener)
	ours.SetUnlinkOnClose(false)
	f, err := ours.File()
	if err != nil {
		t.Fatal(err)
	}
	again, err := net.FileListener(f) // as a supervisor keeps it
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	begun, finish, enough := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := stub()
	s.Unwrap = func(w []block.Wrap, done func([]Result, receipt.ChainHead)) error {
		close(begun) // twice would be a request that was done twice
		go func() { <-finish; done(make([]Result, len(w)), receipt.ChainHead{N: 41}) }()
		return nil
	}
	slow := make(chan struct{})
	s.List = func() ([]Key, error) { close(slow); <-finish; return []Key{}, nil }
	first := make(chan error, 1)
	go func() { first <- s.Serve(t.Context(), l, enough) }()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wraps := []block.Wrap{samplesWrap(t)}
	answers := make(chan error, 2)
	go func() {
		_, head, err := c.Unwrap(t.Context(), wraps)
		if err == nil && head.N != 41 {
			t.Errorf("the head is %d, of another life", head.N)
		}
		answers <- err
	}()
	go func() { _, err := c.List(t.Context()); answers <- err }()
	<-begun
	<-slow
	close(enough)
	late := make(chan error, 1)
	go func() { _, err := c.Status(t.Context()); late <- err }()
	close(finish)
	if err := <-first; err != nil {
		t.Errorf("Serve: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { second <- stub().Serve(ctx, again, nil) }()
	for range 2 {
		if err := <-answers; err != nil {
			t.Errorf("what was under way: %v", err)
		}
	}
	if err := <-late; err != nil {
		t.Errorf("what came late: %v", err)
	}
	cancel()
	if err := <-second; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
