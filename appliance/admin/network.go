package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

// trialTime is how long a network configuration is on the port before it has to be confirmed.
const trialTime = 2 * time.Minute

// A trial is a network configuration on the port that nobody has confirmed. The state still has the former one: a box or an agent that
// starts anew puts that on.
//
//	network ... --> on trial --network confirm--> in the state
//	                   '----------time----------> the former one is put on again
type trial struct {
	lasts time.Duration

	mu     sync.Mutex // guards all below, and is held while the port changes
	is     machine.Network
	line   string
	until  time.Time
	timer  *time.Timer // nil: nothing is on trial
	number int         // of the last trial
}

// end ends the trial without doing anything else. It needs t.mu.
func (t *trial) end() {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer, t.is = nil, machine.Network{}
}

// remembered is the configuration of the state, or what process 1 does by itself.
func remembered(s *store.State) machine.Network {
	n := s.Network()
	if n.Mode == "" {
		n.Mode = machine.DHCP
	}
	return n
}

// current is what a change of a part changes: what is on trial, or in the state.
func (s *step) current() machine.Network {
	t := &s.a.trial
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		return t.is
	}
	return remembered(s.state())
}

func (s *step) networkStatic(ctx context.Context, c console.NetworkStatic) error {
	n := besides(s.current(), machine.Network{Mode: machine.Static, Address: c.Address, Gateway: c.Gateway})
	if len(c.DNS) > len(n.DNS) {
		return fmt.Errorf("%d name servers, at most %d are asked", len(c.DNS), len(n.DNS))
	}
	copy(n.DNS[:], c.DNS)
	return s.network(ctx, n)
}

func (s *step) networkDHCP(ctx context.Context) error {
	return s.network(ctx, besides(s.current(), machine.Network{Mode: machine.DHCP}))
}

// besides is n with what stays when the address changes.
func besides(was, n machine.Network) machine.Network {
	n.Six, n.Routes, n.Host = was.Six, was.Routes, was.Host
	return n
}

func (s *step) networkSix(ctx context.Context, c console.NetworkSix) error {
	n := s.current()
	n.Six = machine.Six{Mode: machine.SixStatic, Address: c.Address, Gateway: c.Gateway}
	return s.network(ctx, n)
}

func (s *step) networkSixAuto(ctx context.Context) error {
	n := s.current()
	n.Six = machine.Six{Mode: machine.SixAuto}
	return s.network(ctx, n)
}

func (s *step) networkSixOff(ctx context.Context) error {
	n := s.current()
	n.Six = machine.Six{}
	return s.network(ctx, n)
}

func (s *step) networkHostName(ctx context.Context, c console.NetworkHostName) error {
	n := s.current()
	n.Host = machine.HostName(c.Name)
	return s.network(ctx, n)
}

// network puts a configuration on the port, on trial, without the routes that do not go with its addresses. One that cannot be put there
// leaves all as it was.
func (s *step) network(ctx context.Context, n machine.Network) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	n, lost := n.Fit()
	if err := n.Check(); err != nil {
		return err
	}
	t := &s.a.trial
	if err := s.confirm("Use %s? %sConnections to the old address end. Without network confirm within %s the former comes back.", networkWords(n), lostWords(lost), t.lasts); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := s.a.c.Machine.SetNetwork(ctx, s.state().OnPort(n)); err != nil {
		return err
	}
	t.end()
	t.is, t.line, t.until = n, s.line, time.Now().Add(t.lasts)
	t.number++
	mine := t.number
	t.timer = time.AfterFunc(t.lasts, func() { s.a.rollBack(mine) })
	return s.say("The box uses %s for %s. If you can reach it, say network confirm.", networkWords(n), t.lasts)
}

// rollBack puts the former configuration on the port again, unless another trial has begun. While that fails it is tried again.
func (a *Agent) rollBack(number int) {
	t := &a.trial
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil || t.number != number {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollBackWithin)
	defer cancel()
	n := remembered(a.c.Store.State())
	if err := a.c.Machine.SetNetwork(ctx, a.c.Store.State().OnPort(n)); err != nil {
		t.timer.Reset(rollBackAgain)
		return
	}
	r := commandRecord{Officer: byClock, Line: t.line, Stage: stageExpired, Detail: "not confirmed: the box uses " + networkWords(n) + " again"}
	_, _ = a.c.Log.Append(ctx, audit.Entry{Kind: receipt.Command, Private: r}) // the former comes back even if the log is broken
	t.end()
}

const (
	rollBackWithin = 10 * time.Second
	rollBackAgain  = 5 * time.Second
)

var errNoTrial = errors.New("no network configuration waits to be confirmed (network show)")

// networkConfirm remembers what is on trial.
func (s *step) networkConfirm(ctx context.Context) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	t := &s.a.trial
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		return errNoTrial
	}
	n := t.is
	if err := s.commit(ctx, store.NetworkSet{Network: n}); err != nil {
		return err
	}
	t.end()
	return s.say("The box uses %s from now on.", networkWords(n))
}

func (s *step) networkShow(ctx context.Context) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	configured := "nothing yet; the box started with DHCP"
	if n := s.state().Network(); n.Mode != "" {
		configured = networkWords(n)
	}
	field(s, "configured", configured)
	named := s.state().HostName()
	if s.state().Network().Host == "" {
		named += ", the box's own name"
	}
	field(s, "host name", named)
	t := &s.a.trial
	t.mu.Lock()
	if t.timer != nil {
		field(s, "on trial", fmt.Sprintf("%s, for another %s: network confirm keeps it", networkWords(t.is), max(0, time.Until(t.until)).Round(time.Second)))
	}
	t.mu.Unlock()
	m, err := s.a.c.Machine.Status(ctx)
	if err != nil {
		return err
	}
	field(s, "now", m.Network)
	ports := newTable("PORT", "MAC", "LINK", "ADDRESSES")
	for _, p := range m.Ports {
		link := "down"
		if p.Up {
			link = "up"
		}
		ports.row(p.Name, p.MAC, link, fmt.Sprint(p.Addresses))
	}
	return ports.print(s, "There are no ports.")
}

// networkWords says a configuration in words.
func networkWords(n machine.Network) string {
	words := map[machine.Mode]string{machine.Static: "static " + n.Address.String(), machine.DHCP: "DHCP", machine.Off: "off"}[n.Mode]
	by := func(g netip.Addr) string {
		if g.IsValid() {
			return ", gateway " + g.String()
		}
		return ""
	}
	words += by(n.Gateway)
	var servers []string
	for _, d := range n.DNS {
		if d.IsValid() {
			servers = append(servers, d.String())
		}
	}
	if len(servers) > 0 {
		words += ", name servers " + strings.Join(servers, " ")
	}
	switch n.Six.Mode {
	case machine.SixStatic:
		words += ", IPv6 " + n.Six.Address.String() + by(n.Six.Gateway)
	case machine.SixAuto:
		words += ", IPv6 by router advertisements"
	}
	for _, r := range n.Further() {
		words += ", route " + r.String()
	}
	if n.Host != "" {
		words += ", host name " + string(n.Host)
	}
	return words
}
