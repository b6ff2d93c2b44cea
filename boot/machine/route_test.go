package machine

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func route(to, via string) Route {
	return Route{To: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}
}

// TestRoutes: what can be a route of which box, and why not.
func TestRoutes(t *testing.T) {
	four := Network{Mode: Static, Address: netip.MustParsePrefix("10.9.0.7/24")}
	both, six := four, Network{Mode: Static, Address: netip.MustParsePrefix("2001:db8::7/64")}
	both.Six = Six{Mode: SixStatic, Address: netip.MustParsePrefix("2001:db8::7/64")}
	auto := Network{Mode: DHCP, Six: Six{Mode: SixAuto}}
	for name, c := range map[string]struct {
		on      Network
		to, via string
		want    string // empty: it is taken
	}{
		"further":                 {four, "10.8.0.0/16", "10.9.0.1", ""},
		"wider than the own":      {four, "10.0.0.0/8", "10.9.0.1", ""},
		"one host":                {four, "192.0.2.1/32", "10.9.0.1", ""},
		"by IPv6":                 {both, "2001:db8:8::/48", "2001:db8::1", ""},
		"by a link-local one":     {both, "2001:db8:8::/48", "fe80::1", ""},
		"IPv6 only":               {six, "2001:db8:8::/48", "2001:db8::1", ""},
		"of a lease":              {auto, "10.8.0.0/16", "10.9.0.1", ""},
		"of an advertisement":     {auto, "2001:db8:8::/48", "2001:db8::1", ""},
		"the default":             {four, "0.0.0.0/0", "10.9.0.1", "goes by the gateway"},
		"the default of IPv6":     {both, "::/0", "fe80::1", "goes by the gateway"},
		"an address":              {four, "10.8.0.1/16", "10.9.0.1", "its network is 10.8.0.0/16"},
		"other family":            {both, "10.8.0.0/16", "2001:db8::1", "different families"},
		"elsewhere":               {four, "10.8.0.0/16", "10.9.1.1", "not in 10.9.0.0/24"},
		"elsewhere in IPv6":       {both, "2001:db8:8::/48", "2001:db8:1::1", "not in 2001:db8::/64"},
		"link-local in IPv4":      {four, "10.8.0.0/16", "169.254.0.1", "not in 10.9.0.0/24"},
		"the box itself":          {four, "10.8.0.0/16", "10.9.0.7", "the box itself"},
		"the own network":         {four, "10.9.0.0/24", "10.9.0.1", "own network"},
		"a part of it":            {four, "10.9.0.128/25", "10.9.0.1", "own network"},
		"no IPv6":                 {four, "2001:db8:8::/48", "fe80::1", "no address of IPv6"},
		"no IPv6 beside a lease":  {Network{Mode: DHCP}, "2001:db8:8::/48", "fe80::1", "no address of IPv6"},
		"no IPv4":                 {six, "10.8.0.0/16", "10.9.0.1", "no address of IPv4"},
		"many":                    {auto, "224.0.0.0/4", "10.9.0.1", "no other network"},
		"oneself":                 {auto, "127.0.0.0/8", "10.9.0.1", "no other network"},
		"neighbours":              {auto, "fe80::/10", "fe80::1", "no other network"},
		"IPv4 in IPv6":            {auto, "::ffff:10.8.0.0/112", "fe80::1", "no other network"},
		"by IPv4 in IPv6":         {auto, "2001:db8:8::/48", "::ffff:10.9.0.1", "cannot be a host's"},
		"by all":                  {auto, "10.8.0.0/16", "0.0.0.0", "cannot be a host's"},
		"by many":                 {auto, "10.8.0.0/16", "224.0.0.1", "cannot be a host's"},
		"by oneself":              {auto, "2001:db8:8::/48", "::1", "cannot be a host's"},
		"by a port of the kernel": {auto, "2001:db8:8::/48", "fe80::1%eth0", "cannot be a host's"},
	} {
		c.on.Routes[0] = route(c.to, c.via)
		if err := c.on.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// TestFit: what does not go with new addresses is left out, and said.
func TestFit(t *testing.T) {
	n := Network{Mode: Static, Address: netip.MustParsePrefix("10.9.0.7/24")}
	n.Routes = [MaxRoutes]Route{route("10.8.0.0/16", "10.9.1.1"), route("10.7.0.0/16", "10.9.0.1"), route("2001:db8:8::/48", "fe80::1"), route("10.6.0.0/16", "10.9.0.2")}
	fit, lost := n.Fit()
	if want := [MaxRoutes]Route{route("10.7.0.0/16", "10.9.0.1"), route("10.6.0.0/16", "10.9.0.2")}; fit.Routes != want || fit.Check() != nil {
		t.Errorf("what fits is %v", fit.Further())
	}
	if len(lost) != 2 || !strings.Contains(lost[0].Error(), "10.8.0.0/16 via 10.9.1.1") || !strings.Contains(lost[1].Error(), "no address of IPv6") {
		t.Errorf("what does not: %v", lost)
	}
}

// TestNetworkInJSON: a configuration without routes and host name is written as it always was, and read; one with them comes back as it was.
func TestNetworkInJSON(t *testing.T) {
	const before = `{"mode":"static","address":"10.9.0.7/24","gateway":"","dns":["9.9.9.9","",""],"six":{"mode":"","address":"","gateway":""}}`
	n := Network{Mode: Static, Address: netip.MustParsePrefix("10.9.0.7/24"), DNS: [MaxDNS]netip.Addr{netip.MustParseAddr("9.9.9.9")}}
	with := n
	with.Routes[0], with.Host = route("10.8.0.0/16", "10.9.0.1"), "kra-1"
	for _, want := range []Network{n, with} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if want == n && string(b) != before {
			t.Errorf("written as %s", b)
		}
		var got Network
		if err := json.Unmarshal(b, &got); err != nil || got != want || got.Check() != nil {
			t.Errorf("%s is read as %+v, %v", b, got, err)
		}
	}
}

func TestHostNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, good := range map[HostName]bool{"": true, "box1": true, "kra-1.example.org": true, "1": false, "192.0.2.1": false, "3com.example": true, "a.1b": true,
		HostName(long): true, HostName(long + "a"): false, HostName(strings.Join([]string{long, long, long, long[:61]}, ".")): true,
		HostName(strings.Join([]string{long, long, long, long[:62]}, ".")): false, "-a": false, "a-": false, "a.": false, ".a": false, "a..b": false, "A": false,
		"a_b": false, "a b": false, "a\n": false, "ä": false, "a.-b": false} {
		if err := name.Check(); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
