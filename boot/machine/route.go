package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// A Route is one besides those that an address brings: what is in To is reached by the router Via, a host of one of the box's own
// networks. In IPv6 that may be link-local. The zero Route is none.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

func (r Route) String() string { return r.To.String() + " via " + r.Via.String() }

// Further are the routes that n has.
func (n Network) Further() []Route {
	return slices.DeleteFunc(slices.Clone(n.Routes[:]), func(r Route) bool { return r == Route{} })
}

// Fit is n without the routes that do not go with its addresses, and says of each of those why.
func (n Network) Fit() (fit Network, lost []error) {
	fit, fit.Routes = n, [MaxRoutes]Route{}
	kept := 0
	for _, r := range n.Further() {
		if err := n.Reaches(r); err != nil {
			lost = append(lost, err)
			continue
		}
		fit.Routes[kept] = r
		kept++
	}
	return fit, lost
}

// Reaches says why r does not go with the addresses of n. An address that is a server's or a router's to give is not known before, and
// then only the kernel can say.
func (n Network) Reaches(r Route) error {
	four := r.To.Addr().Is4()
	var own netip.Prefix
	switch {
	case n.Mode == Static && n.Address.Addr().Is4() == four:
		own = n.Address
	case !four && n.Six.Mode == SixStatic:
		own = n.Six.Address
	case four && n.Mode == DHCP, !four && n.Six.Mode == SixAuto:
		return nil
	case four:
		return fmt.Errorf("route %s: the box has no address of IPv4", r)
	default:
		return fmt.Errorf("route %s: the box has no address of IPv6", r)
	}
	switch {
	case own.Bits() <= r.To.Bits() && own.Masked().Contains(r.To.Addr()):
		return fmt.Errorf("route %s: %s is the box's own network, which needs no gateway", r, own.Masked())
	case r.Via == own.Addr():
		return fmt.Errorf("route %s: the gateway is the box itself", r)
	case !own.Masked().Contains(r.Via) && (four || !r.Via.IsLinkLocalUnicast()):
		return fmt.Errorf("route %s: the gateway is not in %s, the box's own network", r, own.Masked())
	}
	return nil
}

// check says why r can be a route on no box.
func (r Route) check() error {
	to, via := r.To.Addr(), r.Via
	switch {
	case !r.To.IsValid() || to.Is4In6() || to.IsMulticast() || to.IsLoopback() || to.IsLinkLocalUnicast():
		return fmt.Errorf("route %s: there is no other network %s", r, r.To)
	case r.To.Bits() == 0:
		return fmt.Errorf("route %s: what has no route of its own goes by the gateway, which comes with the address", r)
	case r.To != r.To.Masked():
		return fmt.Errorf("route %s: %s is an address, its network is %s", r, r.To, r.To.Masked())
	case via.Is4() != to.Is4():
		return fmt.Errorf("route %s: network and gateway are of different families", r)
	case via.Is4In6() || via.IsUnspecified() || via.IsMulticast() || via.IsLoopback() || via.Zone() != "":
		return fmt.Errorf("route %s: the gateway cannot be a host's address", r)
	}
	return nil
}

func (n Network) checkRoutes() error {
	ended := false
	for i, r := range n.Routes {
		if r == (Route{}) {
			ended = true
			continue
		}
		if ended {
			return errors.New("routes have a gap")
		}
		if err := r.check(); err != nil {
			return err
		}
		if err := n.Reaches(r); err != nil {
			return err
		}
		if slices.ContainsFunc(n.Routes[:i], func(o Route) bool { return o.To == r.To }) {
			return fmt.Errorf("there are two routes to %s", r.To)
		}
	}
	return nil
}
