package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/boot/outbound"
)

// A port is the box's one network port and what was asked of it. Each set ends what the one before began:
//
//	off | static | asking --lease--> leased --half its time--> renewing --> leased
//	                  ^                                            |
//	                  +---------------- lease ran out -------------+
type port struct {
	say   func(format string, args ...any)
	names string                 // folder where outboundd looks for name servers; empty: nobody looks
	is    atomic.Pointer[string] // what it does, in words

	mu   sync.Mutex         // guards all below, and set as a whole
	stop context.CancelFunc // ends what runs; nil: nothing does
	gone chan struct{}      // closed when it has ended
	now  machine.Network    // what runs
}

const (
	carrierPatience = 10 * time.Second       // wait for a cable, then take the first interface
	carrierPoll     = 100 * time.Millisecond // between two looks
	networkRetry    = 10 * time.Second       // between two tries of anything that failed
)

// set begins a configuration, which goes on until the next call. What runs already is left alone: a krad that starts again asks for
// it again, and connections must not end by that.
func (p *port) set(n machine.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil && n == p.now {
		return nil
	}
	if p.stop != nil {
		p.stop()
		<-p.gone
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.gone, p.now = cancel, make(chan struct{}), n
	go func(gone chan<- struct{}) {
		defer close(gone)
		p.hold(ctx, n)
	}(p.gone)
	return nil
}

// tell notes what the port does.
func (p *port) tell(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if old := p.is.Swap(&s); old == nil || *old != s {
		p.say("network: %s", s)
	}
}

// words is what the port does.
func (p *port) words() string {
	if s := p.is.Load(); s != nil {
		return *s
	}
	return "off"
}

// hold keeps the configuration on the port until ctx ends.
func (p *port) hold(ctx context.Context, n machine.Network) {
	for ctx.Err() == nil {
		if err := p.apply(ctx, n); err != nil && ctx.Err() == nil {
			p.tell("%v", err)
			pause(ctx, networkRetry)
		}
	}
}

// apply puts the configuration on the port and returns when it has ended, by ctx (nil) or by itself.
func (p *port) apply(ctx context.Context, n machine.Network) error {
	link, err := p.choose(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(flush(link), p.tellNames(machine.Network{})); err != nil {
		return err
	}
	if err := p.six(link, n.Six); err != nil {
		return err
	}
	switch n.Mode {
	case machine.Off:
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("set %s down: %w", link.Attrs().Name, err)
		}
		p.tell("off")
	case machine.Static:
		if err := p.configure(link, n); err != nil {
			return err
		}
		p.stay(ctx, link, n, fmt.Sprintf("%s on %s%s%s", n.Address, link.Attrs().Name, sixed(n.Six), named(n)))
	case machine.DHCP:
		return p.lease(ctx, link, n)
	}
	<-ctx.Done()
	return nil
}

// choose sets all interfaces up and returns the first that has a carrier, or the first of all when none gets one.
func (p *port) choose(ctx context.Context) (netlink.Link, error) {
	for until := time.Now().Add(carrierPatience); ; pause(ctx, carrierPoll) {
		links, err := interfaces()
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		late := time.Now().After(until)
		for _, l := range links {
			if hasCarrier(l) || late {
				return l, nil
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return nil, fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
			}
		}
		if late {
			return nil, errors.New("there is no network interface")
		}
	}
}

// interfaces are the wired ports in the order of their names.
func interfaces() ([]netlink.Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	wired := slices.DeleteFunc(all, func(l netlink.Link) bool {
		return l.Attrs().EncapType != "ether" || l.Attrs().Flags&net.FlagLoopback != 0
	})
	slices.SortFunc(wired, func(a, b netlink.Link) int { return cmp.Compare(a.Attrs().Name, b.Attrs().Name) })
	return wired, nil
}

func hasCarrier(l netlink.Link) bool {
	up := l.Attrs().Flags&net.FlagUp != 0
	return up && (l.Attrs().OperState == netlink.OperUp || l.Attrs().OperState == netlink.OperUnknown)
}

// flush takes all routes by a gateway off, and all addresses; their own routes go with them.
func flush(l netlink.Link) error {
	if err := flushRoutes(l); err != nil {
		return err
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() && a.IP.To4() == nil { // the kernel's
			continue
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("take address %s off: %w", a.IPNet, err)
		}
	}
	return nil
}

// configure puts a checked static configuration on an interface and tells which name servers come with it.
func (p *port) configure(l netlink.Link, n machine.Network) error {
	return errors.Join(configure(l, n), p.tellNames(n))
}

// tellNames tells outboundd which name servers to ask.
func (p *port) tellNames(n machine.Network) error {
	if p.names == "" {
		return nil
	}
	return outbound.WriteServers(p.names, servers(n))
}

// servers are the name servers of a checked configuration.
func servers(n machine.Network) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(n.DNS[:]), func(a netip.Addr) bool { return !a.IsValid() })
}

// named says which name servers a configuration has, for the port's words.
func named(n machine.Network) string {
	if len(servers(n)) == 0 {
		return ", no name server"
	}
	return ", name server " + strings.Trim(fmt.Sprint(servers(n)), "[]")
}

// six puts what there is of IPv6 besides on an interface. Router advertisements are heard only where that was chosen; the kernel asks
// for one when the interface goes up.
func (p *port) six(l netlink.Link, x machine.Six) error {
	name, hears := l.Attrs().Name, "0"
	if x.Mode == machine.SixAuto {
		hears = "1"
		if err := netlink.LinkSetDown(l); err != nil {
			return fmt.Errorf("set %s down: %w", name, err)
		}
	}
	if err := setSysctls("/proc/sys", sysctl{"net/ipv6/conf/" + name + "/accept_ra", hears}, sysctl{"net/ipv6/conf/" + name + "/autoconf", hears}); err != nil {
		return err
	}
	switch x.Mode {
	case machine.SixAuto:
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	case machine.SixStatic:
		return configure(l, machine.Network{Address: x.Address, Gateway: x.Gateway})
	}
	return nil
}

// sixed says what there is of IPv6 besides, for the port's words.
func sixed(x machine.Six) string {
	switch x.Mode {
	case machine.SixStatic:
		return " and " + x.Address.String()
	case machine.SixAuto:
		return " and IPv6 by router advertisements"
	}
	return ""
}

// configure puts a checked static configuration on an interface.
func configure(l netlink.Link, n machine.Network) error {
	ip := n.Address.Addr()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(n.Address.Bits(), ip.BitLen())}}
	if err := netlink.AddrReplace(l, a); err != nil {
		return fmt.Errorf("put address %s on %s: %w", n.Address, l.Attrs().Name, err)
	}
	if !n.Gateway.IsValid() {
		return nil
	}
	every := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if ip.Is4() {
		every = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if err := putRoute(l, machine.Route{To: every, Via: n.Gateway}); err != nil {
		return fmt.Errorf("set gateway %s: %w", n.Gateway, err)
	}
	return nil
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
