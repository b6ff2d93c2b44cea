package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

// A server connects for who may open its socket.
type server struct {
	names  string                 // folder of the name servers' list
	permit func(netip.Addr) error // whether an address may be spoken to

	mu    sync.Mutex // guards all below
	open  int        // connections, those that are being made included
	left  float64    // connections that may begin now
	since time.Time  // of left
}

func newServer(names string) *server {
	return &server{names: names, permit: func(a netip.Addr) error { return permit(a, ownAddresses) }, left: perMinute, since: time.Now()}
}

// serve answers until ctx ends, and then ends all connections.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	l = netutil.LimitListener(l, maxOpen+maxWaiting)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	each, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		all.Go(func() { s.handle(each, c) })
	}
}

// handle makes and keeps one connection.
func (s *server) handle(ctx context.Context, near net.Conn) {
	defer near.Close()
	stop := context.AfterFunc(ctx, func() { near.Close() })
	defer stop()
	if near.SetDeadline(time.Now().Add(askWithin)) != nil {
		return
	}
	request, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	slow := context.AfterFunc(request, func() { _ = near.SetReadDeadline(time.Now()) }) // who is slow to ask
	t, err := readTarget(near)
	if !slow() || err != nil {
		return // nobody who follows the protocol waits for an answer
	}
	err = s.enter(time.Now())
	if err == nil {
		defer s.leave()
	}
	var far net.Conn
	if err == nil {
		far, err = s.dial(request, t)
	}
	if err != nil {
		_, _ = near.Write(appendAnswer(nil, words(err))) // nobody is left to be told
		return
	}
	defer far.Close()
	apart := context.AfterFunc(ctx, func() { far.Close() })
	defer apart()
	if _, err := near.Write(appendAnswer(nil, "")); err != nil || near.SetDeadline(time.Time{}) != nil {
		return
	}
	relay(near, far)
}

var (
	errOpen = fmt.Errorf("%d connections are open", maxOpen)
	errPace = fmt.Errorf("more than %d connections in a minute", perMinute)
)

// enter takes a place among the connections; leave gives it back.
func (s *server) enter(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = min(perMinute, s.left+perMinute*now.Sub(s.since).Minutes())
	s.since = now
	switch {
	case s.open >= maxOpen:
		return errOpen
	case s.left < 1:
		return errPace
	}
	s.open++
	s.left--
	return nil
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// dial connects to the first address of a target that answers. Each gets its share of the time that is left.
func (s *server) dial(ctx context.Context, t target) (far net.Conn, err error) {
	addrs, err := s.addresses(ctx, t.host)
	if err != nil {
		return nil, err
	}
	addrs = addrs[:min(len(addrs), maxAddrs)]
	for i, a := range addrs {
		deadline, _ := ctx.Deadline()
		within, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		far, err = s.dialer().DialContext(within, "tcp", netip.AddrPortFrom(a, t.port).String())
		cancel()
		if err == nil {
			break
		}
	}
	return far, err
}

// maxAddrs is how many addresses of a name are tried.
const maxAddrs = 8

// addresses are one or more.
func (s *server) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	all, err := s.lookup(ctx, host)
	if err == nil && len(all) == 0 {
		err = errNoAddress
	}
	return all, err
}

var errNoAddress = errors.New("the name has no address")

// dialer connects to no address that is not permitted: the address is looked at where the kernel is given it.
func (s *server) dialer() *net.Dialer {
	return &net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %.60q: %w", address, err)
		}
		return s.permit(a.Addr())
	}}
}

// words is why there is no connection, in few words.
func words(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the name is not known"
	case errors.As(err, &dns):
		return "look up name: " + dns.Err
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &op) && op.Timeout():
		return "no answer in time"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// lastWords is how long one side may go on when the other has ended.
const lastWords = 30 * time.Second

// relay copies both ways until both are at an end, or one fails.
func relay(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
}

// pass copies to the end, and then tells it to who reads.
func pass(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if c, ok := to.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		to.Close()
	}
	_ = to.SetReadDeadline(time.Now().Add(lastWords)) // or who never ends his side would keep the place for good
}
