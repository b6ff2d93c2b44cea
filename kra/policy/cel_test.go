package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// logic makes an expression of &&, || and ! at random.
func (c chooser) logic(depth int) string {
	switch k := c.IntN(5); {
	case depth == 0 || k == 0:
		return pick(c, "yes", "no", "err")
	case k == 1:
		return "!" + c.logic(depth-1)
	case k == 2:
		return "(" + c.logic(depth-1) + " || " + c.logic(depth-1) + ")"
	}
	return "(" + c.logic(depth-1) + " && " + c.logic(depth-1) + ")"
}

// TestNodesAreCEL holds our evaluation of the logical operators to that of cel-go, errors included.
func TestNodesAreCEL(t *testing.T) {
	env, err := cel.NewEnv(cel.Function("err", cel.Overload("err", nil, cel.BoolType, cel.FunctionBinding(func(...ref.Val) ref.Val {
		return types.WrapErr(errors.New("cannot be known"))
	}))))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Outcome]int{}
	for seed := range uint64(300) {
		text := chooser{rand.New(rand.NewPCG(seed, 3))}.logic(4)
		a, iss := env.Compile(strings.NewReplacer("yes", "true", "no", "false", "err", "err()").Replace(text))
		if iss.Err() != nil {
			t.Fatal(iss.Err())
		}
		p, err := env.Program(a)
		if err != nil {
			t.Fatal(err)
		}
		want := Failed
		if v, _, err := p.Eval(map[string]any{}); err != nil {
			want = Errored
		} else if v == types.True {
			want = Passed
		}
		f := informed(t)
		if got, _ := listOutcome(t, world(Rules, text), f); got != want {
			t.Errorf("%s = %v; CEL says %v", text, got, want)
		}
		rule := strings.NewReplacer("yes", "true", "no", "false", "err", `groups.has("x", "down")`).Replace(text)
		if got := asked(t, rule, f, workday()); got != want {
			t.Errorf("%s = %v; CEL says %v", rule, got, want)
		}
		seen[want]++
	}
	if min(seen[Passed], seen[Failed], seen[Errored]) < 30 {
		t.Errorf("%v: the test tries nothing", seen)
	}
}

func TestReasonsAreForTheAdministrator(t *testing.T) { // the trace says why; the refusal itself is the same for everybody
	f := informed(t)
	f.Answers = []Answer{{"fraud", Errored, "time-out"}}
	for expr, want := range map[string]string{
		`groups.has("x", "down")`:      "authority down is not available",
		`external.allows("fraud")`:     "service fraud: time-out",
		`external.allows("credit")`:    "asks credit",
		`id == "corp:CN=nobody"`:       "", // known: no reason
		`!roles.has("teller", "down")`: "authority down is not available",
	} {
		d := world(Rules, "r")
		d.Rules = append(d.Rules, RuleDef{"r", expr})
		b := compile(t, d)
		trace, asks := b.decide(d.Access[0].Keys, f, workday())
		if got := trace.Rules()[0].Reason; got != want {
			t.Errorf("%s: %q; want %q", expr, got, want)
		}
		no := &Refusal{NotPermitted, trace, asks}
		if no.Error() != "refuse release: not permitted" {
			t.Errorf("%s: %v", expr, no)
		}
	}
}

func TestRulesDocumentLimits(t *testing.T) {
	for _, n := range []int{MaxRules, MaxAccess, MaxGroups, MaxMembership, MaxNested, MaxRoles, MaxAuthorities, MaxServices, MaxLevels, MaxItems} {
		text := fmt.Sprint(n)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		if !strings.Contains(rulesDocument(t), " "+text+" ") {
			t.Errorf("RULES.md does not say %s", text)
		}
	}
}
