package boot

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/keyrelease/krabox/boot/machine"
)

const (
	dhcpAnswer = 3 * time.Second // wait for one answer, then ask again
	dhcpAsks   = 3
	leastLease = time.Minute // a shorter one is treated as this: a server cannot make the box chatter
	unsaidTime = time.Hour   // of a lease that names no time
)

// lease asks for an address and keeps it until ctx ends (nil), or until it is lost or refused (an error). The address is
// taken off by the next apply.
func (p *port) lease(ctx context.Context, l netlink.Link, asked machine.Network) error {
	p.tell("asking for an address on %s", l.Attrs().Name)
	c, err := nclient4.New(l.Attrs().Name, nclient4.WithTimeout(dhcpAnswer), nclient4.WithRetry(dhcpAsks))
	if err != nil {
		return fmt.Errorf("open DHCP client: %w", err)
	}
	defer c.Close()
	var held machine.Network
	got, err := c.Request(ctx, calls(asked)...)
	for err == nil {
		var again time.Duration
		if again, err = p.take(l, got.ACK, asked, &held); err != nil {
			break
		}
		if p.stayFor(ctx, again, l, held, leaseWords(l, held)); ctx.Err() != nil {
			return nil
		}
		got, err = renew(ctx, c, got, again, asked, func() { p.stayFor(ctx, networkRetry, l, held, leaseWords(l, held)) })
	}
	if err != nil {
		return fmt.Errorf("no address by DHCP: %w", err)
	}
	return nil
}

// renew asks the server for more time until the second half of the lease is over, and waits in between.
func renew(ctx context.Context, c *nclient4.Client, old *nclient4.Lease, left time.Duration, asked machine.Network, wait func()) (*nclient4.Lease, error) {
	for until := time.Now().Add(left); ; wait() {
		got, err := c.Renew(ctx, old, calls(asked)...)
		if err == nil || time.Now().After(until) || ctx.Err() != nil {
			return got, err
		}
	}
}

// calls tells the server what the box is called (RFC 2132 section 3.14).
func calls(n machine.Network) []dhcpv4.Modifier {
	if n.Host == "" {
		return nil
	}
	return []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptHostName(string(n.Host)))}
}

// leaseWords says what a lease came to, for the port's words.
func leaseWords(l netlink.Link, held machine.Network) string {
	words := fmt.Sprintf("%s on %s by DHCP%s%s", held.Address, l.Attrs().Name, sixed(held.Six), named(held))
	if held.Host != "" {
		words += ", host name " + string(held.Host)
	}
	return words
}

// take puts a lease on the interface and returns when to ask for more time; held is then what is there, with what was asked besides.
// Whatever a server says passes the same check as what an officer types. What is held is renewed and not changed: another address or router
// begins anew, or a server could heap them up.
func (p *port) take(l netlink.Link, ack *dhcpv4.DHCPv4, asked machine.Network, held *machine.Network) (again time.Duration, err error) {
	n, err := fromLease(ack)
	if err != nil {
		return 0, err
	}
	if held.Mode != "" && (n.Address != held.Address || n.Gateway != held.Gateway) {
		return 0, fmt.Errorf("the server renews %s as %s", held.Address, n.Address)
	}
	*held = n
	held.Six, held.Routes, held.Host = asked.Six, asked.Routes, asked.Host
	if err := p.configure(l, n); err != nil {
		return 0, err
	}
	return max(leastLease, ack.IPAddressLeaseTime(unsaidTime)) / 2, nil
}

// fromLease reads a lease as the configuration that it stands for.
func fromLease(ack *dhcpv4.DHCPv4) (machine.Network, error) {
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok {
		return machine.Network{}, fmt.Errorf("lease has no address")
	}
	mask := ack.SubnetMask()
	if mask == nil {
		mask = net.IP(ip.AsSlice()).DefaultMask()
	}
	bits, size := mask.Size()
	if size != ip.BitLen() {
		return machine.Network{}, fmt.Errorf("lease has the netmask %s", mask)
	}
	n := machine.Network{Mode: machine.Static, Address: netip.PrefixFrom(ip, bits)}
	if routers := ack.Router(); len(routers) > 0 {
		n.Gateway, _ = netip.AddrFromSlice(routers[0].To4())
	}
	takeServers(&n, ack.DNS())
	if err := n.Check(); err != nil {
		return machine.Network{}, fmt.Errorf("lease: %w", err)
	}
	return n, nil
}

// takeServers takes the name servers that can be asked, as many as there is room for. One that cannot is no reason to go without an
// address.
func takeServers(n *machine.Network, offered []net.IP) {
	used := 0
	for _, ip := range offered {
		with := *n
		if used == len(n.DNS) {
			return
		}
		with.DNS[used], _ = netip.AddrFromSlice(ip.To4())
		if with.DNS[used].IsValid() && !slices.Contains(n.DNS[:], with.DNS[used]) && with.Check() == nil {
			*n = with
			used++
		}
	}
}
