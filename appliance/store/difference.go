package store

import (
	"fmt"
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
	Platforms            bool     // the domains whose platforms may be decryptors
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
		Platforms: len(s.platforms.since(&old.platforms)) > 0,
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

// A Changed is a record that changes would make another: its JSON before and after, nil where there is none.
type Changed struct {
	Bucket, Key   string
	Before, After []byte
}

// Changes lists the records that changes would make others, sorted, or returns an *Invalid. Of files it has the names only.
func Changes(s *State, changes ...Change) ([]Changed, error) {
	next, err := Apply(s, changes...)
	if err != nil {
		return nil, err
	}
	buckets := map[string]bucket{}
	for _, b := range s.buckets() {
		buckets[b.bucketName()] = b
	}
	var out []Changed
	for _, e := range next.edits {
		before, _, err := buckets[e.bucket].encode(e.key)
		if err != nil {
			return nil, fmt.Errorf("encode %s record: %w", e.bucket, err)
		}
		out = append(out, Changed{e.bucket, e.key, before, e.value})
	}
	return out, nil
}
