package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/policy"
)

// teamLists are the lists of names that officers of a team complete words from.
var teamLists = []string{console.NamesAccess, console.NamesRule, console.NamesGroup, console.NamesKey, console.NamesMember, console.NamesRequest}

// errOthers says no more of what a team does not see than that there is something.
var errOthers = errors.New("the name is taken, or others depend on it; take another name, or ask an officer of the box")

// within holds the changes of a team's officer to what the team has: they must do to the whole state what they do to the
// team's view of it, and nothing else. What they make is the team's.
func (s *step) within(changes []store.Change) ([]store.Change, error) {
	if s.officer.Duty != store.TeamOfficer || len(changes) == 1 && isRequest(changes[0]) {
		return changes, nil
	}
	next, err := store.Apply(s.state(), changes...)
	if err != nil {
		return nil, err
	}
	if err := s.a.c.Try(next); err != nil {
		if before := s.a.c.Try(s.state()); before != nil && before.Error() == err.Error() {
			return nil, fmt.Errorf("%w. What your team has names what it has not: change that first, or ask an officer of the box to give it to the team", err)
		}
		return nil, err
	}
	real := s.a.c.Store.State()
	ours, err := store.Changes(s.state(), changes...)
	if err != nil {
		return nil, err
	}
	all, err := store.Changes(real, changes...)
	if err != nil || !slices.EqualFunc(ours, all, equalChange) || s.sharedKey(ours) {
		return nil, errOthers
	}
	if err := s.sharedWord(ours); err != nil {
		return nil, err
	}
	for _, c := range ours {
		if c.Before == nil && c.After != nil && slices.Contains([]string{"access", "rule", "group"}, c.Bucket) {
			changes = append(changes, store.TeamGive{Team: s.officer.Team, Thing: store.Thing(c.Bucket), Name: c.Key})
		}
	}
	return changes, nil
}

func equalChange(a, b store.Changed) bool {
	return a.Bucket == b.Bucket && a.Key == b.Key && bytes.Equal(a.Before, b.Before) && bytes.Equal(a.After, b.After)
}

func isRequest(c store.Change) bool {
	switch c.(type) {
	case store.RequestAdd, store.RequestEnd, store.OfficerPassphrase, store.OfficerCodes, store.OfficerCodesRemove:
		return true
	}
	return false
}

// sharedKey reports whether a key that would change is also one of an access identifier that the team does not have.
func (s *step) sharedKey(all []store.Changed) bool {
	touched := func(id string) bool {
		return slices.ContainsFunc(all, func(c store.Changed) bool {
			return c.Before != nil && (c.Bucket == "key" || c.Bucket == "tag") && c.Key == id
		})
	}
	for _, a := range s.a.c.Store.State().Accesses() {
		if _, ok := s.state().Access(a.ID); ok {
			continue
		}
		for _, k := range a.Keys {
			if touched(k.String()) {
				return true
			}
		}
	}
	return false
}

// sharedWord refuses to change a rule or a group by which is decided about what the team does not have: whoever gave it to the team, or used
// it since, has not given that.
func (s *step) sharedWord(all []store.Changed) error {
	for _, c := range all {
		t := store.Thing(c.Bucket)
		if c.Before == nil || t != store.ThingRule && t != store.ThingGroup {
			continue
		}
		if len(s.a.usersBeside(s.officer.Team, t, c.Key)) > 0 {
			return fmt.Errorf("others use the %s %s too, and your team cannot change it: make another one, or ask an officer of the box, "+
				"who can change it or give your team what uses it", t, c.Key)
		}
	}
	return nil
}

// usersBeside are the access identifiers, rules, roles and groups that the team does not have and that depend on a thing. Roles are the box's.
func (a *Agent) usersBeside(team string, t store.Thing, name string) (out []policy.Word) {
	for _, w := range a.c.Book().Users(policy.Word{Kind: policy.WordKind(t), Name: name}) {
		if w.Kind == policy.RoleWord || a.c.Store.State().TeamOf(store.Thing(w.Kind), w.Name) != team {
			out = append(out, w)
		}
	}
	return out
}

// maxUsers is how many of those who use something are named.
const maxUsers = 5

// othersUse says who else depends on what a team is given, or on what is taken from teams.
func (s *step) othersUse(give store.TeamGive) string {
	all := s.a.usersBeside(give.Team, give.Thing, give.Name)
	if give.Team == "" {
		all = slices.DeleteFunc(all, func(w policy.Word) bool { return w.Kind == policy.RoleWord })
	}
	if len(all) == 0 {
		return ""
	}
	var names []string
	for _, w := range all[:min(len(all), maxUsers)] {
		names = append(names, string(w.Kind)+" "+w.Name)
	}
	if more := len(all) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if give.Team == "" {
		return " It is used by what teams have: " + strings.Join(names, ", ") + "."
	}
	return " It is used by what the team has not: " + strings.Join(names, ", ") + ". As long as it is, only officers of the box can change it."
}

func (s *step) teamList() error {
	t := newTable("TEAM", "OFFICERS", "HAS")
	all := s.state().Teams()
	for _, team := range slices.Sorted(maps.Keys(all)) {
		var officers []string
		for _, o := range s.state().Officers() {
			if o.Team == team {
				officers = append(officers, o.Name)
			}
		}
		t.row(team, strings.Join(officers, " "), strings.Join(all[team], ", "))
	}
	return t.print(s, "There are no teams. Make one with: officer add OFFICER team TEAM")
}

func (s *step) teamGive(ctx context.Context, c console.TeamGive) error {
	give := store.TeamGive{Team: string(c.Team), Thing: store.Thing(c.Thing), Name: c.Name}
	was := s.state().TeamOf(give.Thing, give.Name)
	if _, err := store.Apply(s.state(), give); err != nil {
		return err
	}
	others := s.othersUse(give)
	s.tell("Give the " + c.Thing + " " + c.Name + ", which is " + teamWords(was) + ", to be " + teamWords(give.Team) + "?" + others)
	if err := s.commit(ctx, give); err != nil {
		return err
	}
	s.say("The %s %s is %s now.%s", c.Thing, c.Name, teamWords(give.Team), others)
	for _, team := range []string{was, give.Team} {
		if team == "" {
			continue
		}
		if err := s.a.c.Try(s.state().View(team)); err != nil {
			s.say("Team %s can change nothing until it has all that it names, or names it no longer (access lists, rule set): %v.", team, err)
		}
	}
	return nil
}

func teamWords(team string) string {
	if team == "" {
		return "no team's"
	}
	return "team " + team + "'s"
}
