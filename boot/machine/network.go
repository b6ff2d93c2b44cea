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

// Network is the configuration of the box's one port.
//
// Address is the box's own address with its prefix length, such as 10.0.2.15/24. Gateway may be the zero Addr: then only the
// own network is reached. Only Static has an address, a gateway and name servers.
type Network struct {
	Mode    Mode               `json:"mode"`
	Address netip.Prefix       `json:"address"`
	Gateway netip.Addr         `json:"gateway"`
	DNS     [MaxDNS]netip.Addr `json:"dns"` // used from the front; the rest are zero
}

// Check says whether n can be put on a port, and if not why.
func (n Network) Check() error {
	switch n.Mode {
	case DHCP, Off:
		if n != (Network{Mode: n.Mode}) {
			return fmt.Errorf("network mode %s takes no address, gateway or name server", n.Mode)
		}
		return nil
	case Static:
	default:
		return fmt.Errorf("network mode %q is not static, dhcp or off", string(n.Mode))
	}
	if err := n.checkAddress(); err != nil {
		return err
	}
	return n.checkServers()
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
