package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/enrol"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

const (
	addressWithin = 45 * time.Second // for a cable and a DHCP server
	addressPoll   = 300 * time.Millisecond
	listenTurn    = 2 * time.Second // for a command that was interrupted to end
)

// A place is taken by one at a time.
type place chan struct{}

func newPlace() place { return make(place, 1) }

func (p place) take(ctx context.Context, within time.Duration) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case p <- struct{}{}:
		return true
	case <-late.C:
		return false
	case <-ctx.Done():
		return false
	}
}

func (p place) give() { <-p }

// enrolListen meets the desk over the port, for as long as this command lasts: an interrupt at the console ends it, and the network
// with it.
func (s *step) enrolListen(ctx context.Context, c console.EnrolListen) error {
	switch {
	case s.a.c.Mode != console.Factory:
		return fmt.Errorf("this box is %s and cannot be enrolled", s.a.c.Mode)
	case s.a.c.Port == nil:
		return errors.New("this box has no port to listen on")
	case !s.a.listening.take(ctx, listenTurn):
		return errors.New("another console listens already")
	}
	defer s.a.listening.give()
	if err := s.begin(ctx); err != nil {
		return err
	}
	at, err := s.reach(ctx, c)
	defer s.unreach(ctx, at)
	if err != nil {
		return err
	}
	code := enrol.NewCode()
	for _, a := range at.addresses {
		field(s, "address", "https://"+a)
	}
	field(s, "code", code.Text())
	s.say("Within %d minutes, at the desk of %s: domain enrol -at ADDRESS -code CODE …", enrol.Valid/time.Minute, s.a.c.Domain.Name)
	s.say("The code is good once. Whoever has it can take this box into service for %s. An interrupt ends this.", s.a.c.Domain.Name)
	s.flush()
	var in tpm.Installed
	told := &telling{say: func(format string, args ...any) error {
		err := s.say(format, args...)
		s.flush()
		return err
	}}
	err = enrol.Box{Code: code, Request: s.a.c.TPM.EnrolRequest, Say: told.tell,
		Install: func(ctx context.Context, bundle []byte) (name string, err error) {
			in, err = s.a.take(ctx, bundle)
			if err == nil && !in.NeedsStore {
				err = errors.New("the bundle enrols nobody: its approvals were added")
			}
			return in.Box.Name, err
		}}.Serve(ctx, turn{s.a.c.Port})
	told.over()
	if err != nil {
		return fmt.Errorf("not enrolled: %w", err)
	}
	return s.enrolled(context.WithoutCancel(ctx), in)
}

// flush has what was said be shown before the command has ended.
func (s *step) flush() {
	if f, ok := s.out.(http.Flusher); ok {
		f.Flush()
	}
}

// A telling stops when its command has ended: a handler may outlive that.
type telling struct {
	mu    sync.Mutex // guards all below
	say   func(format string, args ...any) error
	ended bool
}

func (t *telling) tell(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		_ = t.say(format, args...)
	}
}

func (t *telling) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// A turn is one use of a listener that outlives it: closed, it only accepts no more.
type turn struct{ net.Listener }

func (t turn) Close() error { return t.until(time.Unix(1, 0)) }

func (t turn) until(at time.Time) error {
	l, ok := t.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return t.Listener.Close()
	}
	return l.SetDeadline(at)
}

// reached is where a box can be met, and whether its network has to go down again.
type reached struct {
	addresses []string
	up        bool
}

// reach puts the network up, which a factory box has off, and waits for an address. The network of a host is the host's.
func (s *step) reach(ctx context.Context, c console.EnrolListen) (at reached, err error) {
	if err := (turn{s.a.c.Port}).until(time.Time{}); err != nil {
		return at, err
	}
	if s.a.c.Machine != nil {
		m, err := s.a.c.Machine.Status(ctx)
		if err != nil {
			return at, err
		}
		at.up = m.Network != ""
	}
	if !at.up {
		at.addresses = []string{s.a.c.Port.Addr().String()}
		return at, nil
	}
	n := machine.Network{Mode: machine.DHCP}
	if c.Address.IsValid() {
		n = machine.Network{Mode: machine.Static, Address: c.Address, Gateway: c.Gateway}
	}
	if err := n.Check(); err != nil {
		return at, err
	}
	if err := s.a.c.Machine.SetNetwork(ctx, n); err != nil {
		return at, err
	}
	for end := time.Now().Add(addressWithin); len(at.addresses) == 0; {
		m, err := s.a.c.Machine.Status(ctx)
		if err != nil {
			return at, err
		}
		at.addresses = addresses(m, s.a.c.Port.Addr())
		if time.Now().After(end) {
			return at, fmt.Errorf("the box got no address within %s: %s; plug the cable in, or say enrol listen at PREFIX", addressWithin, m.Network)
		}
		select {
		case <-ctx.Done():
			return at, ctx.Err()
		case <-time.After(addressPoll):
		}
	}
	return at, nil
}

// unreach takes the network down again.
func (s *step) unreach(ctx context.Context, at reached) {
	if !at.up {
		return
	}
	if err := s.a.c.Machine.SetNetwork(context.WithoutCancel(ctx), machine.Network{Mode: machine.Off}); err != nil {
		s.say("The network is still up: %v", err)
	}
}

// addresses are those of the ports that others can reach, with the port's number.
func addresses(m machine.Status, l net.Addr) (out []string) {
	tcp, ok := l.(*net.TCPAddr)
	if !ok {
		return nil
	}
	for _, p := range m.Ports {
		for _, text := range p.Addresses {
			if a, err := netip.ParsePrefix(text); err == nil && a.Addr().IsGlobalUnicast() {
				out = append(out, net.JoinHostPort(a.Addr().String(), strconv.Itoa(tcp.Port)))
			}
		}
	}
	return out
}
