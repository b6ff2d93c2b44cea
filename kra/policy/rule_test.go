package policy

import (
	"net/netip"
	"testing"
	"time"
)

// outcome asks one rule about facts.
func outcome(t *testing.T, expr string, f Facts, now time.Time) Outcome {
	t.Helper()
	tr, err := compile(t, one(expr)).Explain("legal-team", f, now)
	if err != nil {
		t.Fatal(err)
	}
	return tr.Lists()[len(tr.Lists())-1].Outcome
}

func TestRuleWords(t *testing.T) {
	for expr, want := range map[string]Outcome{
		`true`:                                                                   Passed,
		`id == "corp:CN=alice,O=Example"`:                                        Passed,
		`id != "corp:CN=alice,O=Example"`:                                        Failed,
		`id == "other:CN=alice,O=Example"`:                                       Failed,
		`id in ["corp:CN=bob", "corp:CN=alice,O=Example"]`:                       Passed,
		`id in ["corp:CN=bob", "corp:CN=carol"]`:                                 Failed,
		`id.under("corp:O=Example")`:                                             Passed,
		`id.under("corp:")`:                                                      Passed,
		`id.under("other:")`:                                                     Failed,
		`id.under("other:O=Example")`:                                            Failed,
		`id.under("corp:CN=alice,O=Example")`:                                    Passed,
		`id.under("corp:CN=ice,O=Example")`:                                      Failed,
		`groups.has("legal")`:                                                    Passed,
		`groups.has("empty")`:                                                    Failed,
		`!groups.has("empty")`:                                                   Passed,
		`source.net("10.20.0.0/16")`:                                             Passed,
		`source.net("10.21.0.0/16")`:                                             Failed,
		`source.net("2001:db8::/32")`:                                            Failed,
		`clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")`:                      Passed,
		`clock.within("Mon-Fri 08:00-10:30 Europe/Berlin")`:                      Failed,
		`clock.within("Mon,Wed 10:30-24:00 Europe/Berlin")`:                      Passed,
		`clock.after("2026-11-18T09:30:00Z")`:                                    Passed,
		`clock.after("2026-11-18T09:30:01Z")`:                                    Failed,
		`clock.before("2026-11-18T10:30:00+01:00")`:                              Failed,
		`clock.before("2026-11-18T09:30:01Z")`:                                   Passed,
		`groups.has("legal") && source.net("10.20.0.0/16") || id.under("corp:")`: Passed,
	} {
		if got := outcome(t, expr, facts(t), workday()); got != want {
			t.Errorf("%s = %v; want %v", expr, got, want)
		}
	}
}

func TestIdentityBased(t *testing.T) { // a name is one name under one anchor, whatever it contains
	f := facts(t)
	for who, want := range map[string]Outcome{
		"corp:CN=alice,O=Example":  Passed,
		"other:CN=alice,O=Example": Failed,
		"corp:CN=alice":            Failed,
		"corp:CN=alice,O=Example2": Failed,
		`corp:CN=alice\,O=Example`: Failed,
	} {
		f.Decryptor = decryptor(t, who)
		if got := outcome(t, `id in ["corp:CN=alice,O=Example"]`, f, workday()); got != want {
			t.Errorf("%s: %v; want %v", who, got, want)
		}
	}
	for who, want := range map[string]Outcome{
		"corp:CN=x,O=Example":       Passed,
		"corp:O=Example":            Passed,
		"corp:CN=x,OU=y,O=Example":  Passed,
		"other:CN=x,O=Example":      Failed,
		`corp:CN=x,OU=O\,O=Example`: Failed,
		`corp:CN=x\,O=Example`:      Failed, // the comma is part of the CN
		`corp:CN=x\\,O=Example`:     Passed, // the backslash is
		"corp:CN=x,O=Example,C=DE":  Failed,
	} {
		f.Decryptor = decryptor(t, who)
		if got := outcome(t, `id.under("corp:O=Example")`, f, workday()); got != want {
			t.Errorf("%s under O=Example: %v; want %v", f.Decryptor, got, want)
		}
	}
}

func TestGroupBased(t *testing.T) { // who is in the group, under that anchor, and as long as he is
	d := one(`groups.has("legal")`)
	b := compile(t, d)
	for who, want := range map[string]bool{"corp:CN=alice,O=Example": true, "other:CN=alice,O=Example": false, "corp:CN=bob,O=Example": false} {
		f := facts(t)
		f.Decryptor = decryptor(t, who)
		if got := len(b.WhoAmI(f, workday())) == 1; got != want {
			t.Errorf("%s: %v; want %v", who, got, want)
		}
	}
	d.Groups[0].Members = []string{"corp:CN=bob,O=Example"}
	b, err := Compile(2, d, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.WhoAmI(facts(t), workday()); got != nil {
		t.Errorf("alice left the group: %v", got)
	}
}

func TestSourceBased(t *testing.T) { // the network zone of the connection; without an address, error
	f := facts(t)
	f.Source = netip.MustParseAddr("::ffff:10.20.3.4")
	if got := outcome(t, `source.net("10.20.0.0/16")`, f, workday()); got != Passed {
		t.Errorf("mapped address: %v; want passed", got)
	}
	f.Source = netip.Addr{}
	for _, expr := range []string{`source.net("0.0.0.0/0")`, `!source.net("10.20.0.0/16")`} {
		if got := outcome(t, expr, f, workday()); got != Errored {
			t.Errorf("%s without an address: %v; want error", expr, got)
		}
	}
}

func TestClockBased(t *testing.T) { // by the clocks of the zone, over midnight and over the change of summer time
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		window, at string
		want       Outcome
	}{
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-11-18T07:00:00Z", Passed},
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-11-18T06:59:59Z", Failed},
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-11-18T16:59:59Z", Passed},
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-11-18T17:00:00Z", Failed},
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-15T06:00:00Z", Passed}, // summer time
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-07-15T16:00:00Z", Failed},
		{"Mon-Fri 08:00-18:00 Europe/Berlin", "2026-11-21T09:00:00Z", Failed},    // Saturday
		{"Mon-Fri 00:00-24:00 Pacific/Auckland", "2026-11-22T11:30:00Z", Passed}, // Sunday here, Monday there
		{"Fri 22:00-06:00 UTC", "2026-11-20T22:00:00Z", Passed},
		{"Fri 22:00-06:00 UTC", "2026-11-21T05:59:59Z", Passed}, // Saturday, but begun on Friday
		{"Fri 22:00-06:00 UTC", "2026-11-21T06:00:00Z", Failed},
		{"Fri 22:00-06:00 UTC", "2026-11-20T05:00:00Z", Failed}, // Friday, begun on Thursday
		{"Sat-Sun,Wed 00:00-24:00 UTC", "2026-11-18T23:59:59Z", Passed},
		{"Sat-Sun,Wed 00:00-24:00 UTC", "2026-11-19T00:00:00Z", Failed},
		{"Sat-Mon 00:00-24:00 UTC", "2026-11-23T12:00:00Z", Passed},
	} {
		if got := outcome(t, `clock.within("`+tt.window+`")`, facts(t), at(tt.at)); got != tt.want {
			t.Errorf("%s at %s: %v; want %v", tt.window, tt.at, got, tt.want)
		}
	}
}

func TestClockUntrustedDenies(t *testing.T) {
	f := facts(t)
	f.ClockTrusted = false
	for _, expr := range []string{
		`clock.within("Sun-Sat 00:00-24:00 UTC")`, `!clock.within("Sun 00:00-24:00 UTC")`,
		`clock.before("2999-01-01T00:00:00Z")`, `!clock.before("2000-01-01T00:00:00Z")`, `clock.after("2000-01-01T00:00:00Z")`,
	} {
		if got := outcome(t, expr, f, workday()); got != Errored {
			t.Errorf("%s = %v; want error", expr, got)
		}
	}
}
