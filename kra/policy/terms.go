package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of the terms of a definition.
const (
	MaxAuthorities = 1000
	MaxServices    = 64
)

// terms are the short lists of a definition: whose word counts for what, which services there are, and the levels. They
// do not change.
type terms struct {
	authorities map[kra.Anchor]kindSet
	clearers    []kra.Anchor // authorities that may assert clearances, sorted
	services    []string     // sorted
	levels      []string     // lowest first
	recipients  []string     // of the tagged keys, sorted
	tagged      []block.Tagged
}

type kindSet uint8

func (s kindSet) has(k Kind) bool { return s&(1<<k) != 0 }

// merge returns the terms after the edit.
func (t *terms) merge(e Edit) (*terms, error) {
	next := &terms{authorities: map[kra.Anchor]kindSet{}, levels: t.levels,
		services: replace(t.services, e.Services, e.Put.Services), recipients: replace(t.recipients, e.Tagged, e.Put.Tagged)}
	maps.Copy(next.authorities, t.authorities)
	for _, a := range e.Authorities {
		delete(next.authorities, a)
	}
	for _, a := range e.Put.Authorities {
		may, err := a.may()
		if err != nil {
			return nil, err
		}
		next.authorities[a.Alias] = may
	}
	for a, may := range next.authorities {
		if may.has(Clearance) {
			next.clearers = append(next.clearers, a)
		}
	}
	slices.Sort(next.clearers)
	if len(e.Put.Levels) > 0 {
		next.levels = slices.Clone(e.Put.Levels)
	}
	if err := next.check(e.Put); err != nil {
		return nil, err
	}
	return next, next.tag()
}

// replace returns a sorted list without some of it and with some more.
func replace(now, gone, put []string) []string {
	next := slices.Concat(slices.DeleteFunc(slices.Clone(now), func(s string) bool { return slices.Contains(gone, s) }), put)
	slices.Sort(next)
	return slices.Compact(next)
}

// tag makes what tags are matched against.
func (t *terms) tag() error {
	if len(t.recipients) > block.MaxTagged {
		return fmt.Errorf("%d tagged keys, at most %d are allowed: each stanza of stock age is tried against all of them", len(t.recipients), block.MaxTagged)
	}
	t.tagged = make([]block.Tagged, len(t.recipients))
	for i, r := range t.recipients {
		pub, err := block.ParseAgeRecipient(r)
		if err != nil {
			return err
		}
		if t.tagged[i], err = block.NewTagged(pub); err != nil {
			return err
		}
	}
	return nil
}

func (t *terms) check(put Definition) error {
	for _, s := range put.Services {
		if _, err := ParseService(s); err != nil {
			return err
		}
	}
	if a, twice := repeated(put.Authorities, AuthorityDef.name); twice {
		return fmt.Errorf("authority %s is defined twice", a)
	}
	if s, twice := repeated(put.Services, itself[string]); twice {
		return fmt.Errorf("service %s is defined twice", s)
	}
	if l, twice := repeated(t.levels, itself[string]); twice {
		return fmt.Errorf("level %s is defined twice", l)
	}
	for _, l := range t.levels {
		if !isWord(l) {
			return fmt.Errorf("level %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(l), kra.MaxID)
		}
	}
	if len(t.authorities) > MaxAuthorities || len(t.services) > MaxServices || len(t.levels) > MaxLevels {
		return fmt.Errorf("%d authorities, %d services, %d levels; at most %d, %d, %d are allowed",
			len(t.authorities), len(t.services), len(t.levels), MaxAuthorities, MaxServices, MaxLevels)
	}
	return nil
}

func (d AuthorityDef) may() (s kindSet, err error) {
	if _, err := kra.ParseAnchor(string(d.Alias)); err != nil {
		return 0, err
	}
	for _, k := range d.May {
		if k.String() == "" || s.has(k) {
			return 0, fmt.Errorf("authority %s may assert something unknown, or the same twice", d.Alias)
		}
		s |= 1 << k
	}
	return s, nil
}

// A use is a name that a rule, role or list uses. What uses it is as good as long as the definition knows the name.
type use struct {
	what what
	name string
	kind Kind // for an authority: what it has to be allowed to assert
}

type what uint8

const (
	useGroup what = iota + 1
	useRole
	useRule
	useService
	useLevel
	useAuthority
	useClearers // there is an authority that may assert clearances
)

var whats = []string{useGroup: "group", useRole: "role", useRule: "rule"}

// must complains about a name that is not there.
func (u use) must(there bool) error {
	if there {
		return nil
	}
	return fmt.Errorf("unknown %s %q", nameOf(whats, int(u.what)), clip(u.name))
}

// knowing answers for a definition: nil, or why a name cannot be used.
type knowing func(use) error

var assertions = []string{Group: "groups", Role: "roles", Attribute: "attributes", Clearance: "clearances", Alias: "aliases", Device: "attributes of devices"}

// knows answers for what terms hold.
func (t *terms) knows(u use) error {
	switch u.what {
	case useService:
		if _, ok := slices.BinarySearch(t.services, u.name); !ok {
			return fmt.Errorf("unknown service %q", clip(u.name))
		}
	case useLevel:
		if !slices.Contains(t.levels, u.name) {
			return fmt.Errorf("unknown level %q", clip(u.name))
		}
	case useAuthority:
		may, ok := t.authorities[kra.Anchor(u.name)]
		if !ok {
			return fmt.Errorf("unknown authority %q", clip(u.name))
		}
		if !may.has(u.kind) {
			return fmt.Errorf("authority %q may not assert %s", clip(u.name), assertions[u.kind])
		}
	case useClearers:
		if len(t.clearers) == 0 {
			return fmt.Errorf("no authority may assert clearances")
		}
	}
	return nil
}

// stillGood reports, as nil or an error, whether all that is used is still known.
func stillGood(uses []use, known knowing) error {
	for _, u := range uses {
		if err := known(u); err != nil {
			return err
		}
	}
	return nil
}
