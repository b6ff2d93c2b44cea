package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

// A server connects for who may open its socket.
type server struct {
	names  string                 // folder of the name servers' list
	permit func(netip.Addr) error // whether an address may be spoken to
	last   time.Duration          // lastWords

	mu    sync.Mutex     // guards all below
	open  int            // connections, those that are being made included
	to    map[target]int // of open; no target is in it without one
	left  pace           // connections that may begin now
	apart int            // of open, those over UDP
	few   pace           // exchanges over UDP that may begin now
}

// A pace is how many may begin now, of so many in a minute.
type pace struct {
	every float64
	left  float64
	since time.Time
}

func newPace(perMinute float64) pace { return pace{perMinute, perMinute, time.Now()} }

// fill adds what the time since the last call allows.
func (p *pace) fill(now time.Time) {
	p.left = min(p.every, p.left+p.every*now.Sub(p.since).Minutes())
	p.since = now
}

func newServer(names string) *server {
	return &server{names: names, permit: func(a netip.Addr) error { return permit(a, ownAddresses) }, last: lastWords, to: map[target]int{},
		left: newPace(perMinute), few: newPace(perMinuteUDP)}
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
	err = s.enter(t, time.Now())
	if err == nil {
		defer s.leave(t)
	}
	var far net.Conn
	if err == nil {
		far, err = s.dialFor(request, near, t)
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
	if t.over == overUDP {
		exchange(near, far, exchangeWithin)
		return
	}
	relay(near, far, s.last)
}

// dialFor dials while the asker waits: when he has gone, or goes on talking, it ends.
func (s *server) dialFor(ctx context.Context, near net.Conn, t target) (net.Conn, error) {
	ctx, gone := context.WithCancelCause(ctx)
	defer gone(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if n, err := near.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			gone(errGone)
		}
	}()
	far, err := s.dial(ctx, t)
	_ = near.SetReadDeadline(time.Now())
	<-watched
	if cause := context.Cause(ctx); cause == errGone {
		if far != nil {
			far.Close()
		}
		return nil, cause
	}
	return far, err
}

var (
	errOpen   = fmt.Errorf("%d connections are open", maxOpen)
	errOpenTo = fmt.Errorf("%d connections to it are open", maxOpenTo)
	errPace   = fmt.Errorf("more than %d connections in a minute", perMinute)
	errUDP    = fmt.Errorf("%d exchanges over UDP are open", maxExchanges)
	errFew    = fmt.Errorf("more than %d exchanges over UDP in a minute", perMinuteUDP)
	errGone   = errors.New("the asker has gone")
)

// enter takes a place among the connections; leave gives it back.
func (s *server) enter(t target, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left.fill(now)
	s.few.fill(now)
	switch {
	case s.open >= maxOpen:
		return errOpen
	case s.to[t] >= maxOpenTo:
		return errOpenTo
	case s.left.left < 1:
		return errPace
	case t.over == overUDP && s.apart >= maxExchanges:
		return errUDP
	case t.over == overUDP && s.few.left < 1:
		return errFew
	}
	s.open++
	s.to[t]++
	s.left.left--
	if t.over == overUDP {
		s.apart++
		s.few.left--
	}
	return nil
}

func (s *server) leave(t target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if t.over == overUDP {
		s.apart--
	}
	if s.to[t]--; s.to[t] == 0 {
		delete(s.to, t)
	}
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
		far, err = s.dialer().DialContext(within, transports[t.over], netip.AddrPortFrom(a, t.port).String())
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
func relay(a, b net.Conn, last time.Duration) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b, last) })
	both.Go(func() { pass(b, a, last) })
	both.Wait()
}

// pass copies to the end, and then tells it to who reads: he may say his last words.
func pass(to, from net.Conn, last time.Duration) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if c, ok := to.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		to.Close()
	}
	_ = to.SetReadDeadline(time.Now().Add(last)) // or who never ends his side would keep the place for good
}
