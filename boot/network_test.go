package boot

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
)

// inside marks the process that has a network of its own.
const inside = "BOOT_TEST_NETWORK"

// ownNetwork runs the calling test once more in a process with a network namespace of its own, and reports true there.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Fatal("network namespaces are made by root: run this test as root")
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	f := newForge()
	defer f.close()
	var out lines
	c.Stdout, c.Stderr = &out, &out
	must(t, f.start(c))
	if err := c.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("in its own network: %v\n%s", err, out.String())
	}
	return false
}

// cable lays a cable between the box's port, eth0, and another, far.
func cable(t *testing.T) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "zfar"}))
	far, err := netlink.LinkByName("zfar")
	must(t, err)
	must(t, netlink.LinkSetUp(far))
	must(t, netlink.AddrAdd(far, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, 1).To4(), Mask: net.CIDRMask(24, 32)}}))
}

func address(t *testing.T) string {
	t.Helper()
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	must(t, err)
	var all []string
	for _, a := range addrs {
		all = append(all, a.IPNet.String())
	}
	return strings.Join(all, " ")
}

func gateway(t *testing.T) string {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		if r.Gw != nil {
			return r.Gw.String()
		}
	}
	return ""
}

func TestPortTakesEachConfiguration(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	said := &lines{}
	h := &hardware{}
	h.port.say, h.port.names = said.say, t.TempDir()
	static := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.9.0.7/24"), Gateway: netip.MustParseAddr("10.9.0.1")}
	must(t, h.SetNetwork(t.Context(), static))
	eventually(t, "static address", func() bool { return address(t) == "10.9.0.7/24" && gateway(t) == "10.9.0.1" })
	eventually(t, "words", func() bool { _, w := h.Ports(); return w == "10.9.0.7/24 on eth0, no name server" })
	wantServers(t, h, "")
	if ports, _ := h.Ports(); ports[0].Name != "eth0" || !ports[0].Up || ports[0].Addresses[0] != "10.9.0.7/24" {
		t.Errorf("ports = %+v", ports)
	}
	static.Address, static.Gateway = netip.MustParsePrefix("10.9.0.8/24"), netip.Addr{}
	static.DNS[0] = netip.MustParseAddr("10.9.0.1")
	must(t, h.SetNetwork(t.Context(), static))
	eventually(t, "another address and no gateway", func() bool { return address(t) == "10.9.0.8/24" && gateway(t) == "" })
	wantServers(t, h, "10.9.0.1\n")
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("169.254.7.7/16")}))
	eventually(t, "a link-local address", func() bool { return address(t) == "169.254.7.7/16" })
	must(t, h.SetNetwork(t.Context(), static))
	eventually(t, "no link-local address", func() bool { return address(t) == "10.9.0.8/24" })
	if err := h.SetNetwork(t.Context(), machine.Network{Mode: "bridge"}); err == nil {
		t.Error("an unknown mode was taken")
	}
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.Off}))
	eventually(t, "off", func() bool { ports, w := h.Ports(); return w == "off" && !ports[0].Up && address(t) == "" })
	wantServers(t, h, "")
	if !strings.Contains(said.String(), "network: 10.9.0.8/24 on eth0, name server 10.9.0.1") {
		t.Errorf("said %q", said)
	}
}

// wantServers asserts what outboundd is told.
func wantServers(t *testing.T, h *hardware, want string) {
	t.Helper()
	var got []byte
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, _ = os.ReadFile(h.port.names + "/servers"); string(got) == want {
			return
		}
	}
	t.Errorf("name servers are %q; want %q", got, want)
}

// serve answers DHCP requests on zfar with the leases, one after the other; the last is repeated. It tells who asked for what.
func serve(t *testing.T, leases ...[]dhcpv4.Modifier) *lines {
	t.Helper()
	var one sync.Mutex // a request may come twice, and each has a goroutine
	turn, heard := 0, &lines{}
	s, err := server4.NewServer("zfar", &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, func(c net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		one.Lock()
		defer one.Unlock()
		heard.say("%s of %s", m.MessageType(), m.HostName())
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		mods := append([]dhcpv4.Modifier{dhcpv4.WithReply(m), dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(net.IPv4(10, 9, 0, 1)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 1)))}, leases[min(turn, len(leases)-1)]...)
		if kind == dhcpv4.MessageTypeAck {
			turn++
		}
		reply, err := dhcpv4.New(mods...)
		if err == nil {
			_, err = c.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	must(t, err)
	go s.Serve()
	t.Cleanup(func() { s.Close() })
	return heard
}

func TestPortTakesALease(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	lease := []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 40)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 9, 0, 1)), dhcpv4.WithLeaseTime(3600), dhcpv4.WithDNS(net.IPv4zero, net.IPv4(10, 9, 0, 2), net.IPv4(10, 9, 0, 3))}
	serve(t, lease)
	said := &lines{}
	h := &hardware{}
	h.port.say, h.port.names = said.say, t.TempDir()
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.DHCP}))
	eventually(t, "lease", func() bool { return address(t) == "10.9.0.40/24" && gateway(t) == "10.9.0.1" })
	eventually(t, "words", func() bool {
		_, w := h.Ports()
		return w == "10.9.0.40/24 on eth0 by DHCP, name server 10.9.0.2 10.9.0.3"
	})
	wantServers(t, h, "10.9.0.2\n10.9.0.3\n")
	must(t, h.SetNetwork(t.Context(), machine.Network{Mode: machine.Off}))
	eventually(t, "end of the lease", func() bool { _, w := h.Ports(); return w == "off" && address(t) == "" })
}

// TestLeaseIsRenewedAsItWas: a server that gives another address or router with each renewal heaps none up on the port.
func TestLeaseIsRenewedAsItWas(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	p := &port{say: (&lines{}).say, names: t.TempDir()}
	ack := func(host, router byte) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 9, 0, host)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 9, 0, router)))
		must(t, err)
		return m
	}
	asked, held := machine.Network{Mode: machine.DHCP}, machine.Network{}
	for range 2 {
		_, err = p.take(l, ack(40, 1), asked, &held)
		must(t, err)
	}
	for _, other := range []*dhcpv4.DHCPv4{ack(41, 1), ack(40, 2)} {
		if _, err := p.take(l, other, asked, &held); err == nil || address(t) != "10.9.0.40/24" || gateway(t) != "10.9.0.1" {
			t.Errorf("renewed as another: %v; on the port %s by %s", err, address(t), gateway(t))
		}
	}
}

// addresses are those of eth0 in IPv6 that are not link-local.
func addresses6(t *testing.T) string {
	t.Helper()
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	must(t, err)
	var all []string
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			all = append(all, a.IPNet.String())
		}
	}
	return strings.Join(all, " ")
}

func gateway6(t *testing.T) string {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	must(t, err)
	for _, r := range routes {
		if r.Gw != nil {
			return r.Gw.String()
		}
	}
	return ""
}

// advertise is a router on zfar that says every 100 ms that 2001:db8:a::/64 is here and what is elsewhere goes by it (RFC 4861 section 4.2).
func advertise(t *testing.T) {
	t.Helper()
	far, err := net.InterfaceByName("zfar")
	must(t, err)
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	must(t, err)
	p := c.IPv6PacketConn()
	must(t, p.SetMulticastInterface(far))
	must(t, p.SetMulticastHopLimit(255))
	says := []byte{64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, // hop limit, flags, router for 1800 s, as it was, as it was
		3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0} // a prefix, on link, for addresses, for 3600 s
	says = append(says, net.ParseIP("2001:db8:a::")...)
	m, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: says}}).Marshal(nil)
	must(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended); c.Close() })
	go func() {
		for {
			_, _ = p.WriteTo(m, nil, &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: "zfar"}) // zfar has no address of its own at first
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
}

// TestPortTakesIPv6: besides, fixed or by a router's word, and that only where it was chosen.
func TestPortTakesIPv6(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	advertise(t)
	h := &hardware{}
	h.port.say, h.port.names = (&lines{}).say, t.TempDir()
	n := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.9.0.7/24"),
		Six: machine.Six{Mode: machine.SixStatic, Address: netip.MustParsePrefix("2001:db8::7/64"), Gateway: netip.MustParseAddr("fe80::1")}}
	must(t, h.SetNetwork(t.Context(), n))
	eventually(t, "both addresses", func() bool {
		return address(t) == "10.9.0.7/24" && addresses6(t) == "2001:db8::7/64" && gateway6(t) == "fe80::1"
	})
	eventually(t, "words", func() bool { _, w := h.Ports(); return w == "10.9.0.7/24 on eth0 and 2001:db8::7/64, no name server" })
	time.Sleep(500 * time.Millisecond) // some advertisements later
	if got := addresses6(t); got != "2001:db8::7/64" {
		t.Errorf("a router was heard: %s", got)
	}
	n.Six = machine.Six{Mode: machine.SixAuto}
	must(t, h.SetNetwork(t.Context(), n))
	eventually(t, "an address by advertisements", func() bool {
		return address(t) == "10.9.0.7/24" && strings.HasPrefix(addresses6(t), "2001:db8:a:") && strings.HasPrefix(gateway6(t), "fe80:")
	})
	n.Six = machine.Six{}
	must(t, h.SetNetwork(t.Context(), n))
	eventually(t, "no IPv6", func() bool { return address(t) == "10.9.0.7/24" && addresses6(t) == "" && gateway6(t) == "" })
	time.Sleep(500 * time.Millisecond)
	if got := addresses6(t); got != "" {
		t.Errorf("a router is still heard: %s", got)
	}
}

// TestSameNetworkAgainChangesNothing: an address that was put on by hand stays, so nothing was flushed.
func TestSameNetworkAgainChangesNothing(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	cable(t)
	h := &hardware{}
	h.port.say = (&lines{}).say
	static := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.9.0.7/24")}
	must(t, h.SetNetwork(t.Context(), static))
	eventually(t, "static address", func() bool { return address(t) == "10.9.0.7/24" })
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 8, 0, 1).To4(), Mask: net.CIDRMask(24, 32)}}))
	must(t, h.SetNetwork(t.Context(), static))
	time.Sleep(300 * time.Millisecond)
	if got := address(t); got != "10.9.0.7/24 10.8.0.1/24" {
		t.Errorf("addresses = %q", got)
	}
}

// TestLeasesAreNotTrusted: a server on the network is nobody the box knows.
func TestLeasesAreNotTrusted(t *testing.T) {
	ip, mask := dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithNetmask(net.CIDRMask(24, 32))
	for name, mods := range map[string][]dhcpv4.Modifier{
		"no address":        {mask},
		"loopback":          {dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1)), mask},
		"broken netmask":    {ip, dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0})},
		"gateway elsewhere": {ip, mask, dhcpv4.WithRouter(net.IPv4(10, 0, 1, 1))},
		"gateway itself":    {ip, mask, dhcpv4.WithRouter(net.IPv4(10, 0, 0, 5))},
	} {
		m, err := dhcpv4.New(mods...)
		must(t, err)
		if n, err := fromLease(m); err == nil {
			t.Errorf("%s: taken as %+v", name, n)
		}
	}
	m, err := dhcpv4.New(ip)
	must(t, err)
	if n, err := fromLease(m); err != nil || n.Address.String() != "10.0.0.5/8" {
		t.Errorf("lease without netmask = %+v, %v", n, err)
	}
}

func TestNoInterfaceIsSaid(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	p := &port{say: (&lines{}).say}
	if _, err := p.choose(ctx); err == nil {
		t.Error("an interface was found where there is none")
	}
}
