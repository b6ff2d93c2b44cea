package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// A chooser makes definitions and facts at random.
type chooser struct{ *rand.Rand }

func pick[T any](c chooser, from ...T) T { return from[c.IntN(len(from))] }

// atoms are questions that the world understands.
var atoms = []string{`true`, `false`, `groups.has("legal")`, `groups.has("company")`, `groups.has("others")`, `groups.has("staff", "corp-ldap")`,
	`roles.has("teller")`, `roles.has("phoned")`, `roles.has("auditor", "corp-aa")`, `roles.has("clerk", "idp")`, `attributes.has("department", "sales", "corp-ldap")`,
	`device.has("managed", "yes", "mdm-aa")`, `aliases.has("mail:alice@example.com", "corp")`, `clearance.dominates("secret/crypto")`,
	`clearance.dominates("confidential", "mdm-aa")`, `roles.has("x", "down")`, `external.allows("credit")`, `external.allows("fraud")`,
	`source.net("10.20.0.0/16")`, `clock.after("2026-01-01T00:00:00Z")`, `id.under("corp:O=Example")`}

// rule makes a rule; one without negation where none is wanted.
func (c chooser) rule(depth, negations int) string {
	switch c.IntN(4) {
	case 0:
		if depth > 0 {
			return "(" + c.rule(depth-1, negations) + " && " + c.rule(depth-1, negations) + ")"
		}
	case 1:
		if depth > 0 {
			return "(" + c.rule(depth-1, negations) + " || " + c.rule(depth-1, negations) + ")"
		}
	case 2:
		if depth > 0 && negations > 0 {
			return "!" + c.rule(depth-1, negations)
		}
	}
	return pick(c, atoms...)
}

func (c chooser) list(names []string, negations int) string {
	a, b, d := pick(c, names...), pick(c, names...), pick(c, names...)
	not := ""
	if negations > 0 && c.IntN(2) == 0 {
		not = "!"
	}
	forms := []string{a, not + a, a + " && " + not + b, not + a + " || " + b, "(" + a + " || " + not + b + ") && " + d}
	if a != b && b != d && a != d {
		forms = append(forms, fmt.Sprintf("at_least(2, [%s, %s, %s])", a, b, d))
	}
	return pick(c, forms...)
}

func (c chooser) definition(negations int) Definition {
	d := world(Rules)
	var names []string
	for i := range 2 + c.IntN(4) {
		names = append(names, fmt.Sprintf("q%d", i))
		d.Rules = append(d.Rules, RuleDef{RuleName(names[i]), c.rule(3, negations)})
	}
	d.Access = nil
	for i := range 1 + c.IntN(3) {
		a := AccessDef{ID: AccessID(fmt.Sprintf("a%d", i)), Delivery: pick(c, ToAuthenticated, ToAnyone)}
		for k := range 1 + c.IntN(2) {
			a.Keys = append(a.Keys, block.KeyID{byte(1 + (i+k)%3)})
		}
		for range c.IntN(4) {
			a.Lists = append(a.Lists, c.list(names, negations))
		}
		d.Access = append(d.Access, a)
	}
	return d
}

func (c chooser) facts(t testing.TB) Facts {
	f := facts(t)
	var items []Item
	for _, i := range known(t) {
		if c.IntN(3) > 0 {
			items = append(items, i)
		}
	}
	f.Information = informationOf(t, items, pick(c, []kra.Anchor{"down"}, []kra.Anchor{"corp-ldap", "down"}, nil)...)
	f.Channel = pick(c, Authenticated, Authenticated, Reencrypted)
	f.ClockTrusted = c.IntN(4) > 0
	f.Source = pick(c, f.Source, f.Source, netip.MustParseAddr("192.0.2.1"), netip.Addr{})
	for _, s := range []string{"credit", "fraud"} {
		if o := Outcome(c.IntN(4)); o != 0 {
			f.Answers = append(f.Answers, Answer{s, o, ""})
		}
	}
	return f
}

// granted decides about all keys there are.
func granted(b *Book, f Facts) (bool, []string) {
	trace, asks := b.decide([]block.KeyID{{1}, {2}, {3}}, f, workday())
	return trace.reason == 0, asks
}

// worlds calls a test with definitions and facts at random, and says how often the answer was yes.
func worlds(t *testing.T, negations int, try func(c chooser, d Definition, b *Book, f Facts, yes bool)) {
	t.Helper()
	passed, failed := 0, 0
	for seed := range uint64(200) {
		c := chooser{rand.New(rand.NewPCG(seed, 7))}
		d := c.definition(negations)
		b := compile(t, d)
		for range 4 {
			f := c.facts(t)
			ok, _ := granted(b, f)
			if ok {
				passed++
			} else {
				failed++
			}
			try(c, d, b, f, ok)
		}
	}
	if passed < 100 || failed < 100 {
		t.Errorf("%d granted, %d refused: the test tries nothing", passed, failed)
	}
}

// Adding a rule that nobody satisfies never grants: neither alone, nor to a list that it is joined to, nor as a list.
func TestUnsatisfiedRuleNeverGrants(t *testing.T) {
	worlds(t, 1, func(c chooser, d Definition, _ *Book, f Facts, yes bool) {
		d.Rules = append(slices.Clone(d.Rules), RuleDef{"nobody", pick(c, `false`, `groups.has("empty")`, `groups.has("x", "down")`, `id == "corp:CN=nobody"`)})
		d.Access = slices.Clone(d.Access)
		for i := range d.Access {
			a := &d.Access[i]
			a.Lists = slices.Clone(a.Lists)
			for l := range a.Lists {
				switch c.IntN(3) {
				case 0:
					a.Lists[l] = "(" + a.Lists[l] + ") && nobody"
				case 1:
					a.Lists[l] = "(" + a.Lists[l] + ") || nobody"
				}
			}
			a.Lists = slices.Insert(a.Lists, c.IntN(len(a.Lists)+1), "nobody")
		}
		if ok, _ := granted(compile(t, d), f); ok && !yes {
			t.Errorf("granted by a rule that nobody satisfies: %+v", d.Access)
		}
	})
}

// Removing information never grants unless a rule negates it.
func TestLessInformationNeverGrants(t *testing.T) {
	worlds(t, 0, func(c chooser, d Definition, b *Book, f Facts, yes bool) {
		less := f
		switch c.IntN(5) {
		case 0:
			less.Source = netip.Addr{}
		case 1:
			less.ClockTrusted = false
		case 2:
			less.Answers = nil
		case 3:
			less.Information = informationOf(t, f.Information.Items(), append(slices.Clone(f.Information.Unavailable()), "corp-aa", "idp")...)
		default:
			if items := f.Information.Items(); len(items) > 0 {
				i := c.IntN(len(items))
				less.Information = informationOf(t, slices.Concat(items[:i], items[i+1:]), f.Information.Unavailable()...)
			}
		}
		if ok, _ := granted(b, less); ok && !yes {
			t.Errorf("granted for want of information: %+v", d.Access)
		}
	})
}

// An error never grants: whatever the thing that cannot be known might have been, a grant is one without it too.
func TestErrorNeverGrants(t *testing.T) {
	worlds(t, 1, func(c chooser, d Definition, b *Book, f Facts, yes bool) {
		if !yes {
			return
		}
		f.Answers = slices.DeleteFunc(slices.Clone(f.Answers), func(a Answer) bool { return a.Outcome == Errored })
		for _, service := range d.Services { // a service that failed might have said either
			if slices.ContainsFunc(f.Answers, func(a Answer) bool { return a.Service == service }) {
				continue
			}
			for _, o := range []Outcome{Passed, Failed} {
				other := f
				other.Answers = append(slices.Clone(f.Answers), Answer{service, o, ""})
				if ok, _ := granted(b, other); !ok {
					t.Errorf("granted because %s gave no answer: %+v", service, d.Access)
				}
			}
		}
	})
	for _, atom := range atoms { // and a rule that is nothing but an error, negated or not, lets nobody in
		f := facts(t)
		f.Decryptor, f.Source, f.ClockTrusted = decryptor(t, "corp:CN=x"), netip.Addr{}, false
		f.Information = informationOf(t, nil, "corp", "corp-aa", "corp-ldap", "mdm-aa", "idp", "down")
		if knowable := strings.Contains(atom, "true") || strings.Contains(atom, "false") || strings.Contains(atom, "id.") ||
			strings.Contains(atom, "groups.has") && !strings.Contains(atom, ","); knowable {
			continue
		}
		for _, expr := range []string{atom, "!" + atom, "!!" + atom, atom + " || " + atom, "!(" + atom + " && true)"} {
			if got := asked(t, expr, f, workday().Add(time.Minute)); got != Errored {
				t.Errorf("%s = %v where nothing can be known", expr, got)
			}
		}
	}
}

// What Asks names can change the refusal, and nothing else can.
func TestAsksIsEnough(t *testing.T) {
	asking := 0
	worlds(t, 1, func(c chooser, d Definition, b *Book, f Facts, yes bool) {
		f.Answers = nil
		ok, asks := granted(b, f)
		if ok {
			return
		}
		if len(asks) > 0 {
			asking++
		}
		for i := range 4 { // all that the two services could say
			g := f
			for n, s := range []string{"credit", "fraud"} {
				g.Answers = append(g.Answers, Answer{s, Passed + Outcome(i>>n&1), ""})
			}
			if ok, _ := granted(b, g); ok && len(asks) == 0 {
				t.Errorf("a service that nobody wants to ask changes the refusal: %+v", d.Access)
			}
		}
	})
	if asking < 10 {
		t.Errorf("%d asked: the test tries nothing", asking)
	}
}
