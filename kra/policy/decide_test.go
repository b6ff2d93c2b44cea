package policy

import (
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// steps writes a trace's lists and rules shortly: "a#1- b#1+ | r- s+".
func steps(tr Trace) string {
	sign := map[Outcome]string{Passed: "+", Failed: "-", Errored: "!"}
	out := ""
	for _, l := range tr.Lists() {
		out += fmt.Sprintf("%s#%d%s ", l.Access, l.List, sign[l.Outcome])
	}
	out += "|"
	for _, r := range tr.Rules() {
		out += fmt.Sprintf(" %s%s", r.Rule, sign[r.Outcome])
	}
	return out
}

// decide asks about a header and returns the grant, the refusal and the steps.
func decide(t *testing.T, b *Book, h block.Header, f Facts) (Grant, *Refusal, string) {
	t.Helper()
	g, err := b.Decide(Request{block.EnvelopeOf(h), f}, workday())
	if err == nil {
		if !g.Valid() || g.Decryptor() != f.Decryptor {
			t.Fatalf("grant %+v is not valid for %s", g, f.Decryptor)
		}
		return g, nil, steps(g.Trace())
	}
	var no *Refusal
	if !errors.As(err, &no) || g.Valid() {
		t.Fatalf("Decide: %v, grant valid %v", err, g.Valid())
	}
	return g, no, steps(no.Trace())
}

// A truth book has the rules yes, no, err and ids a, b, c of which the lists are given.
func truth(t *testing.T, lists ...[]string) (*Book, []*ecdh.PublicKey) {
	t.Helper()
	d := Definition{Rules: []RuleDef{{"yes", "true"}, {"yes2", "true"}, {"no", "false"}, {"no2", "false"},
		{"err", `!source.net("10.0.0.0/8")`}}}
	var keys []*ecdh.PublicKey
	for i, l := range lists {
		keys = append(keys, newKey(t))
		d.Access = append(d.Access, AccessDef{ID: AccessID('a' + rune(i)), Keys: []block.KeyID{keyID(t, keys[i])}, Lists: l})
	}
	return compile(t, d), keys
}

func TestGrantIsClosed(t *testing.T) {
	var zero Grant
	if zero.Valid() || zero.Decryptor().Valid() {
		t.Error("the zero grant permits something")
	}
	b, keys := truth(t, []string{"yes"})
	for name, f := range map[string]Facts{"nobody": {}} {
		if _, no, s := decide(t, b, header(t, keys[0]), f); no == nil || no.Reason() != NoDecryptor || s != "|" {
			t.Errorf("%s: %v %s", name, no, s)
		}
	}
	if _, no, _ := decide(t, nil, header(t, keys[0]), facts(t)); no == nil {
		t.Error("the nil book permits")
	}
}

func TestUnknownKeyAsksNoRule(t *testing.T) {
	b, _ := truth(t, []string{"yes"})
	if _, no, s := decide(t, b, header(t, newKey(t), newKey(t)), facts(t)); no == nil || no.Reason() != UnknownKey || s != "|" {
		t.Errorf("%v, asked %s", no, s)
	}
}

func TestListsTriedInOrder(t *testing.T) { // one at a time until one passes, then stop
	for _, tt := range []struct {
		lists []string
		want  string
		pass  bool
	}{
		{[]string{"no", "yes", "yes2"}, "a#1- a#2+ | no- yes+", true},
		{[]string{"no && yes", "no || yes", "yes2"}, "a#1- a#2+ | no- yes+", true},
		{[]string{"no", "no2"}, "a#1- a#2- | no- no2-", false},
		{[]string{"err", "yes"}, "a#1! a#2+ | err! yes+", true},
		{nil, "|", false},
	} {
		b, keys := truth(t, tt.lists)
		f := facts(t)
		f.Source = netip.Addr{} // unknown: the rule err errs
		_, no, s := decide(t, b, header(t, keys[0]), f)
		if s != tt.want || (no == nil) != tt.pass {
			t.Errorf("%q: %s, refusal %v; want %s", tt.lists, s, no, tt.want)
		}
	}
}

func TestCombinations(t *testing.T) { // all, one, specific combinations, k of n; an error is no permission
	for list, want := range map[string]Outcome{
		"yes && yes2":                    Passed,
		"yes && no":                      Failed,
		"no || yes":                      Passed,
		"no || no2":                      Failed,
		"yes && (no || yes2)":            Passed,
		"(yes && no) || (yes2 && no2)":   Failed,
		"!no":                            Passed,
		"!yes":                           Failed,
		"at_least(2, [yes, no, yes2])":   Passed,
		"at_least(3, [yes, no, yes2])":   Failed,
		"at_least(2, [yes, no, no2])":    Failed,
		"at_least(1, [no, yes])":         Passed,
		"at_least(2, [err, yes, yes2])":  Passed,
		"at_least(2, [err, yes, no])":    Errored,
		"at_least(2, [err, no, no2])":    Failed,
		"err":                            Errored,
		"!err":                           Errored,
		"err || yes":                     Passed,
		"err || no":                      Errored,
		"err && yes":                     Errored,
		"err && no":                      Failed,
		"!(err && yes)":                  Errored,
		"at_least(2, [yes, no || yes2])": Passed,
		"at_least(1, [at_least(2, [yes, no]), !no2])": Passed,
	} {
		b, keys := truth(t, []string{list})
		f := facts(t)
		f.Source = netip.Addr{}
		g, _, _ := decide(t, b, header(t, keys[0]), f)
		tr, err := b.Explain("a", f, workday())
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.Lists()[0].Outcome; got != want || g.Valid() != (want == Passed) {
			t.Errorf("%s = %v, granted %v; want %v", list, got, g.Valid(), want)
		}
	}
}

func TestSeveralWrapsOneGrant(t *testing.T) { // of several wraps the first permitted one is granted
	b, keys := truth(t, []string{"no"}, []string{"no2"}, []string{"yes"}, []string{"yes2"})
	g, _, s := decide(t, b, header(t, newKey(t), keys[0], keys[1], keys[2], keys[3]), facts(t))
	if s != "a#1- b#1- c#1+ | no- no2- yes+" || g.Access() != "c" || g.KeyID() != keyID(t, keys[2]) {
		t.Errorf("granted %q by %s, steps %s", g.Access(), g.KeyID(), s)
	}
}

func TestKeyUnderSeveralAccessIDs(t *testing.T) { // every access identifier under which the key is stored is collected
	k := newKey(t)
	id := keyID(t, k)
	d := Definition{Rules: []RuleDef{{"yes", "true"}, {"no", "false"}}, Access: []AccessDef{
		{ID: "zeta", Keys: []block.KeyID{id}, Lists: []string{"yes"}},
		{ID: "alpha", Keys: []block.KeyID{keyID(t, newKey(t)), id}, Lists: []string{"no"}},
		{ID: "beta", Keys: []block.KeyID{id}},
	}}
	b := compile(t, d)
	if got := b.AccessOf(id); !slices.Equal(got, []AccessID{"alpha", "beta", "zeta"}) {
		t.Errorf("AccessOf = %v", got)
	}
	g, _, s := decide(t, b, header(t, k), facts(t))
	if g.Access() != "zeta" || s != "alpha#1- zeta#1+ | no- yes+" {
		t.Errorf("granted %q, steps %s", g.Access(), s)
	}
}

func TestOldKeysStayUsable(t *testing.T) {
	keys := []*ecdh.PublicKey{newKey(t), newKey(t), newKey(t), newKey(t)}
	d := one("true")
	for _, k := range keys { // rotated three times: the newest is first
		d.Access[0].Keys = append([]block.KeyID{keyID(t, k)}, d.Access[0].Keys...)
	}
	b := compile(t, d)
	for i, k := range keys {
		if g, _, _ := decide(t, b, header(t, k), facts(t)); g.KeyID() != keyID(t, k) {
			t.Errorf("generation %d does not open", i+1)
		}
	}
	if def, _ := b.Access("legal-team"); def.Keys[0] != keyID(t, keys[3]) {
		t.Error("the newest key is not the current one")
	}
	// Two generations in one header: the lists are asked once.
	if _, _, s := decide(t, compile(t, one("false", d.Access[0].Keys...)), header(t, keys[0], keys[1]), facts(t)); s != "legal-team#1- | r-" {
		t.Errorf("steps %s", s)
	}
}

func TestSharedRule(t *testing.T) { // edit a shared rule once, both change; the block stays as it is
	keys := []*ecdh.PublicKey{newKey(t), newKey(t)}
	d := Definition{Rules: []RuleDef{{"shared", "false"}}, Access: []AccessDef{
		{ID: "a", Keys: []block.KeyID{keyID(t, keys[0])}, Lists: []string{"shared"}},
		{ID: "b", Keys: []block.KeyID{keyID(t, keys[1])}, Lists: []string{"!!shared"}},
	}}
	headers := []block.Header{header(t, keys[0]), header(t, keys[1])}
	b := compile(t, d)
	if got := b.UsedBy("shared"); !slices.Equal(got, []AccessID{"a", "b"}) {
		t.Errorf("UsedBy = %v", got)
	}
	for round, want := range []bool{false, true, false} {
		for i, h := range headers {
			if g, _, _ := decide(t, b, h, facts(t)); g.Valid() != want {
				t.Errorf("round %d, %d: granted %v", round, i, g.Valid())
			}
		}
		d.Rules[0].Expr = fmt.Sprint(round == 0)
		var err error
		if b, err = Compile(uint64(round+2), d, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRulesAskedOnce(t *testing.T) {
	b, keys := truth(t, []string{"no && yes", "no || no2"}, []string{"no || no2 || yes"})
	if _, _, s := decide(t, b, header(t, keys[0], keys[1]), facts(t)); s != "a#1- a#2- b#1+ | no- no2- yes+" {
		t.Errorf("steps %s", s)
	}
}

func TestWhoAmI(t *testing.T) {
	b, _ := truth(t, []string{"yes"}, []string{"no"}, []string{"no", "yes2"}, nil)
	if got := b.WhoAmI(facts(t), workday()); !slices.Equal(got, []AccessID{"a", "c"}) {
		t.Errorf("WhoAmI = %v", got)
	}
	if got := b.WhoAmI(Facts{}, workday()); got != nil {
		t.Errorf("WhoAmI(nobody) = %v", got)
	}
}

func TestTraceJSON(t *testing.T) {
	b, keys := truth(t, []string{"no", "yes"})
	g, _, _ := decide(t, b, header(t, keys[0]), facts(t))
	want := `{"book":1,"decryptor":"corp:CN=alice,O=Example","channel":"authenticated","source":"10.20.3.4","time":"2026-11-18T09:30:00Z","clock":"trusted","keys":["` + keyID(t, keys[0]).String() + `"],` +
		`"rules":[{"rule":"no","outcome":"failed"},{"rule":"yes","outcome":"passed"}],` +
		`"lists":[{"access":"a","list":1,"outcome":"failed"},{"access":"a","list":2,"outcome":"passed"}],"granted":"a","key":1}`
	got := g.Trace().AppendJSON(nil)
	if string(got) != want || !json.Valid(got) {
		t.Errorf("trace = %s\nwant %s", got, want)
	}
	f := facts(t)
	f.Decryptor = decryptor(t, `corp:CN=\<é \"x\"\>\,y`)
	g, _, _ = decide(t, b, header(t, keys[0]), f)
	again, err := json.Marshal(json.RawMessage(g.Trace().AppendJSON(nil)))
	if err != nil || string(again) != string(g.Trace().AppendJSON(nil)) {
		t.Errorf("trace is not as encoding/json writes it: %s, %v", again, err)
	}
}
