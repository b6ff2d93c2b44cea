package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
)

// routeRetry is between two tries of a route that the kernel refuses: its gateway may be of a network that a router has yet to advertise.
const routeRetry = 2 * time.Second

// stay keeps the routes of n on an interface that has its addresses, and has the port's words say which are not on, until ctx ends. A
// route that cannot be on is no reason to go without an address.
func (p *port) stay(ctx context.Context, l netlink.Link, n machine.Network, words string) {
	for ctx.Err() == nil {
		all, missing := putRoutes(l, n)
		p.tell("%s%s", words, all)
		if !missing {
			<-ctx.Done()
		}
		pause(ctx, routeRetry)
	}
}

// stayFor does so for no longer than d.
func (p *port) stayFor(ctx context.Context, d time.Duration, l netlink.Link, n machine.Network, words string) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	p.stay(ctx, l, n, words)
}

// putRoutes puts the routes of n on an interface. It says which are on, and which are not and why.
func putRoutes(l netlink.Link, n machine.Network) (words string, missing bool) {
	var on, off strings.Builder
	for _, r := range n.Further() {
		err := n.Reaches(r)
		if err == nil {
			if err = putRoute(l, r); err == nil {
				fmt.Fprintf(&on, ", route %s", r)
				continue
			}
			err = fmt.Errorf("route %s: %w", r, err)
		}
		fmt.Fprintf(&off, "; not on: %v", err)
	}
	return on.String() + off.String(), off.Len() > 0
}

// putRoute puts a checked route on an interface, in place of one to the same network.
func putRoute(l netlink.Link, r machine.Route) error {
	to := r.To.Addr()
	return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: r.Via.AsSlice(),
		Dst: &net.IPNet{IP: to.AsSlice(), Mask: net.CIDRMask(r.To.Bits(), to.BitLen())}})
}

// flushRoutes takes off what goes by a gateway: what was put there, and what a router advertised.
func flushRoutes(l netlink.Link) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(l, family)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Gw == nil {
				continue
			}
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) { // it may have run out
				return fmt.Errorf("take route by %s off: %w", r.Gw, err)
			}
		}
	}
	return nil
}
