package boot

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/keyrelease/krabox/boot/machine"
)

func route(to, via string) machine.Route {
	return machine.Route{To: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}
}

// routesBy are the routes of eth0 that go by a gateway, and those to its own networks, sorted.
func routesBy(t *testing.T) string {
	t.Helper()
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	var all []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(l, family)
		must(t, err)
		for _, r := range routes {
			switch {
			case r.Gw != nil:
				all = append(all, r.Dst.String()+" via "+r.Gw.String())
			case !r.Dst.IP.IsLinkLocalUnicast() && !r.Dst.IP.IsMulticast():
				all = append(all, r.Dst.String())
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// wantRoutes asserts what is on, and that it is so.
func wantRoutes(t *testing.T, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = routesBy(t); got == want {
			return
		}
	}
	t.Fatalf("routes are %q; want %q", got, want)
}

// wantWords asserts what the port says.
func wantWords(t *testing.T, h *hardware, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, got = h.Ports(); got == want {
			return
		}
	}
	t.Fatalf("the port says %q; want %q", got, want)
}

// TestPortTakesRoutes: routes are on with their configuration, and off with it, in both families; the box's own networks stay.
func TestPortTakesRoutes(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	h := &hardware{}
	h.port.say, h.port.names = (&lines{}).say, t.TempDir()
	n := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.9.0.7/24"), Gateway: netip.MustParseAddr("10.9.0.1"),
		Six: machine.Six{Mode: machine.SixStatic, Address: netip.MustParsePrefix("2001:db8::7/64")}}
	n.Routes = [machine.MaxRoutes]machine.Route{route("10.0.0.0/8", "10.9.0.2"), route("192.0.2.9/32", "10.9.0.1"),
		route("2001:db8:8::/48", "2001:db8::1"), route("2001:db8:9::/48", "fe80::1")}
	must(t, h.SetNetwork(t.Context(), n))
	wantRoutes(t, "0.0.0.0/0 via 10.9.0.1, 10.0.0.0/8 via 10.9.0.2, 10.9.0.0/24, 192.0.2.9/32 via 10.9.0.1, "+
		"2001:db8:8::/48 via 2001:db8::1, 2001:db8:9::/48 via fe80::1, 2001:db8::/64")
	wantWords(t, h, "10.9.0.7/24 on eth0 and 2001:db8::7/64, no name server, route 10.0.0.0/8 via 10.9.0.2, route 192.0.2.9/32 via 10.9.0.1, "+
		"route 2001:db8:8::/48 via 2001:db8::1, route 2001:db8:9::/48 via fe80::1")
	n.Routes = [machine.MaxRoutes]machine.Route{route("10.0.0.0/8", "10.9.0.3"), route("2001:db8:8::/48", "fe80::2")}
	must(t, h.SetNetwork(t.Context(), n))
	wantRoutes(t, "0.0.0.0/0 via 10.9.0.1, 10.0.0.0/8 via 10.9.0.3, 10.9.0.0/24, 2001:db8:8::/48 via fe80::2, 2001:db8::/64")
	n.Routes[0] = route("10.0.0.0/8", "10.8.0.3")
	if err := h.SetNetwork(t.Context(), n); err == nil || !strings.Contains(err.Error(), "not in 10.9.0.0/24") {
		t.Errorf("a gateway elsewhere: %v", err)
	}
	n.Routes = [machine.MaxRoutes]machine.Route{}
	must(t, h.SetNetwork(t.Context(), n))
	wantRoutes(t, "0.0.0.0/0 via 10.9.0.1, 10.9.0.0/24, 2001:db8::/64")
}

// TestRoutesOfALease: what a lease does not reach is said and not on, and what the address brings is there all the same; a router's word
// that comes late is waited for.
func TestRoutesOfALease(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	serve(t, []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 40)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600)})
	h := &hardware{}
	h.port.say, h.port.names = (&lines{}).say, t.TempDir()
	n := machine.Network{Mode: machine.DHCP, Six: machine.Six{Mode: machine.SixAuto}}
	n.Routes = [machine.MaxRoutes]machine.Route{route("10.8.0.0/16", "10.9.1.1"), route("10.9.0.0/24", "10.9.0.1"), route("10.7.0.0/16", "10.9.0.1"), route("2001:db8:8::/48", "2001:db8:a::1")}
	must(t, h.SetNetwork(t.Context(), n))
	wantRoutes(t, "10.7.0.0/16 via 10.9.0.1, 10.9.0.0/24")
	words := "10.9.0.40/24 on eth0 by DHCP and IPv6 by router advertisements, no name server, route 10.7.0.0/16 via 10.9.0.1"
	not := "; not on: route 10.8.0.0/16 via 10.9.1.1: the gateway is not in 10.9.0.0/24, the box's own network" +
		"; not on: route 10.9.0.0/24 via 10.9.0.1: 10.9.0.0/24 is the box's own network, which needs no gateway"
	wantWords(t, h, words+not+"; not on: route 2001:db8:8::/48 via 2001:db8:a::1: no route to host")
	advertise(t)
	wantWords(t, h, words+", route 2001:db8:8::/48 via 2001:db8:a::1"+not)
	if got := address(t); got != "10.9.0.40/24" || !strings.Contains(routesBy(t), "2001:db8:8::/48 via 2001:db8:a::1") {
		t.Errorf("on the port is %s with %s", got, routesBy(t))
	}
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.Off}))
	wantRoutes(t, "")
}

// TestServerIsToldTheHostName: with each message, a renewal's too; a box without a host name says none.
func TestServerIsToldTheHostName(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	heard := serve(t, []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 40)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600)})
	h := &hardware{}
	h.port.say, h.port.names = (&lines{}).say, t.TempDir()
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.DHCP}))
	wantWords(t, h, "10.9.0.40/24 on eth0 by DHCP, no name server")
	named := machine.Network{Mode: machine.DHCP, Host: "kra-1.example.org"}
	must(t, h.SetNetwork(t.Context(), named))
	wantWords(t, h, "10.9.0.40/24 on eth0 by DHCP, no name server, host name kra-1.example.org")
	c, err := nclient4.New("eth0", nclient4.WithTimeout(dhcpAnswer), nclient4.WithRetry(dhcpAsks))
	must(t, err)
	defer c.Close()
	got, err := c.Request(t.Context(), calls(named)...)
	must(t, err)
	before := heard.String()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = renew(ctx, c, got, time.Minute, named, func() { pause(ctx, time.Second) })
	must(t, err)
	all := strings.Split(strings.TrimSuffix(heard.String(), "\n"), "\n")
	first := slices.IndexFunc(all, func(s string) bool { return !strings.HasSuffix(s, " of ") })
	if first < 2 || !strings.HasPrefix(all[first], "DISCOVER ") {
		t.Fatalf("the server heard %q; want some without a name first", all)
	}
	for _, s := range all[first:] { // a message may come twice
		if !strings.HasSuffix(s, " of kra-1.example.org") {
			t.Errorf("the server heard %q", s)
		}
	}
	if last := all[len(all)-1]; last != "REQUEST of kra-1.example.org" || len(heard.String()) == len(before) {
		t.Errorf("the server heard %q; want a renewal", all)
	}
}
