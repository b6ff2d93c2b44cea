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
	w.has("network show", "nothing yet", "on trial      static 10.0.0.2/24, gateway 10.0.0.1", "for another 2m0s")
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
	w.trial.lasts = 50 * time.Millisecond
	w.do(staticLine, "yes")
	w.trial.mu.Lock()
	w.body.refuse = errors.New("busy") // for a while the former one cannot be put on
	w.trial.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	w.trial.mu.Lock()
	w.body.refuse = nil
	w.trial.timer.Reset(0)
	w.trial.mu.Unlock()
	w.waitFor("not confirmed", func() bool { return w.on() == "DHCP" })
}

// TestNetworkInSix: an IPv6 address comes on top, fixed or by advertisements, and goes with its own command only.
func TestNetworkInSix(t *testing.T) {
	w := enrolled(t)
	for _, c := range []struct{ line, want string }{
		{"network ipv6 static 2001:db8::7/64 gateway fe80::1", "DHCP, IPv6 2001:db8::7/64, gateway fe80::1"},
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
