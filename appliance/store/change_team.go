package store

import (
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// A Thing is a kind of what a team can have.
type Thing string

// The things.
const (
	ThingAccess Thing = "access"
	ThingRule   Thing = "rule"
	ThingGroup  Thing = "group"
)

// An Owner is the team that has something.
type Owner struct {
	Team string `json:"team"`
}

func ownerKey(t Thing, name string) string { return string(t) + "/" + name }

// TeamGive gives a team something, or nobody if Team is empty.
type TeamGive struct {
	Team  string `json:"team"`
	Thing Thing  `json:"thing"`
	Name  string `json:"name"`
}

func (TeamGive) kind() string { return "team-give" }

func (c TeamGive) apply(d *State) error {
	there := map[Thing]func(string) bool{ThingAccess: d.access.has, ThingRule: d.rules.has, ThingGroup: d.groups.has}[c.Thing]
	switch {
	case there == nil:
		return invalid("%.80q is nothing that a team can have", c.Thing)
	case !there(c.Name):
		return invalid("there is no %s %.80q", c.Thing, c.Name)
	case c.Team != "" && kra.CheckName(c.Team) != nil:
		return invalid("team %.80q: want a-z, 0-9 and '-', at most 63 of them, not '-' first", c.Team)
	case d.TeamOf(c.Thing, c.Name) == c.Team:
		return invalid("that is so already")
	case c.Team == "":
		d.owners.remove(ownerKey(c.Thing, c.Name))
	default:
		d.owners.put(ownerKey(c.Thing, c.Name), Owner{c.Team})
	}
	return nil
}

// forget ends that anybody has something that is no more: what gets its name later is another.
func (s *State) forget(t Thing, name string) {
	if k := ownerKey(t, name); s.owners.has(k) {
		s.owners.remove(k)
	}
}

// TeamOf returns the team that has something, "" if none has.
func (s *State) TeamOf(t Thing, name string) string {
	o, _ := s.owners.get(ownerKey(t, name))
	return o.Team
}

// Teams returns what each team has: "access/legal" and the like, by team.
func (s *State) Teams() map[string][]string {
	out := map[string][]string{}
	for _, o := range s.Officers() {
		if o.Duty == TeamOfficer {
			out[o.Team] = nil
		}
	}
	for _, k := range s.owners.keys() {
		o, _ := s.owners.get(k)
		out[o.Team] = append(out[o.Team], strings.Replace(k, "/", " ", 1))
	}
	return out
}

// View is the state as a team sees it: of access identifiers, rules and groups those that it has, of keys those of its access
// identifiers, also of destroyed ones, and what is nobody's. It is for looking at and for trying changes out; it has no root.
func (s *State) View(team string) *State {
	d := s.draft()
	used := map[block.KeyID]bool{}
	for _, a := range s.Accesses() {
		if s.TeamOf(ThingAccess, string(a.ID)) != team {
			d.access.remove(string(a.ID))
			continue
		}
		for _, k := range a.Keys {
			used[k] = true
		}
	}
	for _, name := range s.rules.keys() {
		if s.TeamOf(ThingRule, name) != team {
			d.rules.remove(name)
		}
	}
	for _, name := range s.groups.keys() {
		if s.TeamOf(ThingGroup, name) != team {
			d.groups.remove(name)
		}
	}
	for _, k := range s.Keys() {
		if !used[k.ID] {
			d.keys.remove(k.ID.String())
		}
	}
	for _, id := range d.gone.keys() {
		g, _ := d.gone.get(id)
		g.Access = slices.DeleteFunc(slices.Clone(g.Access), func(a kra.AccessID) bool { return !d.access.has(string(a)) })
		if len(g.Access) == 0 {
			d.gone.remove(id)
			continue
		}
		d.gone.put(id, g)
	}
	d.settle()
	return d
}
