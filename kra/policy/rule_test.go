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

func TestIdentityBased(t *testing.T) { // a name is one name under one anchor
	f := facts(t)
	for who, want := range map[string]Outcome{
		"corp:CN=alice,O=Example":  Passed,
		"other:CN=alice,O=Example": Failed,
		"corp:CN=alice":            Failed,
		`corp:CN=x\,CN\=alice`:     Failed,
	} {
		if who == `corp:CN=x\,CN\=alice` {
			who = `corp:CN=x\,CN=alice`
		}
		f.Decryptor = decryptor(t, who)
		if got := outcome(t, `id in ["corp:CN=alice,O=Example"]`, f, workday()); got != want {
			t.Errorf("%s: %v; want %v", who, got, want)
		}
	}
	f.Decryptor = decryptor(t, `corp:CN=x\,O=Example`)
	if got := outcome(t, `id.under("corp:O=Example")`, f, workday()); got != Failed {
		t.Errorf("escaped comma: %v; want failed", got)
	}
	f.Decryptor = decryptor(t, `corp:CN=x\\,O=Example`)
	if got := outcome(t, `id.under("corp:O=Example")`, f, workday()); got != Passed {
		t.Errorf("escaped backslash: %v; want passed", got)
	}
}

func TestSourceMapped(t *testing.T) {
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
