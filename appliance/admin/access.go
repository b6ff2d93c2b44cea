package admin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
)

func (s *step) accessAdd(ctx context.Context, c console.AccessAdd) error {
	if err := s.commit(ctx, store.AccessAdd{ID: c.Access, Title: c.Title}); err != nil {
		return err
	}
	return s.say("Access identifier %s was made. It has no key yet (key generate) and is nobody's (access lists).", c.Access)
}

func (s *step) accessList() error {
	t := newTable("ACCESS", "TITLE", "KEYS", "CURRENT KEY", "LISTS")
	for _, a := range s.state().Accesses() {
		current := "none"
		if len(a.Keys) > 0 {
			current = short(a.Keys[0])
		}
		t.row(string(a.ID), a.Title, fmt.Sprint(len(a.Keys)), current, fmt.Sprint(len(a.Lists)))
	}
	return t.print(s, "There are no access identifiers. Make one with: access add")
}

func (s *step) accessShow(c console.AccessShow) error {
	a, ok := s.state().Access(c.Access)
	if !ok {
		return fmt.Errorf("there is no access identifier %q", c.Access)
	}
	field(s, "access", string(a.ID))
	field(s, "title", a.Title)
	for i, id := range a.Keys {
		k, _ := s.state().Key(id)
		field(s, "key", fmt.Sprintf("%s %s, %s, %s", short(id), k.Suite, k.Custody, keyState(k, i)))
	}
	for i, l := range a.Lists {
		field(s, fmt.Sprintf("list %d", i+1), l)
	}
	if len(a.Lists) == 0 {
		return field(s, "lists", "none: nobody belongs to it")
	}
	return nil
}

func (s *step) accessTitle(ctx context.Context, c console.AccessTitle) error {
	if err := s.commit(ctx, store.AccessTitle{ID: c.Access, Title: c.Title}); err != nil {
		return err
	}
	return s.say("The title of %s is now %q.", c.Access, c.Title)
}

func (s *step) accessLists(ctx context.Context, c console.AccessLists) error {
	if err := s.commit(ctx, store.AccessLists{ID: c.Access, Lists: c.Lists}); err != nil {
		return err
	}
	return s.say("%s has %s now.", c.Access, count(len(c.Lists), "rule list", "rule lists"))
}

// accessKeys sets the keys, and has those certified that are not yet certified for this access identifier.
func (s *step) accessKeys(ctx context.Context, c console.AccessKeys) error {
	if err := s.hasAccess(c.Access); err != nil {
		return err
	}
	var ids []block.KeyID
	changes := []store.Change{nil}
	for _, ref := range c.Keys {
		k, err := s.key(ref)
		if err != nil {
			return err
		}
		ids = append(ids, k.ID)
		if s.state().Certificate(c.Access, k.ID) != nil {
			continue
		}
		if err := s.act(ctx); err != nil {
			return err
		}
		chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(c.Access), usage(k.Suite))
		if err != nil {
			return err
		}
		changes = append(changes, store.CertificateSet{Access: c.Access, Key: k.ID, Chain: chain})
	}
	changes[0] = store.AccessKeys{ID: c.Access, Keys: ids}
	if err := s.commit(ctx, changes...); err != nil {
		return err
	}
	return s.say("%s has %s now; the current one is %s.", c.Access, count(len(ids), "key", "keys"), short(ids[0]))
}

func (s *step) accessRemove(ctx context.Context, c console.AccessRemove) error {
	a, ok := s.state().Access(c.Access)
	if !ok {
		return fmt.Errorf("there is no access identifier %q", c.Access)
	}
	if err := s.confirm("Remove %s? Nothing that is encrypted to it is released any more; its %s in the box.",
		c.Access, count(len(a.Keys), "key stays", "keys stay")); err != nil {
		return err
	}
	if err := s.commit(ctx, store.AccessRemove{ID: c.Access}); err != nil {
		return err
	}
	return s.say("Access identifier %s was removed.", c.Access)
}

func (s *step) accessTest(c console.AccessTest) error {
	facts, now, about := s.facts(c.As, c.From, c.At)
	trace, err := s.a.c.Book().Explain(c.Access, facts, now)
	if err != nil {
		return err
	}
	s.say("%s", about)
	t := newTable("RULE", "OUTCOME", "WHY")
	for _, r := range trace.Rules() {
		t.row(string(r.Rule), r.Outcome.String(), r.Reason)
	}
	if len(t.rows) > 0 {
		if err := t.print(s, ""); err != nil {
			return err
		}
	}
	passed := false
	for _, l := range trace.Lists() {
		s.say("list %d of %s: %s", l.List, l.Access, l.Outcome)
		passed = l.Outcome == policy.Passed
	}
	if !passed {
		return s.say("Refused: %s does not belong to %s.", c.As, c.Access)
	}
	return s.say("Allowed: %s belongs to %s.", c.As, c.Access)
}

// facts are what a question at the console assumes: this moment and clock, unless the officer names another time, and an
// address only if the officer names one.
func (s *step) facts(who kra.Decryptor, from netip.Addr, at time.Time) (policy.Facts, time.Time, string) {
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
	return policy.Facts{Decryptor: who, Source: from, ClockTrusted: trusted, Channel: policy.Authenticated}, now, strings.Join(about, ", ") + ":"
}

func (s *step) whoAmI(c console.WhoAmI) error {
	facts, now, about := s.facts(c.As, c.From, c.At)
	s.say("%s", about)
	ids := s.a.c.Book().WhoAmI(facts, now)
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
