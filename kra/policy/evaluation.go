package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// An evaluation asks the rules of one book about one set of facts at one time. Each rule is asked once at most. It serves
// one goroutine.
type evaluation struct {
	book  *Book
	facts Facts
	now   time.Time
	trace Trace
	asked map[RuleName]int // index in trace.rules; only made when there are many

	access AccessID   // whose lists are tried
	open   []openRule // rules that a service could still change
	wanted []string   // services that the rule or list being evaluated wanted to ask, each once, in order
	asks   []string   // of the lists that could have passed with them
}

// An openRule is a rule that came to an error for want of a service's answer, and what it could come to with it.
type openRule struct {
	name   RuleName
	could  outcomes
	wanted []string
}

func newEvaluation(b *Book, f Facts, now time.Time) *evaluation {
	f.Source = f.Source.Unmap()
	if len(f.Answers) > 0 {
		f.Answers = closeAnswers(f.Answers)
	}
	if f.Platform.check() != nil {
		f.Platform = Platform{} // none that a trace could tell of
	}
	e := &evaluation{book: b, facts: f, now: now.UTC().Truncate(time.Second)}
	e.trace = Trace{version: b.version, facts: f, now: e.now, id: f.Decryptor.String(), rules: make([]RuleStep, 0, 8), lists: make([]ListStep, 0, 4)}
	return e
}

// closeAnswers copies answers as far as they have a text form.
func closeAnswers(all []Answer) []Answer {
	out := make([]Answer, 0, min(len(all), MaxAnswers))
	for _, a := range all[:min(len(all), MaxAnswers)] {
		if isWord(a.Service) && a.Outcome.String() != "unset" {
			out = append(out, Answer{a.Service, a.Outcome, strings.Map(plainRune, clip(a.Reason))})
		}
	}
	return out
}

// plainRune keeps what JSON writes in as many bytes as Go.
func plainRune(r rune) rune {
	if !unicode.IsPrint(r) || strings.ContainsRune(`"\<>&`, r) {
		return '?'
	}
	return r
}

// manyRules is from where on a map finds a rule's outcome faster than a look at each.
const manyRules = 24

var (
	errNoRule   = errors.New("no such rule")
	errManyRule = fmt.Errorf("more than %d rules were asked", maxAsked)
)

// ask returns what the rule comes to. A rule that errs and a rule that is not there are no permission.
func (e *evaluation) ask(name RuleName) verdict {
	if i := e.index(name); i >= 0 {
		return e.again(e.trace.rules[i])
	}
	if len(e.trace.rules) == maxAsked {
		return unknown(errManyRule)
	}
	v := unknown(errNoRule)
	outer := e.wanted
	e.wanted = nil
	if r := e.book.rules.At(name); r != nil {
		v = r.eval(e)
	}
	if len(e.wanted) > 0 && v.could != only(v.outcome) {
		e.open = append(e.open, openRule{name, v.could, e.wanted})
		for _, s := range e.wanted {
			outer = with(outer, s)
		}
	}
	e.wanted = outer
	e.remember(name, v)
	return v
}

// index returns where in the trace the rule is, or -1.
func (e *evaluation) index(name RuleName) int {
	if e.asked != nil {
		if i, ok := e.asked[name]; ok {
			return i
		}
		return -1
	}
	for i := range e.trace.rules {
		if e.trace.rules[i].Rule == name {
			return i
		}
	}
	return -1
}

// again is the verdict of a rule that was asked before.
func (e *evaluation) again(s RuleStep) verdict {
	if s.Outcome != Errored {
		return verdictOf(s.Outcome == Passed)
	}
	v := unknown(errors.New(s.Reason))
	for _, o := range e.open {
		if o.name == s.Rule {
			v.could = o.could
			for _, w := range o.wanted {
				e.wanted = with(e.wanted, w)
			}
		}
	}
	return v
}

func (e *evaluation) remember(name RuleName, v verdict) {
	step := RuleStep{Rule: name, Outcome: v.outcome}
	if v.outcome == Errored {
		step.Reason = clip(v.why.Error())
	}
	e.trace.rules = append(e.trace.rules, step)
	if e.asked != nil {
		e.asked[name] = len(e.trace.rules) - 1
	} else if len(e.trace.rules) > manyRules {
		e.asked = make(map[RuleName]int, 4*manyRules)
		for i, s := range e.trace.rules {
			e.asked[s.Rule] = i
		}
	}
}

// with returns a list with s in it, once.
func with(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
