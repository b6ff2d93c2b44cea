package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra"
)

// asked asks one rule of the world.
func asked(t testing.TB, expr string, f Facts, at time.Time) Outcome {
	t.Helper()
	d := world(Rules, "r")
	d.Rules = append(d.Rules, RuleDef{"r", expr})
	d.Access[0].Delivery = ToAnyone
	tr, err := compile(t, d).Explain("legal-team", f, at)
	if err != nil {
		t.Fatal(err)
	}
	return tr.Lists()[0].Outcome
}

func outcomesOf(t *testing.T, f Facts, at time.Time, want map[string]Outcome) {
	t.Helper()
	for expr, o := range want {
		if got := asked(t, expr, f, at); got != o {
			t.Errorf("%s = %v; want %v", expr, got, o)
		}
	}
}

func TestGroupsOnOthersWord(t *testing.T) {
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`groups.has("staff", "corp-ldap")`: Passed,
		`groups.has("legal", "corp-ldap")`: Failed, // the box says so, corp-ldap does not
		`groups.has("staff", "idp")`:       Failed, // corp-ldap says so, idp does not
		`groups.has("staff", "down")`:      Errored,
		`!groups.has("staff", "down")`:     Errored,
	})
}

func TestRolesOnOthersWord(t *testing.T) {
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`roles.has("auditor", "corp-aa")`: Passed,
		`roles.has("auditor", "idp")`:     Failed,
		`roles.has("boss", "idp")`:        Failed, // only corp-ldap says so, which may not
		`roles.has("clerk", "idp")`:       Passed,
		`!roles.has("clerk", "down")`:     Errored,
	})
	if _, err := Compile(1, func() Definition {
		d := world(Rules, "r")
		d.Rules = append(d.Rules, RuleDef{"r", `roles.has("boss", "corp-ldap")`})
		return d
	}(), nil); err == nil || !strings.Contains(err.Error(), "may not assert roles") {
		t.Errorf("a rule asks an authority for what it may not say: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`attributes.has("department", "sales", "corp-ldap")`: Passed,
		`attributes.has("department", "audit", "corp-ldap")`: Passed,
		`attributes.has("department", "it", "corp-ldap")`:    Failed,
		`attributes.has("sales", "department", "corp-ldap")`: Failed,
		`attributes.has("department", "sales", "idp")`:       Failed,
		`attributes.has("managed", "yes", "corp-ldap")`:      Failed, // that is the device's
		`!attributes.has("department", "it", "down")`:        Errored,
	})
}

func TestDevices(t *testing.T) {
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`device.has("managed", "yes", "mdm-aa")`:      Passed,
		`device.has("managed", "no", "mdm-aa")`:       Failed,
		`device.has("department", "sales", "mdm-aa")`: Failed, // that is the decryptor's
		`!device.has("managed", "no", "down")`:        Errored,
	})
}

func TestAliases(t *testing.T) {
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`aliases.has("mail:alice@example.com", "corp")`: Passed, // the domain of the item was in capitals
		`aliases.has("mail:Alice@example.com", "corp")`: Failed,
		`aliases.has("dns:alice.example.com", "corp")`:  Passed,
		`aliases.has("uri:alice.example.com", "corp")`:  Failed,
		`!aliases.has("upn:alice@example.com", "down")`: Errored,
	})
}

func TestRolesOfTheBox(t *testing.T) { // a role is all that it needs; missing one is a no
	outcomesOf(t, informed(t), workday(), map[string]Outcome{
		`roles.has("teller")`:   Passed,
		`roles.has("reviewer")`: Passed,
		`roles.has("phoned")`:   Passed,
	})
	for role, needs := range map[string]int{"teller": 3, "reviewer": 1, "phoned": 3} { // items without which each fails
		for i, item := range known(t) {
			f := facts(t)
			f.Information = informationOf(t, append(known(t)[:i:i], known(t)[i+1:]...))
			needed := map[string]string{"teller": "sales crypto", "reviewer": "auditor", "phoned": "yes mail staff"}[role]
			is := false
			for word := range strings.FieldsSeq(needed) {
				is = is || strings.Contains(item.Name+item.Value, word)
			}
			if is {
				needs--
			}
			if got := asked(t, fmt.Sprintf("roles.has(%q)", role), f, workday()); (got == Failed) != is {
				t.Errorf("%s without %v: %v", role, item, got)
			}
		}
		if role != "teller" && needs != 0 || role == "teller" && needs != 1 {
			t.Errorf("%s: %d needs were not taken away", role, needs)
		}
	}
	f := facts(t)
	f.Information = informationOf(t, known(t), "corp-ldap")
	outcomesOf(t, f, workday(), map[string]Outcome{`roles.has("teller")`: Errored, `!roles.has("teller")`: Errored, `roles.has("reviewer")`: Passed})
}

func TestRoleMistakes(t *testing.T) {
	for name, needs := range map[string][]Need{
		"none":              nil,
		"unknown group":     {{Kind: Group, Name: "nobody"}},
		"unknown authority": {{Kind: Role, Name: "x", Authority: "who"}},
		"no authority":      {{Kind: Role, Name: "teller"}},
		"may not":           {{Kind: Group, Name: "x", Authority: "corp"}},
		"no name":           {{Kind: Attribute, Value: "x", Authority: "corp-ldap"}},
		"no value":          {{Kind: Attribute, Name: "x", Authority: "corp-ldap"}},
		"value of a group":  {{Kind: Group, Name: "legal", Value: "x"}},
		"unknown level":     {{Kind: Clearance, Value: "ultra"}},
		"no kind":           {{Name: "x"}},
		"alias":             {{Kind: Alias, Name: "phone", Value: "1", Authority: "corp"}},
	} {
		d := world(Rules, "yes")
		d.Roles = append(d.Roles, RoleDef{"new", needs})
		if _, err := Compile(1, d, nil); err == nil || !strings.Contains(err.Error(), "role new") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClearanceLattice(t *testing.T) {
	for _, tt := range []struct {
		have, need string
		want       Outcome
	}{
		{"secret", "secret", Passed},
		{"secret", "confidential", Passed},
		{"secret", "unclassified", Passed},
		{"secret", "top-secret", Failed},
		{"unclassified", "restricted", Failed},
		{"top-secret", "secret/crypto", Failed},
		{"secret/crypto", "secret", Passed},
		{"secret/crypto", "secret/crypto", Passed},
		{"secret/crypto", "secret/crypto,nato", Failed},
		{"secret/crypto,nato", "secret/nato", Passed},
		{"top-secret/crypto", "secret/crypto", Passed},
		{"restricted/crypto", "secret/crypto", Failed},
		{"ultra/crypto", "secret/crypto", Failed}, // a level that the box does not know
	} {
		f := facts(t)
		f.Information = informationOf(t, []Item{{Kind: Clearance, Value: tt.have, Authority: "corp-aa", Via: Presented}})
		for _, expr := range []string{`clearance.dominates("` + tt.need + `")`, `clearance.dominates("` + tt.need + `", "corp-aa")`} {
			if got := asked(t, expr, f, workday()); got != tt.want {
				t.Errorf("%s: %s = %v; want %v", tt.have, expr, got, tt.want)
			}
		}
		if got := asked(t, `clearance.dominates("`+tt.need+`", "mdm-aa")`, f, workday()); got != Failed {
			t.Errorf("%s on mdm-aa's word: %v", tt.need, got)
		}
	}
	f := facts(t)
	f.Information = informationOf(t, []Item{ // two do not add up; who may not assert clearances, asserts none
		{Kind: Clearance, Value: "secret/crypto", Authority: "corp-aa", Via: Presented},
		{Kind: Clearance, Value: "secret/nato", Authority: "mdm-aa", Via: Presented},
		{Kind: Clearance, Value: "top-secret/crypto,nato", Authority: "idp", Via: Token}})
	outcomesOf(t, f, workday(), map[string]Outcome{
		`clearance.dominates("secret/crypto,nato")`: Failed, `clearance.dominates("secret/nato")`: Passed, `clearance.dominates("top-secret")`: Failed})
	f.Information = informationOf(t, []Item{{Kind: Clearance, Value: "secret", Authority: "mdm-aa", Via: Presented}}, "corp-aa")
	outcomesOf(t, f, workday(), map[string]Outcome{ // one that cannot be asked might have said more
		`clearance.dominates("secret")`: Passed, `clearance.dominates("top-secret")`: Errored, `!clearance.dominates("top-secret")`: Errored})
}

func TestOwnLevels(t *testing.T) {
	d := world(Rules, "r")
	d.Levels = []string{"low", "high"}
	d.Roles = nil
	d.Rules = append(d.Rules, RuleDef{"r", `clearance.dominates("low")`})
	f := facts(t)
	f.Information = informationOf(t, []Item{{Kind: Clearance, Value: "high", Authority: "corp-aa", Via: Presented}})
	if tr, err := compile(t, d).Explain("legal-team", f, workday()); err != nil || tr.Lists()[0].Outcome != Passed {
		t.Errorf("%v %v", tr.Lists(), err)
	}
	d.Levels = []string{"secret"}
	if _, err := Compile(1, d, nil); err == nil {
		t.Error("a rule needs a level that is not there")
	}
}

func TestNestedGroups(t *testing.T) {
	d := Definition{Groups: []GroupDef{
		{Name: "a", Groups: []GroupName{"b", "c"}}, {Name: "b", Groups: []GroupName{"d"}}, {Name: "c", Groups: []GroupName{"d"}},
		{Name: "d", Members: []string{"corp:CN=alice,O=Example"}}, {Name: "e", Members: []string{"corp:CN=bob,O=Example"}}},
		Rules: []RuleDef{{"r", `groups.has("a")`}}, Access: []AccessDef{{ID: "x", Lists: []string{"r"}}}}
	passes := func(b *Book) bool { return len(b.WhoAmI(facts(t), workday())) == 1 }
	b := compile(t, d)
	if !passes(b) {
		t.Error("a member of a group within a group within a group is none")
	}
	for _, step := range []struct {
		edit Edit
		want bool
	}{
		{Edit{Groups: []GroupEdit{{Name: "d", Out: []string{"corp:CN=alice,O=Example"}}}}, false},
		{Edit{Groups: []GroupEdit{{Name: "e", In: []string{"corp:CN=alice,O=Example"}}}}, false},
		{Edit{Groups: []GroupEdit{{Name: "d", Groups: []GroupName{"e"}}}}, true},
		{Edit{Groups: []GroupEdit{{Name: "a", Groups: []GroupName{"c"}}}, Gone: []GroupName{"b"}}, true},
		{Edit{Groups: []GroupEdit{{Name: "a"}}}, false},
	} {
		var err error
		if b, err = b.Revise(2, step.edit); err != nil {
			t.Fatal(err)
		}
		if passes(b) != step.want {
			t.Errorf("after %+v: %v", step.edit, passes(b))
		}
	}
	if _, err := b.Revise(3, Edit{Gone: []GroupName{"d"}}); err == nil {
		t.Error("a group is gone that is within another")
	}
}

func TestGroupCycles(t *testing.T) { // a definition error that shows the way around
	for want, groups := range map[string][]GroupDef{
		"a > a":           {{Name: "a", Groups: []GroupName{"a"}}},
		"a > b > a":       {{Name: "a", Groups: []GroupName{"b"}}, {Name: "b", Groups: []GroupName{"a"}}},
		"b > c > d > b":   {{Name: "a", Groups: []GroupName{"b"}}, {Name: "b", Groups: []GroupName{"c"}}, {Name: "c", Groups: []GroupName{"d"}}, {Name: "d", Groups: []GroupName{"b"}}},
		`unknown group`:   {{Name: "a", Groups: []GroupName{"b"}}},
		`within it twice`: {{Name: "a", Groups: []GroupName{"b", "b"}}, {Name: "b"}},
	} {
		if _, err := Compile(1, Definition{Groups: groups}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	var deep Definition
	for i := range MaxNested + 2 {
		deep.Groups = append(deep.Groups, GroupDef{Name: GroupName(fmt.Sprintf("g%d", i)), Groups: []GroupName{GroupName(fmt.Sprintf("g%d", i+1))}})
	}
	deep.Groups = append(deep.Groups, GroupDef{Name: GroupName(fmt.Sprintf("g%d", MaxNested+2))})
	if _, err := Compile(1, deep, nil); err == nil || !strings.Contains(err.Error(), "are within it") {
		t.Errorf("%d groups within each other: %v", len(deep.Groups), err)
	}
}

func TestLifetimes(t *testing.T) {
	hour := time.Hour
	now := workday()
	for _, tt := range []struct {
		from, until time.Time
		want        Outcome
	}{
		{time.Time{}, time.Time{}, Passed},
		{now, now, Passed}, // both ends are within
		{now.Add(-hour), time.Time{}, Passed},
		{time.Time{}, now.Add(hour), Passed},
		{now.Add(time.Second), time.Time{}, Failed},
		{time.Time{}, now.Add(-time.Second), Failed},
		{now.Add(-2 * hour), now.Add(-hour), Failed},
	} {
		f := facts(t)
		f.Information = informationOf(t, []Item{{Role, "x", "", "corp-aa", Presented, tt.from, tt.until}})
		if got := asked(t, `roles.has("x", "corp-aa")`, f, now.Add(time.Second/2)); got != tt.want {
			t.Errorf("%v to %v: %v; want %v", tt.from, tt.until, got, tt.want)
		}
		f.ClockTrusted = false
		want := Errored
		if tt.from.IsZero() && tt.until.IsZero() {
			want = Passed
		}
		outcomesOf(t, f, now, map[string]Outcome{`roles.has("x", "corp-aa")`: want, `!roles.has("y", "corp-aa")`: Passed})
	}
	f := facts(t)
	f.ClockTrusted = false
	f.Information = informationOf(t, []Item{{Role, "x", "", "corp-aa", Presented, now, time.Time{}}, {Role, "x", "", "corp-aa", Directory, time.Time{}, time.Time{}}})
	outcomesOf(t, f, now, map[string]Outcome{`roles.has("x", "corp-aa")`: Passed}) // said twice, once without an end
}

func TestReencrypted(t *testing.T) { // who proved nothing gets what is bound to the certificate, where that is allowed
	f := informed(t)
	f.Channel = Reencrypted
	f.Answers = []Answer{{"credit", Passed, ""}}
	outcomesOf(t, f, workday(), map[string]Outcome{
		`source.net("10.20.0.0/16")`:                    Errored,
		`!source.net("10.21.0.0/16")`:                   Errored,
		`external.allows("credit")`:                     Errored,
		`roles.has("clerk", "idp")`:                     Errored, // by a token
		`!roles.has("clerk", "idp")`:                    Errored,
		`aliases.has("mail:alice@example.com", "corp")`: Errored, // by the channel
		`roles.has("auditor", "corp-aa")`:               Passed,
		`groups.has("staff", "corp-ldap")`:              Passed,
		`groups.has("legal")`:                           Passed,
		`id == "corp:CN=alice,O=Example"`:               Passed,
		`clock.after("2026-01-01T00:00:00Z")`:           Passed,
	})
	d := world(Rules, "yes")
	for delivery, want := range map[Delivery]int{ToAuthenticated: 0, ToAnyone: 1} {
		d.Access[0].Delivery = delivery
		b := compile(t, d)
		trace, _ := b.decide(d.Access[0].Keys, f, workday())
		if len(trace.Lists()) != want || (trace.reason == 0) != (want == 1) || len(b.WhoAmI(f, workday())) != want {
			t.Errorf("delivery %q: %v %v", delivery, trace.Lists(), trace.reason)
		}
	}
	d.Access[0].Delivery = "everyone"
	if _, err := Compile(1, d, nil); err == nil {
		t.Error("an unknown delivery compiles")
	}
	for _, channel := range []Standing{0, 3} {
		f.Channel = channel
		if trace, _ := compile(t, world(Rules, "yes")).decide(d.Access[0].Keys, f, workday()); trace.reason != NoDecryptor {
			t.Errorf("channel %d: %v", channel, trace.reason)
		}
	}
}

func TestAsks(t *testing.T) { // a service is asked only where its answer could let the key go
	for _, tt := range []struct {
		lists []string
		want  []string
	}{
		{[]string{`external.allows("credit")`}, []string{"credit"}},
		{[]string{`!external.allows("credit")`}, []string{"credit"}},
		{[]string{`false && external.allows("credit")`}, nil},
		{[]string{`external.allows("credit") && false`}, nil},
		{[]string{`external.allows("credit") && groups.has("x", "down")`}, nil},
		{[]string{`!(external.allows("credit") && groups.has("x", "down"))`}, []string{"credit"}},
		{[]string{`external.allows("credit") || groups.has("x", "down")`}, []string{"credit"}},
		{[]string{`external.allows("credit") && external.allows("fraud")`}, []string{"credit", "fraud"}},
		{[]string{`external.allows("credit") || true`}, nil},
		{[]string{`external.allows("fraud")`, `external.allows("credit") && external.allows("fraud")`}, []string{"fraud", "credit"}},
		{[]string{`external.allows("fraud") && groups.has("x", "down")`, `external.allows("credit")`}, []string{"credit"}},
		{[]string{`external.allows("credit")`, `true`}, nil},
	} {
		d := world(Rules)
		for i, expr := range tt.lists {
			name := fmt.Sprintf("r%d", i)
			d.Rules = append(d.Rules, RuleDef{RuleName(name), expr})
			d.Access[0].Lists = append(d.Access[0].Lists, name)
		}
		_, asks := compile(t, d).decide(d.Access[0].Keys, informed(t), workday())
		if diff := cmp.Diff(tt.want, asks); diff != "" {
			t.Errorf("%q: %s", tt.lists, diff)
		}
	}
	d := world(Rules, "credit && err", "!no && credit")
	_, asks := compile(t, d).decide(d.Access[0].Keys, informed(t), workday())
	if diff := cmp.Diff([]string{"credit"}, asks); diff != "" { // the rule was asked before; what it wanted is remembered
		t.Error(diff)
	}
}

func TestInformationIsClosed(t *testing.T) {
	good := Item{Kind: Role, Name: "x", Authority: "corp", Via: Presented}
	change := func(f func(*Item)) Item { i := good; f(&i); return i }
	for name, bad := range map[string]Item{
		"kind":      change(func(i *Item) { i.Kind = 0 }),
		"kind 7":    change(func(i *Item) { i.Kind = 7 }),
		"via":       change(func(i *Item) { i.Via = 0 }),
		"authority": change(func(i *Item) { i.Authority = "Corp" }),
		"name":      change(func(i *Item) { i.Name = "" }),
		"long name": change(func(i *Item) { i.Name = strings.Repeat("x", MaxItemText+1) }),
		"not UTF-8": change(func(i *Item) { i.Name = "\xff" }),
		"value":     change(func(i *Item) { i.Value = "x" }),
		"clearance": {Kind: Clearance, Value: "secret/nato,crypto", Authority: "corp", Via: Presented},
		"level":     {Kind: Clearance, Value: "Secret", Authority: "corp", Via: Presented},
		"no alias":  {Kind: Alias, Name: "mail", Authority: "corp", Via: Presented},
		"dots":      {Kind: Alias, Name: "dns", Value: "...", Authority: "corp", Via: Presented},
		"life":      change(func(i *Item) { i.From, i.Until = noon, noon.Add(-time.Second) }),
		"year":      change(func(i *Item) { i.Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
	} {
		if _, err := NewInformation([]Item{good, bad}, nil); err == nil {
			t.Errorf("%s: closed", name)
		}
	}
	if _, err := NewInformation(make([]Item, MaxItems+1), nil); err == nil {
		t.Error("too many items")
	}
	long := make([]Item, 40)
	for i := range long {
		long[i] = change(func(x *Item) { x.Name = fmt.Sprint(i) + strings.Repeat("x", MaxItemText-3) })
	}
	if _, err := NewInformation(long, nil); err == nil {
		t.Error("items are longer together than a record takes")
	}
	if _, err := NewInformation(nil, []kra.Anchor{"Corp"}); err == nil {
		t.Error("an authority without a name")
	}
	twice, err := NewInformation([]Item{{Role, "b", "", "corp", Presented, noon.Add(time.Millisecond), time.Time{}}, good, good}, []kra.Anchor{"b", "a", "b"})
	want := []Item{{Role, "b", "", "corp", Presented, noon, time.Time{}}, good}
	if err != nil || !cmp.Equal(twice.Items(), want) || !cmp.Equal(twice.Unavailable(), []kra.Anchor{"a", "b"}) {
		t.Errorf("%v %v %v", twice.Items(), twice.Unavailable(), err)
	}
}
