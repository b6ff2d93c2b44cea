package store

import (
	"slices"

	"github.com/keyrelease/krabox/kra"
)

// A Difference names the records that may differ between two states: each that does, and few that do not.
type Difference struct {
	Rules, Groups, Roles []string // by name, sorted
	Access               []kra.AccessID
	Anchors, Sources     []kra.Anchor
	Keys, Tagged         []string // ids
	Levels               bool     // the classification levels
	Published            bool     // anything that the directory shows: the box's name, or a current key, its title or certificate
}

// Since compares the state with an older one, or with a state of nothing if old is nil. It takes time in proportion to
// what changed.
func (s *State) Since(old *State) Difference {
	if old == nil {
		old = &State{}
	}
	d := Difference{
		Rules: s.rules.since(&old.rules), Groups: s.groups.since(&old.groups), Roles: s.roles.since(&old.roles),
		Keys: s.keys.since(&old.keys), Tagged: s.tags.since(&old.tags), Levels: len(s.levels.since(&old.levels)) > 0,
	}
	for _, alias := range s.anchors.since(&old.anchors) {
		d.Anchors = append(d.Anchors, kra.Anchor(alias))
	}
	for _, alias := range s.sources.since(&old.sources) {
		d.Sources = append(d.Sources, kra.Anchor(alias))
	}
	for _, id := range s.access.since(&old.access) {
		d.Access = append(d.Access, kra.AccessID(id))
	}
	d.Published = s.publishes(old, d)
	return d
}

// publishes reports whether the directory is another one. Rule lists and old keys do not show in it.
func (s *State) publishes(old *State, d Difference) bool {
	return len(s.certs.since(&old.certs)) > 0 || len(d.Keys) > 0 || s.Box().Name != old.Box().Name ||
		slices.ContainsFunc(d.Access, func(id kra.AccessID) bool {
			a, was := s.accessOf(id), old.accessOf(id)
			return a.Title != was.Title || !slices.Equal(a.Keys[:min(1, len(a.Keys))], was.Keys[:min(1, len(was.Keys))])
		})
}

// accessOf returns an access identifier, or an empty one.
func (s *State) accessOf(id kra.AccessID) Access {
	a, _ := s.access.get(string(id))
	return a
}
