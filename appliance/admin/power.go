package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

func (s *step) reboot(ctx context.Context) error {
	return s.stop(ctx, "Restart the box? Nothing is released until it is up again"+s.alsoShares()+".", "The box restarts.",
		func() error { return s.a.c.Machine.Reboot(ctx) })
}

func (s *step) maintenance(ctx context.Context) error {
	return s.stop(ctx, "Restart the box for maintenance? It opens and releases nothing until it is restarted again.", "The box restarts for maintenance.",
		func() error { return s.a.c.Machine.Maintenance(ctx) })
}

func (s *step) powerOff(ctx context.Context) error {
	return s.stop(ctx, "Switch the box off? Nothing is released until somebody switches it on"+s.alsoShares()+".", "The box switches itself off.",
		func() error { return s.a.c.Machine.PowerOff(ctx) })
}

// alsoShares says what else a box takes that starts attended. Who restarts it from afar may not have the shares at hand.
func (s *step) alsoShares() string {
	l := s.a.lock()
	if l == nil {
		return ""
	}
	return fmt.Sprintf(" and %d of %s of unlock secret %s are typed at this console", l.Threshold, count(len(l.Shares), "share", "shares"), l.Name)
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

// hostTolerance is how far a host's clock may be from an officer's word that it is right.
const hostTolerance = 2 * time.Minute

// timeSet makes the clock manual. Below the last trusted time one officer cannot set it: an old, stolen certificate would be good again.
// Two can, or a slip of the fingers would be for good.
func (s *step) timeSet(ctx context.Context, c console.TimeSet) error {
	s.depends(s.state().Clock())
	if s.approved != nil { // it is later now than when it was asked for
		c.At = c.At.Add(s.a.now().Sub(s.approved.Made)).Truncate(time.Second)
	}
	last := s.state().Clock()
	back := c.At.Before(last.Time)
	if back && s.dry == nil && s.approved == nil {
		return fmt.Errorf("the clock was trusted at %s and does not go back behind that on the word of one: where two officers are needed, two may take it back (dual-control)", stamp(last.Time))
	}
	if s.a.c.Possible != nil {
		if err := s.a.c.Possible(c.At); err != nil {
			return err
		}
	}
	if off := time.Until(c.At).Abs(); s.a.c.Machine == nil && off > hostTolerance {
		return fmt.Errorf("the host's clock differs by %s: set it on the host, then confirm it here", off.Round(time.Second))
	}
	set := store.ClockSet{Time: c.At, Source: store.Manual}
	if _, err := store.Apply(s.state(), set); err != nil {
		return err // before the clock is touched
	}
	if s.dry != nil {
		return s.timeLater(back, last)
	}
	if err := s.confirm("Set the clock to %s? %sRules will rely on your word, and on the word of one it does not go back behind that.", stamp(c.At), ahead(c.At)); err != nil {
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
	s.a.c.Trust(s.state().Clock())
	return s.say("The clock is %s: manual, on the word of %s.", stamp(c.At), strings.TrimSuffix(s.officer.Name+" and "+s.approver, " and "))
}

// timeLater is what a second officer approves: the time as it was asked for, and what has passed since.
func (s *step) timeLater(back bool, last store.Clock) error {
	if back {
		s.tell(fmt.Sprintf("This takes the clock BACK behind %s, when it was trusted last: certificates and permissions that have ended since count again.", stamp(last.Time)))
	}
	s.tell("Set the clock to the time that is named, and to what has passed since it was asked for? Rules will rely on the word of two officers.")
	return errActs
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
