package policy

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/kra/block"
)

// A Trace says how a decision came about: the book, every fact that it could use, the keys that the header named, each
// rule that was asked, in order, each list that was tried, in order, and the result. With the book of that version it can
// be replayed.
type Trace struct {
	version uint64
	facts   Facts
	id      string
	now     time.Time
	keys    []block.KeyID
	rules   []RuleStep
	lists   []ListStep

	reason  Reason   // zero if a key was granted
	granted int      // which of keys
	access  AccessID // whose list passed; empty where nothing was decided
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

// Keys returns the keys that the header named, as far as this can be known, in order. The caller must not write to them.
func (t Trace) Keys() []block.KeyID { return t.keys }

// Rules returns the rules that were asked. The caller must not write to them.
func (t Trace) Rules() []RuleStep { return t.rules }

// Lists returns the lists that were tried. The caller must not write to them.
func (t Trace) Lists() []ListStep { return t.lists }

// Granted returns the access identifier and the key that were granted, if the decision was yes.
func (t Trace) Granted() (AccessID, block.KeyID, bool) {
	if t.reason != 0 || t.access == "" || t.granted < 0 || t.granted >= len(t.keys) {
		return "", block.KeyID{}, false
	}
	return t.access, t.keys[t.granted], true
}

// AppendJSON appends the trace as one JSON object without white space, its fields always in the same order.
func (t Trace) AppendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"book":`...), t.version, 10)
	b = appendField(b, "decryptor", t.id)
	b = appendField(b, "channel", t.facts.Channel.String())
	if t.facts.Source.IsValid() {
		b = appendField(b, "source", t.facts.Source.String())
	}
	if p := t.facts.Platform; p != (Platform{}) {
		b = p.append(append(b, `,"platform":`...))
	}
	b = appendField(b, "time", t.now.Format(time.RFC3339))
	b = appendField(b, "clock", clockWord(t.facts.ClockTrusted))
	items, missing := t.facts.Information.Items(), t.facts.Information.Unavailable()
	b = appendSteps(b, "information", len(items), func(b []byte, i int) []byte { return items[i].append(b) })
	b = appendSteps(b, "unavailable", len(missing), func(b []byte, i int) []byte { return appendText(b, string(missing[i])) })
	b = appendSteps(b, "answers", len(t.facts.Answers), func(b []byte, i int) []byte { return t.facts.Answers[i].append(b) })
	b = appendSteps(b, "keys", len(t.keys), func(b []byte, i int) []byte { return appendText(b, t.keys[i].String()) })
	b = appendSteps(b, "rules", len(t.rules), func(b []byte, i int) []byte { return t.rules[i].append(b) })
	b = appendSteps(b, "lists", len(t.lists), func(b []byte, i int) []byte { return t.lists[i].append(b) })
	switch {
	case t.reason != 0:
		b = appendField(b, "refused", t.reason.String())
	case t.access != "":
		b = appendField(b, "granted", string(t.access))
		b = strconv.AppendInt(append(b, `,"key":`...), int64(t.granted+1), 10)
	}
	return append(b, '}')
}

func clockWord(trusted bool) string {
	if trusted {
		return "trusted"
	}
	return "untrusted"
}

func appendField(b []byte, name, value string) []byte {
	return appendText(append(append(append(b, `,"`...), name...), `":`...), value)
}

func (i Item) append(b []byte) []byte {
	b = append(append(b, `{"kind":"`...), i.Kind.String()...)
	b = append(b, '"')
	if i.Name != "" {
		b = appendField(b, "name", i.Name)
	}
	if i.Value != "" {
		b = appendField(b, "value", i.Value)
	}
	b = appendField(appendField(b, "authority", string(i.Authority)), "via", i.Via.String())
	if !i.From.IsZero() {
		b = appendField(b, "from", i.From.Format(time.RFC3339))
	}
	if !i.Until.IsZero() {
		b = appendField(b, "until", i.Until.Format(time.RFC3339))
	}
	return append(b, '}')
}

func (a Answer) append(b []byte) []byte {
	b = appendText(append(b, `{"service":`...), a.Service)
	b = appendField(b, "outcome", a.Outcome.String())
	if a.Reason != "" {
		b = appendField(b, "reason", a.Reason)
	}
	return append(b, '}')
}

// appendSteps appends a list, if there is anything in it.
func appendSteps(b []byte, field string, n int, step func([]byte, int) []byte) []byte {
	if n == 0 {
		return b
	}
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
