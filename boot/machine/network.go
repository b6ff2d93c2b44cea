package machine

import (
	"errors"
	"fmt"
	"net/netip"
)

// Mode is how the box gets its address.
type Mode string

// The modes. The zero Mode is not set and is refused.
const (
	Static Mode = "static"
	DHCP   Mode = "dhcp"
	Off    Mode = "off"
)

// SixMode is how the box gets an IPv6 address besides.
type SixMode string

// The modes. The zero SixMode is none: router advertisements are ignored.
const (
	SixStatic SixMode = "static"
	SixAuto   SixMode = "auto" // by router advertisements (RFC 4862)
)

// Six is what the box has of IPv6 besides. Only SixStatic has an address and a gateway; the gateway may be link-local.
type Six struct {
	Mode    SixMode      `json:"mode"`
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
}

// Network is the configuration of the box's one port.
//
// Address is the box's own address with its prefix length, such as 10.0.2.15/24. Gateway may be the zero Addr: then only the
// own network is reached. Only Static has an address, a gateway and name servers. Six, further routes and the host name, which a DHCP
// server is told, come on top of Static and DHCP.
type Network struct {
	Mode    Mode               `json:"mode"`
	Address netip.Prefix       `json:"address"`
	Gateway netip.Addr         `json:"gateway"`
	DNS     [MaxDNS]netip.Addr `json:"dns"` // used from the front; the rest are zero
	Six     Six                `json:"six"`

	Routes [MaxRoutes]Route `json:"routes,omitzero"` // used from the front; the rest are zero
	Host   HostName         `json:"host,omitzero"`
}

// Check says whether n can be put on a port, and if not why.
func (n Network) Check() error {
	switch n.Mode {
	case Off:
		if n != (Network{Mode: Off}) {
			return errors.New("network mode off takes nothing else")
		}
		return nil
	case DHCP:
		if n != (Network{Mode: DHCP, Six: n.Six, Routes: n.Routes, Host: n.Host}) {
			return errors.New("network mode dhcp takes no address, gateway or name server")
		}
	case Static:
		if err := n.checkAddress(); err != nil {
			return err
		}
		if err := n.checkServers(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("network mode %q is not static, dhcp or off", string(n.Mode))
	}
	if err := n.checkSix(); err != nil {
		return err
	}
	if err := n.checkRoutes(); err != nil {
		return err
	}
	return n.Host.Check()
}

func (n Network) checkSix() error {
	x, a := n.Six, n.Six.Address.Addr()
	switch x.Mode {
	case "", SixAuto:
		if x != (Six{Mode: x.Mode}) {
			return errors.New("IPv6 has an address or a gateway and is not static")
		}
	case SixStatic:
		if !x.Address.IsValid() || !a.Is6() || a.Is4In6() || !a.IsGlobalUnicast() || a.Zone() != "" {
			return fmt.Errorf("address %s cannot be a host's in IPv6", x.Address)
		}
		g := x.Gateway
		if g.IsValid() && (g == a || g.Zone() != "" || !g.IsLinkLocalUnicast() && !x.Address.Masked().Contains(g)) {
			return fmt.Errorf("gateway %s is neither link-local nor another host in %s", g, x.Address.Masked())
		}
	default:
		return fmt.Errorf("IPv6 mode %q is not static or auto", string(x.Mode))
	}
	if x.Mode != "" && n.Address.Addr().Is6() {
		return errors.New("the box's address is one of IPv6 already")
	}
	return nil
}

func (n Network) checkAddress() error {
	a := n.Address.Addr()
	if !n.Address.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
		return fmt.Errorf("address %s cannot be a host's", n.Address)
	}
	if !n.Gateway.IsValid() {
		return nil
	}
	if n.Gateway.Is4() != a.Is4() {
		return errors.New("gateway and address are of different families")
	}
	if n.Gateway == a {
		return errors.New("gateway is the box itself")
	}
	if !n.Address.Masked().Contains(n.Gateway) {
		return fmt.Errorf("gateway %s is not in %s", n.Gateway, n.Address.Masked())
	}
	return nil
}

func (n Network) checkServers() error {
	ended := false
	for _, a := range n.DNS {
		switch {
		case !a.IsValid():
			ended = true
		case ended:
			return errors.New("name servers have a gap")
		case a.IsUnspecified() || a.IsMulticast() || a.Zone() != "":
			return fmt.Errorf("name server %s cannot be a host's", a)
		}
	}
	return nil
}
