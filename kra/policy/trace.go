package policy

import (
	"encoding/json"
	"strconv"
	"time"
)

// A Trace says how a decision came about: the book, every fact that it could use, each rule that was asked, in order,
// and each list that was tried, in order. With the book of that version it can be replayed.
type Trace struct {
	version uint64
	facts   Facts
	id      string
	now     time.Time
	rules   []RuleStep
	lists   []ListStep
}

// A RuleStep is one rule that was asked.
type RuleStep struct {
	Rule    RuleName `json:"rule"`
	Outcome Outcome  `json:"outcome"`
	Reason  string   `json:"reason,omitempty"` // why it errored
}

// A ListStep is one rule list that was tried.
type ListStep struct {
	Access  AccessID `json:"access"`
	List    int      `json:"list"` // from 1
	Outcome Outcome  `json:"outcome"`
}

// Version returns the version of the book that decided.
func (t Trace) Version() uint64 { return t.version }

// Facts returns the facts that were known.
func (t Trace) Facts() Facts { return t.facts }

// Time returns the time of the decision, in whole seconds.
func (t Trace) Time() time.Time { return t.now }

// Rules returns the rules that were asked. The caller must not write to them.
func (t Trace) Rules() []RuleStep { return t.rules }

// Lists returns the lists that were tried. The caller must not write to them.
func (t Trace) Lists() []ListStep { return t.lists }

// MarshalText returns String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// AppendJSON appends the trace as one JSON object without white space, its fields always in the same order.
func (t Trace) AppendJSON(b []byte) []byte {
	b = append(b, `{"decryptor":`...)
	b = appendText(b, t.id)
	if t.facts.Source.IsValid() {
		b = append(b, `,"source":`...)
		b = appendText(b, t.facts.Source.String())
	}
	b = append(b, `,"time":"`...)
	b = t.now.AppendFormat(b, time.RFC3339)
	b = append(b, `","clock":"`...)
	if t.facts.ClockTrusted {
		b = append(b, "trusted"...)
	} else {
		b = append(b, "untrusted"...)
	}
	b = append(b, '"')
	b = appendSteps(b, "rules", len(t.rules), func(b []byte, i int) []byte { return t.rules[i].append(b) })
	b = appendSteps(b, "lists", len(t.lists), func(b []byte, i int) []byte { return t.lists[i].append(b) })
	return append(b, '}')
}

func appendSteps(b []byte, field string, n int, step func([]byte, int) []byte) []byte {
	b = append(append(append(b, `,"`...), field...), `":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = step(b, i)
	}
	return append(b, ']')
}

func (s RuleStep) append(b []byte) []byte {
	b = append(append(b, `{"rule":"`...), s.Rule...)
	b = append(append(b, `","outcome":"`...), s.Outcome.String()...)
	b = append(b, '"')
	if s.Reason != "" {
		b = appendText(append(b, `,"reason":`...), s.Reason)
	}
	return append(b, '}')
}

func (s ListStep) append(b []byte) []byte {
	b = append(append(b, `{"access":"`...), s.Access...)
	b = strconv.AppendInt(append(b, `","list":`...), int64(s.List), 10)
	b = append(append(b, `,"outcome":"`...), s.Outcome.String()...)
	return append(b, `"}`...)
}

// appendText appends what json.Marshal makes of s.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, err := json.Marshal(s)
			if err != nil {
				panic("policy: a string has no JSON") // cannot be: Marshal of a string does not fail
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
