package appliance

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/appliance/syslog"
	"github.com/keyrelease/krabox/boot/machine"
)

// A wall is the part of process 1 that has the port.
type wall struct {
	machine.Handler
	on machine.Network
}

func (w *wall) SetNetwork(_ context.Context, n machine.Network) error { w.on = n; return nil }

// TestFormerNetworkComesBack: what was on trial when the agent ended is not on the port when it is back, also where nothing was ever confirmed.
func TestFormerNetworkComesBack(t *testing.T) {
	trial := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.0.0.9/24")}
	confirmed := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.0.0.2/24"), Six: machine.Six{Mode: machine.SixAuto},
		Routes: [machine.MaxRoutes]machine.Route{{To: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("10.0.0.9")}}}
	leased := machine.Network{Mode: machine.DHCP, Routes: confirmed.Routes, Host: "kra-1"}
	for name, c := range map[string]struct {
		changes []store.Change
		want    machine.Network
	}{
		"nothing confirmed": {nil, machine.Network{Mode: machine.DHCP, Host: "box1"}},
		"one confirmed":     {[]store.Change{store.NetworkSet{Network: confirmed}}, confirmed},
		"one with a name":   {[]store.Change{store.NetworkSet{Network: leased}}, leased},
	} {
		near, far := net.Pipe()
		w, ended := &wall{on: trial}, make(chan error, 1)
		go func() { ended <- machine.Serve(t.Context(), far, w) }()
		a := &agent{machine: machine.NewClient(near), log: slog.New(slog.DiscardHandler)}
		a.network(t.Context(), firstState(t, c.changes...))
		near.Close()
		if err := <-ended; err != nil || w.on != c.want {
			t.Errorf("%s: on the port is %+v, %v; want %+v", name, w.on, err, c.want)
		}
	}
}

// TestOrigin: messages are of the host name that was confirmed, and of the box.
func TestOrigin(t *testing.T) {
	for want, changes := range map[syslog.Origin][]store.Change{
		{Host: "box1", Box: "box1"}:  nil,
		{Host: "kra-1", Box: "box1"}: {store.NetworkSet{Network: machine.Network{Mode: machine.DHCP, Host: "kra-1"}}},
	} {
		if got := originOf(firstState(t, changes...)); got != want {
			t.Errorf("messages are of %+v; want %+v", got, want)
		}
	}
}
