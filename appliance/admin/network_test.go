package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// on is what is on the port, as process 1 was told last.
func (w *world) on() string {
	w.trial.mu.Lock()
	defer w.trial.mu.Unlock()
	return networkWords(w.body.network)
}

// waitFor waits until something is so: a trial is over.
func (w *world) waitFor(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: it is %s", what, w.on())
		}
	}
}

const (
	staticLine  = "network static 10.0.0.2/24 gateway 10.0.0.1 dns 9.9.9.9 2620:fe::fe"
	staticWords = "static 10.0.0.2/24, gateway 10.0.0.1, name servers 9.9.9.9 2620:fe::fe"
)

// TestNetworkIsOnTrial: a configuration stays if it is confirmed in time, and only then; each new one has the whole time, and the former
// one is what was confirmed last.
func TestNetworkIsOnTrial(t *testing.T) {
	w := enrolled(t)
	w.fail("network confirm", nil, "No network configuration waits")
	w.do(staticLine, "yes")
	w.has("network show", "nothing yet", "on trial      static 10.0.0.2/24, gateway 10.0.0.1", "for another ")
	if n := w.store.State().Network(); n.Mode != "" || w.on() != staticWords {
		t.Errorf("on trial, and the state has %+v; on the port is %s", n, w.on())
	}
	w.do("network confirm")
	w.fail("network confirm", nil, "No network configuration waits")
	w.has("network show", "configured    static 10.0.0.2/24, gateway 10.0.0.1", "2620:fe::fe")
	w.trial.lasts = 50 * time.Millisecond
	w.do("network dhcp", "yes")
	w.waitFor("not confirmed", func() bool { return w.on() == staticWords })
	w.fail("network confirm", nil, "No network configuration waits")
	w.has("log show 6", "(clock) expired network dhcp")
	w.trial.lasts = time.Hour
	w.do("network dhcp", "yes")
	w.do("network confirm")
	if n := w.store.State().Network(); n != (machine.Network{Mode: machine.DHCP}) {
		t.Errorf("confirmed, and the state has %+v", n)
	}
	w.do(staticLine, "yes")
	ends := func(refuse error) { // the trial, now
		w.trial.mu.Lock()
		defer w.trial.mu.Unlock()
		w.body.refuse = refuse
		w.trial.timer.Reset(0)
	}
	ends(errors.New("busy")) // for a while the former one cannot be put on
	w.waitFor("not refused", func() bool { w.trial.mu.Lock(); defer w.trial.mu.Unlock(); return w.body.refused > 0 })
	ends(nil)
	w.waitFor("not confirmed", func() bool { return w.on() == "DHCP, host name box1" })
}

// TestNetworkInSix: an IPv6 address comes on top, fixed or by advertisements, and goes with its own command only.
func TestNetworkInSix(t *testing.T) {
	w := enrolled(t)
	for _, c := range []struct{ line, want string }{
		{"network ipv6 static 2001:db8::7/64 gateway fe80::1", "DHCP, IPv6 2001:db8::7/64, gateway fe80::1, host name box1"},
		{staticLine, staticWords + ", IPv6 2001:db8::7/64, gateway fe80::1"},
		{"network ipv6 auto", staticWords + ", IPv6 by router advertisements"},
		{"network ipv6 off", staticWords},
	} {
		w.do(c.line, "yes")
		if got := w.on(); got != c.want {
			t.Errorf("%s: on the port is %s; want %s", c.line, got, c.want)
		}
	}
	for line, want := range map[string]string{
		"network ipv6 static 10.0.0.3/24":                                "cannot be a host's in IPv6",
		"network ipv6 static fe80::7/64":                                 "cannot be a host's in IPv6",
		"network ipv6 static 2001:db8::7/64 gateway 2001:db8:1::1":       "neither link-local nor another host",
		"network static 10.0.0.2/24 dns 1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4": "4 name servers, at most 3",
	} {
		w.fail(line, []string{"yes"}, want)
	}
	w.do("network static 2001:db8::9/64", "yes")
	w.fail("network ipv6 auto", []string{"yes"}, "is one of IPv6 already")
	if w.on() != fmt.Sprint("static ", netip.MustParsePrefix("2001:db8::9/64")) || !strings.HasPrefix(w.trial.line, "network static") {
		t.Errorf("what was refused is on the port: %s", w.on())
	}
}

// TestNetworkRoutes: routes are on trial as all is, go back with it, stay while the addresses change if they still fit, and are said to go
// if they do not.
func TestNetworkRoutes(t *testing.T) {
	w := enrolled(t)
	const far, six = ", route 10.8.0.0/16 via 10.0.0.9", ", route 2001:db8:8::/48 via fe80::9"
	w.do("network static 10.0.0.2/24", "yes")
	w.do("network confirm")
	w.trial.lasts = 50 * time.Millisecond
	w.do("network route add 10.8.0.0/16 via 10.0.0.9", "yes")
	w.waitFor("not confirmed", func() bool { return w.on() == "static 10.0.0.2/24" })
	w.trial.lasts = time.Hour
	w.do("network route add 10.8.0.0/16 via 10.0.0.9", "yes")
	if n := w.store.State().Network(); len(n.Further()) != 0 || w.on() != "static 10.0.0.2/24"+far {
		t.Errorf("on trial, and the state has %+v; on the port is %s", n, w.on())
	}
	w.has("network show", "configured    static 10.0.0.2/24\n", "on trial      static 10.0.0.2/24"+far)
	w.do("network confirm")
	w.has("network show", "configured    static 10.0.0.2/24"+far)
	for line, want := range map[string]string{
		"network route add 10.8.0.0/16 via 10.0.0.7":       "There is a route 10.8.0.0/16 via 10.0.0.9; first",
		"network route add 0.0.0.0/0 via 10.0.0.7":         "goes by the gateway",
		"network route add 10.7.0.0/16 via 10.0.1.7":       "not in 10.0.0.0/24",
		"network route add 10.7.0.0/16 via 10.0.0.2":       "the box itself",
		"network route add 2001:db8:8::/48 via fe80::9":    "no address of IPv6",
		"network route add 10.7.0.0/16 via 2001:db8:8::99": "network and gateway are of different",
		"network route remove 10.7.0.0/16":                 "There is no route to 10.7.0.0/16",
	} {
		w.fail(line, []string{"yes"}, want)
	}
	for _, c := range []struct{ line, asked, want string }{
		{"network ipv6 static 2001:db8::7/64", "", "static 10.0.0.2/24, IPv6 2001:db8::7/64" + far},
		{"network route add 2001:db8:8::/48 via fe80::9", "", "static 10.0.0.2/24, IPv6 2001:db8::7/64" + far + six},
		{"network static 10.0.0.3/24", "", "static 10.0.0.3/24, IPv6 2001:db8::7/64" + far + six},
		{"network dhcp", "", "DHCP, IPv6 2001:db8::7/64" + far + six + ", host name box1"},
		{"network ipv6 off", "What does not go with it ends: route 2001:db8:8::/48 via fe80::9: the box has no address of IPv6.", "DHCP" + far + ", host name box1"},
		{"network static 10.1.0.3/24", "What does not go with it ends: route 10.8.0.0/16 via 10.0.0.9: the gateway is not in 10.1.0.0/24", "static 10.1.0.3/24"},
	} {
		_, o := w.try(c.line)
		if o.Ask == nil || !strings.Contains(o.Ask.Prompt, c.asked) || c.asked == "" && strings.Contains(o.Ask.Prompt, "ends:") {
			t.Errorf("%s: asks %+v, want %q", c.line, o.Ask, c.asked)
		}
		if w.do(c.line, "yes"); w.on() != c.want {
			t.Errorf("%s: on the port is %s; want %s", c.line, w.on(), c.want)
		}
	}
	for i := range machine.MaxRoutes {
		w.do(fmt.Sprintf("network route add 10.%d.0.0/16 via 10.1.0.9", 20+i), "yes")
	}
	w.fail("network route add 10.40.0.0/16 via 10.1.0.9", []string{"yes"}, "There are 8 routes, and no more at once")
	w.do("network route remove 10.21.0.0/16", "yes")
	w.do("network confirm")
	if got := w.store.State().Network(); len(got.Further()) != 7 || got.Routes[1].To.String() != "10.22.0.0/16" || got.Check() != nil {
		t.Errorf("confirmed: %v", got.Further())
	}
}

// TestNetworkHostName: a name is on trial as all is; without one a DHCP server is told the box's own, and syslog messages bear that.
func TestNetworkHostName(t *testing.T) {
	w := enrolled(t)
	w.has("network show", "host name     box1, the box's own name")
	w.fail("network hostname kra-.example", []string{"yes"}, "Between the dots of a host name")
	w.do("network hostname kra-1.example.org", "yes")
	if got := w.on(); got != "DHCP, host name kra-1.example.org" || w.store.State().HostName() != "box1" {
		t.Errorf("on trial: %s, and messages are of %s", got, w.store.State().HostName())
	}
	w.has("network show", "host name     box1, the box's own name", "on trial      DHCP, host name kra-1.example.org")
	w.do("network confirm")
	w.has("network show", "host name     kra-1.example.org\n", "configured    DHCP, host name kra-1.example.org")
	w.do("network static 10.0.0.2/24", "yes")
	w.do("network confirm")
	if got := w.store.State(); got.HostName() != "kra-1.example.org" || got.Network().Host != "kra-1.example.org" {
		t.Errorf("after another address the name is %s", got.HostName())
	}
	w.trial.lasts = 50 * time.Millisecond
	w.do("network dhcp", "yes")
	w.waitFor("not confirmed", func() bool { return w.on() == "static 10.0.0.2/24" })
	w.trial.lasts = time.Hour
	w.do("network hostname default", "yes")
	w.do("network confirm")
	w.do("network dhcp", "yes")
	if got := w.on(); got != "DHCP, host name box1" || w.store.State().HostName() != "box1" {
		t.Errorf("by default: %s, and messages are of %s", got, w.store.State().HostName())
	}
}
