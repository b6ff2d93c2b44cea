package store

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/kra/label"
)

// TestNetworkRecord: one that was written before there were routes and host names is read, and written as it was; one with them comes back
// from the disk and out of a backup as it was.
func TestNetworkRecord(t *testing.T) {
	const before = `{"mode":"static","address":"192.0.2.7/24","gateway":"192.0.2.1","dns":["192.0.2.53","",""],"six":{"mode":"","address":"","gateway":""}}`
	plain := machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("192.0.2.7/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
		DNS: [machine.MaxDNS]netip.Addr{netip.MustParseAddr("192.0.2.53")}}
	full := plain
	full.Routes[0], full.Host = machine.Route{To: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("192.0.2.9")}, "kra-1"
	for _, want := range []machine.Network{plain, full} {
		s, err := Apply(newState(), NetworkSet{want})
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := s.network.encode(only)
		if err != nil || want == plain && string(b) != before {
			t.Errorf("written as %s, %v", b, err)
		}
		d := newState().draft()
		put, err := d.network.decode(only, b)
		if err != nil {
			t.Fatal(err)
		}
		if put(); d.Network() != want {
			t.Errorf("read as %+v", d.Network())
		}
		records, err := s.Records(nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := NetworkIn(records); !ok || n != want {
			t.Errorf("a backup tells %+v, %v", n, ok)
		}
		if fresh, err := Apply(newState(), Restore{From: "box1", Records: records}); err != nil || fresh.Network().Mode != "" {
			t.Errorf("restored: %v", err)
		}
	}
	full.Routes[0].Via = netip.MustParseAddr("192.0.3.9")
	if _, err := Apply(newState(), NetworkSet{full}); err == nil || !strings.Contains(err.Error(), "not in 192.0.2.0/24") {
		t.Errorf("a route to nowhere: %v", err)
	}
}

// TestHostName: what a DHCP server is told is the name that was set, or the box's own if others take that for a host's; a fixed address
// needs none.
func TestHostName(t *testing.T) {
	of := func(box string, set machine.HostName) *State {
		s, err := Apply(newState(), BoxSet{Box: label.Box{Name: box}}, NetworkSet{machine.Network{Mode: machine.DHCP, Host: set}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		box, called string
		set, told   machine.HostName
	}{
		"its own":       {"box1", "box1", "", "box1"},
		"what was set":  {"box1", "kra-1.example.org", "kra-1.example.org", "kra-1.example.org"},
		"a number":      {"17", "17", "", ""},
		"with a hyphen": {"box-", "box-", "", ""},
	} {
		s := of(c.box, c.set)
		n := s.OnPort(s.Network())
		if n.Host != c.told || s.HostName() != c.called || n.Check() != nil {
			t.Errorf("%s: a DHCP server is told %q, messages are of %q", name, n.Host, s.HostName())
		}
		if n := s.OnPort(machine.Network{Mode: machine.Static, Host: c.set}); n != (machine.Network{Mode: machine.Static}) {
			t.Errorf("%s: beside a fixed address %+v", name, n)
		}
	}
}
