package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
)

func (s *step) reboot(ctx context.Context) error {
	return s.stop(ctx, "Restart the box? Nothing is released until it is up again.", "The box restarts.",
		func() error { return s.a.c.Machine.Reboot(ctx) })
}

func (s *step) powerOff(ctx context.Context) error {
	return s.stop(ctx, "Switch the box off? Nothing is released until somebody switches it on.", "The box switches itself off.",
		func() error { return s.a.c.Machine.PowerOff(ctx) })
}

func (s *step) stop(ctx context.Context, question, done string, do func() error) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	if err := s.confirm("%s", question); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	s.end = true
	return s.say("%s", done)
}

func (s *step) timeShow() error {
	field(s, "time", stamp(time.Now()))
	field(s, "clock", s.a.clock())
	c := s.state().Clock()
	if c.Time.IsZero() {
		return field(s, "last trusted", "never")
	}
	return field(s, "last trusted", fmt.Sprintf("%s, %s", stamp(c.Time), c.Source))
}

// hostTolerance is how far a host's clock may be from an officer's word that it is right.
const hostTolerance = 2 * time.Minute

// timeSet makes the clock manual. Below the last trusted time an officer alone cannot set it: an old, stolen
// certificate would be good again.
func (s *step) timeSet(ctx context.Context, c console.TimeSet) error {
	if last := s.state().Clock(); c.At.Before(last.Time) {
		return fmt.Errorf("the clock was trusted at %s and does not go back behind that", stamp(last.Time))
	}
	if off := time.Until(c.At).Abs(); s.a.c.Machine == nil && off > hostTolerance {
		return fmt.Errorf("the host's clock differs by %s: set it on the host, then confirm it here", off.Round(time.Second))
	}
	set := store.ClockSet{Time: c.At, Source: store.Manual}
	if _, err := store.Apply(s.state(), set); err != nil {
		return err // before the clock is touched
	}
	if err := s.confirm("Set the clock to %s? %sRules will rely on your word, and it does not go back behind that.", stamp(c.At), ahead(c.At)); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if s.a.c.Machine != nil {
		if err := s.a.c.Machine.SetClock(ctx, c.At); err != nil {
			return err
		}
	}
	if err := s.commit(ctx, set); err != nil {
		return err
	}
	return s.say("The clock is %s: manual, on the word of %s.", stamp(c.At), s.officer.Name)
}

// ahead warns of a step that a slip of the fingers makes, and nobody could take back.
func ahead(t time.Time) string {
	const day = 24 * time.Hour
	days := time.Until(t).Round(time.Second) / day
	if days < 1 {
		return ""
	}
	return fmt.Sprintf("That is %s ahead of the box's clock. ", count(int(days), "day", "days"))
}

func (s *step) networkShow(ctx context.Context) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	n := s.state().Network()
	switch n.Mode {
	case machine.Static:
		field(s, "configured", "static "+n.Address.String())
		if n.Gateway.IsValid() {
			field(s, "gateway", n.Gateway.String())
		}
		for _, d := range n.DNS {
			if d.IsValid() {
				field(s, "name server", d.String())
			}
		}
	case machine.DHCP:
		field(s, "configured", "DHCP")
	case machine.Off:
		field(s, "configured", "off")
	default:
		field(s, "configured", "nothing yet; the box started with DHCP")
	}
	m, err := s.a.c.Machine.Status(ctx)
	if err != nil {
		return err
	}
	field(s, "now", m.Network)
	t := newTable("PORT", "MAC", "LINK", "ADDRESSES")
	for _, p := range m.Ports {
		link := "down"
		if p.Up {
			link = "up"
		}
		t.row(p.Name, p.MAC, link, fmt.Sprint(p.Addresses))
	}
	return t.print(s, "There are no ports.")
}

func (s *step) networkStatic(ctx context.Context, c console.NetworkStatic) error {
	n := machine.Network{Mode: machine.Static, Address: c.Address, Gateway: c.Gateway}
	n.DNS[0] = c.DNS
	return s.network(ctx, n, "the address "+c.Address.String())
}

func (s *step) networkDHCP(ctx context.Context) error {
	return s.network(ctx, machine.Network{Mode: machine.DHCP}, "an address from DHCP")
}

// network puts a configuration on the port and then remembers it: one that cannot be put there is not remembered.
func (s *step) network(ctx context.Context, n machine.Network, what string) error {
	if s.a.c.Machine == nil {
		return errHost
	}
	if err := n.Check(); err != nil {
		return err
	}
	if err := s.confirm("Use %s from now on? Connections to the old address end.", what); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.a.c.Machine.SetNetwork(ctx, n); err != nil {
		return err
	}
	if err := s.commit(ctx, store.NetworkSet{Network: n}); err != nil {
		return err
	}
	return s.say("The box uses %s.", what)
}
