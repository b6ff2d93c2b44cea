package admin

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// truth is how an officer reads the outcome of a rule.
func truth(o policy.Outcome) string {
	switch o {
	case policy.Passed:
		return "true"
	case policy.Failed:
		return "false"
	}
	return "error"
}

// accessTest says what would be decided, and of each rule that was asked what it came to and why it could not be known.
func (s *step) accessTest(c console.AccessTest) error {
	if s.officer.Duty == store.TeamOfficer {
		if err := s.hasAccess(c.Access); err != nil {
			return err
		}
	}
	facts, now, about, err := s.facts(c.As, c.From, c.At, c.With)
	if err != nil {
		return err
	}
	if c.Unproven {
		facts.Channel = policy.Reencrypted
		about = "For " + strings.TrimPrefix(about, "As ")
	}
	trace, err := s.a.c.Book().Explain(c.Access, facts, now)
	if err != nil {
		return err
	}
	s.say("%s", about)
	t := newTable("RULE", "IS", "CONDITION, OR WHY IT CANNOT BE KNOWN")
	for _, r := range trace.Rules() {
		why := r.Reason
		if def, ok := s.state().Rule(string(r.Rule)); ok && r.Outcome != policy.Errored {
			why = def.Expr
		}
		t.row(string(r.Rule), truth(r.Outcome), why)
	}
	if len(t.rows) > 0 {
		if err := t.print(s, ""); err != nil {
			return err
		}
	}
	if c.Unproven && len(trace.Lists()) == 0 {
		return s.say("Refused: keys of %s leave only to who proves who he is; 'access deliver %s anyone' changes that.", c.Access, c.Access)
	}
	passed := false
	for _, l := range trace.Lists() {
		s.say("list %d of %s: %s", l.List, l.Access, truth(l.Outcome))
		passed = l.Outcome == policy.Passed
	}
	if !passed {
		return s.say("Refused: %s does not belong to %s.", c.As, c.Access)
	}
	return s.say("Allowed: %s belongs to %s.", c.As, c.Access)
}

// facts are what a question at the console assumes: this moment and clock, unless the officer names another time, and an
// address and information only as the officer names them.
func (s *step) facts(who kra.Decryptor, from netip.Addr, at time.Time, with []console.Item) (policy.Facts, time.Time, string, error) {
	shown, said := platformOf(with)
	known, err := s.information(said)
	if err != nil {
		return policy.Facts{}, time.Time{}, "", err
	}
	trusted, _ := s.a.c.Clock()
	now := at
	if at.IsZero() {
		now = time.Now()
	} else {
		trusted = true
	}
	about := []string{"As " + who.String(), "from no known address", "at " + stamp(now)}
	if from.IsValid() {
		about[1] = "from " + from.String()
	}
	if !trusted {
		about = append(about, "by a clock that is not trusted")
	}
	for _, i := range with {
		about = append(about, "with "+i.String())
	}
	return policy.Facts{Decryptor: who, Source: from, ClockTrusted: trusted, Channel: policy.Authenticated, Information: known, Platform: shown}, now,
		strings.Join(about, ", ") + ":", nil
}

// platformOf is the platform that items are about, and the other items. What is not said of it is assumed.
func platformOf(items []console.Item) (p policy.Platform, other []console.Item) {
	for _, i := range items {
		if i.Kind != console.PlatformItem {
			other = append(other, i)
			continue
		}
		if p == (policy.Platform{}) {
			p = policy.Platform{Domain: "assumed", Label: "assumed", Name: "assumed"}
		}
		switch i.Name {
		case "label":
			p.Label = i.Value
		case "domain":
			p.Domain = i.Value
		case "name":
			p.Name = i.Value
		case "measured":
			p.Unmeasured = true
		case "version":
			p.Version, _ = strconv.ParseUint(i.Value, 10, 64) // checked
		case "age":
			p.Age, _ = strconv.ParseInt(i.Value, 10, 64)
		}
	}
	if p.Version != 0 {
		p.Confirmation = [32]byte{1}
	}
	return p, other
}

func (s *step) whoAmI(c console.WhoAmI) error {
	facts, now, about, err := s.facts(c.As, c.From, c.At, c.With)
	if err != nil {
		return err
	}
	s.say("%s", about)
	ids := slices.DeleteFunc(s.a.c.Book().WhoAmI(facts, now), func(id kra.AccessID) bool { _, ok := s.state().Access(id); return !ok })
	if len(ids) == 0 {
		return s.say("belongs to no access identifier.")
	}
	t := newTable("ACCESS", "TITLE")
	for _, id := range ids {
		a, _ := s.state().Access(id)
		t.row(string(id), a.Title)
	}
	return t.print(s, "")
}
