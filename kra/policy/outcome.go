package policy

// An Outcome is what a rule or a list came to. Zero is not set.
type Outcome uint8

// The outcomes. Only Passed lets anybody have anything.
const (
	Passed  Outcome = iota + 1
	Failed          // it is not so
	Errored         // it cannot be known: no
)

var outcomeNames = []string{Passed: "passed", Failed: "failed", Errored: "error"}

// String returns the outcome in lower case.
func (o Outcome) String() string {
	if s := nameOf(outcomeNames, int(o)); s != "" {
		return s
	}
	return "unset"
}

// ParseOutcome reads what String wrote.
func ParseOutcome(s string) (Outcome, error) {
	i, err := indexOf(outcomeNames, "outcome", s)
	return Outcome(i), err
}

// MarshalText returns String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Outcomes is a set of outcomes.
type outcomes uint8

func only(o Outcome) outcomes { return 1 << o }

const anyOutcome = outcomes(1<<Passed | 1<<Failed | 1<<Errored)

func (s outcomes) has(o Outcome) bool { return s&only(o) != 0 }

// A verdict is an outcome, what it could yet become once services answer that were not asked, and why it errored.
type verdict struct {
	outcome Outcome
	could   outcomes
	why     error
}

var (
	yes = verdict{outcome: Passed, could: only(Passed)}
	no  = verdict{outcome: Failed, could: only(Failed)}
)

func verdictOf(ok bool) verdict {
	if ok {
		return yes
	}
	return no
}

func unknown(why error) verdict { return verdict{Errored, only(Errored), why} }

// A node is a part of a rule, a role or a list. It has the meaning that CEL gives it: an operator whose outcome does not
// depend on an operand that errored, does not err. Operands are asked from left to right and only as far as needed.
type node interface {
	eval(e *evaluation) verdict
}

type (
	constNode bool
	notNode   struct{ of node }
	countNode struct { // at least need of the operands: && is all of them, || is one
		need int
		of   []node
	}
)

func (n constNode) eval(*evaluation) verdict { return verdictOf(bool(n)) }

func (n notNode) eval(e *evaluation) verdict {
	v := n.of.eval(e)
	could := v.could & only(Errored)
	if v.could.has(Passed) {
		could |= only(Failed)
	}
	if v.could.has(Failed) {
		could |= only(Passed)
	}
	switch v.outcome {
	case Passed:
		return no
	case Failed:
		return yes
	}
	return verdict{Errored, could, v.why}
}

func (n countNode) eval(e *evaluation) verdict {
	var passed, errored, couldPass, couldFail int
	var could outcomes
	var why error
	for i, operand := range n.of {
		v := operand.eval(e)
		switch v.outcome {
		case Passed:
			passed++
		case Failed:
		default:
			if errored++; why == nil {
				why = v.why
			}
			could |= v.could & only(Errored)
		}
		if v.could.has(Passed) {
			couldPass++
		}
		if v.could.has(Failed) {
			couldFail++
		}
		if passed >= n.need {
			return yes
		}
		if passed+errored+len(n.of)-i-1 < n.need {
			return no
		}
	}
	if couldPass >= n.need {
		could |= only(Passed)
	}
	if len(n.of)-couldFail < n.need {
		could |= only(Failed)
	}
	return verdict{Errored, could, why}
}
