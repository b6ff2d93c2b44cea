package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

func (s *step) serviceOnChallenge(ctx context.Context, c console.ServiceOnChallenge) error {
	set := store.StandbySet{Minutes: c.Minutes}
	if c.Minutes == 0 {
		return fmt.Errorf("0 minutes: the service would never be there; 1 to %d, or: service always", store.MaxStandby)
	}
	if _, err := store.Apply(s.state(), set); err != nil {
		return err
	}
	if err := s.confirm("Release keys only after a challenge has started the service, until nobody has asked for %s?", count(c.Minutes, "minute", "minutes")); err != nil {
		return err
	}
	if err := s.commit(ctx, set); err != nil {
		return err
	}
	return s.say("The service is %s.", s.a.service())
}

func (s *step) serviceAlways(ctx context.Context) error {
	if err := s.commit(ctx, store.StandbySet{}); err != nil {
		return err
	}
	return s.say("The service is %s.", s.a.service())
}

func (s *step) serviceShow() error { return field(s, "service", s.a.service()) }

// service is whether keys are released, in words.
func (a *Agent) service() string {
	idle := a.c.Store.State().Standby().Minutes
	switch {
	case idle == 0:
		return "always there"
	case a.c.There != nil && a.c.There():
		return fmt.Sprintf("instantiated; it ends after %s without a request", count(idle, "minute", "minutes"))
	}
	return fmt.Sprintf("not instantiated: it starts on a challenge (kra verify -instantiate), and ends after %s without a request", count(idle, "minute", "minutes"))
}
