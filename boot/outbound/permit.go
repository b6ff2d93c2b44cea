package outbound

import (
	"fmt"
	"net"
	"net/netip"
)

var (
	nobody    = netip.MustParsePrefix("0.0.0.0/8") // "this network", RFC 1122 section 3.2.1.3
	everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// permit refuses what is not outside the box and its cable: krad must reach nothing through the broker that trusts the box's own
// addresses, and no neighbour that answers without a router, such as a host's metadata. It is asked at each connection, after
// the name was looked up, with the address that the kernel is given.
func permit(a netip.Addr, own func() ([]netip.Addr, error)) error {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || nobody.Contains(a):
		return fmt.Errorf("%s is nobody's address", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is loopback", a)
	case a.IsMulticast() || a == everybody:
		return fmt.Errorf("%s is not one host's address", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local", a)
	}
	all, err := own()
	if err != nil {
		return err
	}
	for _, mine := range all {
		if mine == a {
			return fmt.Errorf("%s is the box's own address", a)
		}
	}
	return nil
}

// ownAddresses are those of all interfaces at this moment.
func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the box's own addresses: %w", err)
	}
	var out []netip.Addr
	for _, n := range all {
		p, err := netip.ParsePrefix(n.String())
		if err != nil {
			return nil, fmt.Errorf("list the box's own addresses: %w", err)
		}
		out = append(out, p.Addr().Unmap())
	}
	return out, nil
}
