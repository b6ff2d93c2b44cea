package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// The questions that rules and roles ask. Their arguments were parsed when they were defined; names of groups and roles
// are looked up when they are asked, so that a rule serves every book that has them.
type (
	idNode     []string // id is one of these
	underNode  string
	groupNode  GroupName
	roleNode   RoleName
	windowNode struct{ *window }
	sinceNode  time.Time // that time or later
	netNode    netip.Prefix
	saidNode   struct { // an item of that kind, name and value, on the authority's word
		kind        Kind
		authority   kra.Anchor
		name, value string
	}
	clearedNode struct { // a clearance that dominates this one
		clearance
		authority kra.Anchor // empty: any that may assert clearances
	}
	serviceNode string
)

var (
	errClock  = errors.New("clock is not trusted")
	errSource = errors.New("source address is unknown")
	errBound  = errors.New("not bound to the certificate that the answer is encrypted to")
	errLife   = errors.New("how long it lasts cannot be checked: clock is not trusted")
)

func (n idNode) eval(e *evaluation) verdict { return verdictOf(slices.Contains(n, e.trace.id)) }

func (n underNode) eval(e *evaluation) verdict { return verdictOf(under(e.trace.id, string(n))) }

// under reports whether the decryptor's name is base or lies below it in the tree of names, under the same anchor.
func under(id, base string) bool {
	above, ok := strings.CutSuffix(id, base[strings.IndexByte(base, ':')+1:])
	if !ok || !strings.HasPrefix(id, base[:strings.IndexByte(base, ':')+1]) {
		return false
	}
	if strings.HasSuffix(base, ":") || above == base[:strings.IndexByte(base, ':')+1] {
		return true
	}
	above, ok = strings.CutSuffix(above, ",")
	escapes := len(above) - len(strings.TrimRight(above, `\`)) // an escaped comma belongs to the part above
	return ok && escapes%2 == 0
}

func (n groupNode) eval(e *evaluation) verdict {
	return verdictOf(e.book.inGroup(GroupName(n), e.trace.id))
}

var errNoRole = errors.New("no such role")

func (n roleNode) eval(e *evaluation) verdict {
	r := e.book.roles.At(RoleName(n))
	if r == nil {
		return unknown(errNoRole)
	}
	return r.needs.eval(e)
}

func (n windowNode) eval(e *evaluation) verdict {
	if !e.facts.ClockTrusted {
		return unknown(errClock)
	}
	return verdictOf(n.contains(e.now))
}

func (n sinceNode) eval(e *evaluation) verdict {
	if !e.facts.ClockTrusted {
		return unknown(errClock)
	}
	return verdictOf(!e.now.Before(time.Time(n)))
}

func (n netNode) eval(e *evaluation) verdict {
	if v := e.knowsSource(); v.outcome != Passed {
		return v
	}
	return verdictOf(netip.Prefix(n).Contains(e.facts.Source.WithZone("")))
}

// knowsSource reports whether the source address is the decryptor's.
func (e *evaluation) knowsSource() verdict {
	switch {
	case e.facts.Channel != Authenticated:
		return unknown(errBound)
	case !e.facts.Source.IsValid():
		return unknown(errSource)
	}
	return yes
}

func (n saidNode) eval(e *evaluation) verdict {
	if e.missing(n.authority) {
		return unknown(unavailable(n.authority))
	}
	items := e.facts.Information.Items()
	i, _ := slices.BinarySearchFunc(items, n, func(item Item, n saidNode) int {
		return item.compareClaim(n.kind, n.authority, n.name, n.value)
	})
	v := no
	for ; i < len(items) && items[i].compareClaim(n.kind, n.authority, n.name, n.value) == 0; i++ {
		v = orElse(v, e.counts(items[i]))
	}
	return v
}

func (n clearedNode) eval(e *evaluation) verdict {
	if n.authority != "" {
		return e.cleared(n.clearance, n.authority)
	}
	v := no
	for _, a := range e.book.terms.clearers {
		v = orElse(v, e.cleared(n.clearance, a))
	}
	return v
}

// cleared reports whether one clearance that the authority asserts dominates the one that is needed. Several do not add up.
func (e *evaluation) cleared(need clearance, a kra.Anchor) verdict {
	if e.missing(a) {
		return unknown(unavailable(a))
	}
	items := e.facts.Information.Items()
	i, _ := slices.BinarySearchFunc(items, a, func(item Item, a kra.Anchor) int { return item.compareClaim(Clearance, a, "", "") })
	v := no
	for ; i < len(items) && items[i].Kind == Clearance && items[i].Authority == a; i++ {
		if have, err := parseClearance(items[i].Value); err == nil && have.dominates(need, e.book.terms.levels) {
			v = orElse(v, e.counts(items[i]))
		}
	}
	return v
}

// orElse is v || w, where v did not pass or the result is v.
func orElse(v, w verdict) verdict {
	if v.outcome == Passed || w.outcome == Failed || v.outcome == Errored && w.outcome == Errored {
		return v
	}
	return w
}

// counts reports whether an item says anything here and now.
func (e *evaluation) counts(i Item) verdict {
	switch {
	case e.facts.Channel != Authenticated && (i.Via == Channel || i.Via == Token):
		return unknown(errBound)
	case i.From.IsZero() && i.Until.IsZero():
		return yes
	case !e.facts.ClockTrusted:
		return unknown(errLife)
	}
	return verdictOf(!e.now.Before(i.From) && (i.Until.IsZero() || !e.now.After(i.Until)))
}

func (e *evaluation) missing(a kra.Anchor) bool {
	_, found := slices.BinarySearch(e.facts.Information.Unavailable(), a)
	return found
}

func unavailable(a kra.Anchor) error { return fmt.Errorf("authority %s is not available", a) }

func (n serviceNode) eval(e *evaluation) verdict {
	if e.facts.Channel != Authenticated {
		return unknown(errBound)
	}
	for _, a := range e.facts.Answers {
		if a.Service != string(n) {
			continue
		}
		switch a.Outcome {
		case Passed:
			return yes
		case Failed:
			return no
		}
		return unknown(fmt.Errorf("service %s: %s", n, a.Reason))
	}
	e.wanted = with(e.wanted, string(n))
	return verdict{Errored, anyOutcome, fmt.Errorf("asks %s", n)}
}
