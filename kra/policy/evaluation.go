package policy

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// An Outcome is what a rule or a list came to. Zero is not set.
type Outcome uint8

// The outcomes. Only Passed lets anybody have anything.
const (
	Passed  Outcome = iota + 1
	Failed          // it is not so
	Errored         // it cannot be known: no
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Failed:
		return "failed"
	case Errored:
		return "error"
	}
	return "unset"
}

// An evaluation asks the rules of one book about one set of facts at one time. Each rule is asked once at most. It is
// CEL's activation and serves one goroutine.
type evaluation struct {
	book  *Book
	facts Facts
	now   time.Time
	rule  *rule // whose words are asked at the moment

	id                    types.String
	groups, clock, source word
	trace                 Trace
	asked                 map[RuleName]int // index in trace.rules; only made when there are many
}

var _ cel.Activation = (*evaluation)(nil)

func newEvaluation(b *Book, f Facts, now time.Time) *evaluation {
	f.Source = f.Source.Unmap()
	e := &evaluation{book: b, facts: f, now: now.UTC().Truncate(time.Second), id: types.String(f.Decryptor.String())}
	e.groups, e.clock, e.source = word{typeGroups, e}, word{typeClock, e}, word{typeSource, e}
	e.trace = Trace{version: b.version, facts: f, now: e.now, id: string(e.id)}
	return e
}

// ResolveName implements cel.Activation.
func (e *evaluation) ResolveName(name string) (any, bool) {
	switch name {
	case wordID:
		return e.id, true
	case wordGroups:
		return &e.groups, true
	case wordClock:
		return &e.clock, true
	case wordSource:
		return &e.source, true
	}
	return nil, false
}

// Parent implements cel.Activation: there is none.
func (e *evaluation) Parent() cel.Activation { return nil }

// manyRules is from where on a map finds a rule's outcome faster than a look at each.
const manyRules = 24

// ask returns what the rule comes to. A rule that errs and a rule that is not there are no permission.
func (e *evaluation) ask(name RuleName) Outcome {
	if e.asked != nil {
		if i, ok := e.asked[name]; ok {
			return e.trace.rules[i].Outcome
		}
	} else {
		for i := range e.trace.rules {
			if e.trace.rules[i].Rule == name {
				return e.trace.rules[i].Outcome
			}
		}
	}
	if len(e.trace.rules) == maxAsked {
		return Errored
	}
	step := RuleStep{Rule: name, Outcome: Errored, Reason: "no such rule"}
	if r := e.book.rules.At(name); r != nil {
		e.rule = r
		step.Outcome, step.Reason = r.eval(e)
	}
	e.remember(step)
	return step.Outcome
}

func (e *evaluation) remember(step RuleStep) {
	e.trace.rules = append(e.trace.rules, step)
	if e.asked != nil {
		e.asked[step.Rule] = len(e.trace.rules) - 1
	} else if len(e.trace.rules) > manyRules {
		e.asked = make(map[RuleName]int, 4*manyRules)
		for i, s := range e.trace.rules {
			e.asked[s.Rule] = i
		}
	}
}

func (e *evaluation) inGroup(arg string) (bool, error) {
	g, ok := e.rule.lits.groups[arg]
	if !ok {
		return false, errLiteral
	}
	return e.book.groups.At(g).has(e.facts.Decryptor), nil
}

func (e *evaluation) within(arg string) (bool, error) {
	w := e.rule.lits.windows[arg]
	if w == nil {
		return false, errLiteral
	}
	if !e.facts.ClockTrusted {
		return false, errClock
	}
	return w.contains(e.now), nil
}

func (e *evaluation) before(arg string) (bool, error) {
	ok, err := e.after(arg)
	return !ok && err == nil, err
}

func (e *evaluation) after(arg string) (bool, error) {
	t, ok := e.rule.lits.instants[arg]
	if !ok {
		return false, errLiteral
	}
	if !e.facts.ClockTrusted {
		return false, errClock
	}
	return !e.now.Before(t), nil
}

func (e *evaluation) fromNet(arg string) (bool, error) {
	p, ok := e.rule.lits.nets[arg]
	if !ok {
		return false, errLiteral
	}
	if !e.facts.Source.IsValid() {
		return false, errSource
	}
	return p.Contains(e.facts.Source.WithZone("")), nil
}
