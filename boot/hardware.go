package boot

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/keyrelease/krabox/boot/machine"
)

// hardware is the appliance's own: process 1 sets its clock and its port.
type hardware struct{ port port }

func (h *hardware) SetClock(t time.Time) error { return setClock(t) }

func (h *hardware) AdjustClock(by time.Duration) error { return adjustClock(by) }

func (h *hardware) SetNetwork(_ context.Context, n machine.Network) error { return h.port.set(n) }

// Ports leaves out what the kernel does not tell; a status is not worth an error.
func (h *hardware) Ports() ([]machine.Port, string) {
	links, err := interfaces()
	if err != nil {
		return nil, err.Error()
	}
	var ports []machine.Port
	for _, l := range links {
		p := machine.Port{Name: l.Attrs().Name, MAC: l.Attrs().HardwareAddr.String(), Up: hasCarrier(l)}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err.Error()
		}
		for _, a := range addrs {
			p.Addresses = append(p.Addresses, a.IPNet.String())
		}
		ports = append(ports, p)
	}
	return ports, h.port.words()
}
