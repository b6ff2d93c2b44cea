package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
)

// networkRouteAdd refuses what the box could not use with the addresses that it has.
func (s *step) networkRouteAdd(ctx context.Context, c console.NetworkRouteAdd) error {
	n := s.current()
	all := n.Further()
	if i := slices.IndexFunc(all, func(r machine.Route) bool { return r.To == c.To }); i >= 0 {
		return fmt.Errorf("there is a route %s; first: network route remove %s", all[i], c.To)
	}
	if len(all) == machine.MaxRoutes {
		return fmt.Errorf("there are %d routes, and no more at once; take one back: network route remove", machine.MaxRoutes)
	}
	n.Routes[len(all)] = machine.Route{To: c.To, Via: c.Via}
	if err := n.Check(); err != nil {
		return err
	}
	return s.network(ctx, n)
}

func (s *step) networkRouteRemove(ctx context.Context, c console.NetworkRouteRemove) error {
	n := s.current()
	all := n.Further()
	rest := slices.DeleteFunc(slices.Clone(all), func(r machine.Route) bool { return r.To == c.To })
	if len(rest) == len(all) {
		return fmt.Errorf("there is no route to %s (network show)", c.To)
	}
	n.Routes = [machine.MaxRoutes]machine.Route{}
	copy(n.Routes[:], rest)
	return s.network(ctx, n)
}

// lostWords is what a question says of routes that do not go with the addresses it is about; nothing if all do.
func lostWords(lost []error) string {
	if len(lost) == 0 {
		return ""
	}
	return "What does not go with it ends: " + strings.ReplaceAll(errors.Join(lost...).Error(), "\n", "; ") + ". "
}
