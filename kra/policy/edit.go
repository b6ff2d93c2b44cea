package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// An Edit is what one version of a definition has other than the one before. Nothing is both put and removed. The edits
// from the empty definition on rebuild every version.
type Edit struct {
	Put         Definition   `json:"put,omitzero"`     // new or changed; levels, if any, are all of them
	Groups      []GroupEdit  `json:"groups,omitempty"` // of groups that were there and stay
	Gone        []GroupName  `json:"gone,omitempty"`   // groups to remove
	Rules       []RuleName   `json:"rules,omitempty"`  // to remove, as below
	Access      []AccessID   `json:"access,omitempty"`
	Roles       []RoleName   `json:"roles,omitempty"`
	Authorities []kra.Anchor `json:"authorities,omitempty"`
	Services    []string     `json:"services,omitempty"`
	Aliases     []block.Ref  `json:"aliases,omitempty"`
	Tagged      []string     `json:"tagged,omitempty"`
}

// A GroupEdit is who joins and who leaves a group, and all groups that are directly within it afterwards.
type GroupEdit struct {
	Name   GroupName   `json:"name"`
	In     []string    `json:"in,omitempty"`
	Out    []string    `json:"out,omitempty"`
	Groups []GroupName `json:"groups,omitempty"`
}

// MaxEdit is how long an edit's text may be that ParseEdit reads.
const MaxEdit = 1 << 30

var errEditForm = errors.New("parse edit: not in its one form")

// IsZero reports whether the edit changes nothing.
func (e Edit) IsZero() bool {
	return e.Put.empty() && len(e.Groups)+len(e.Gone)+len(e.Rules)+len(e.Access)+len(e.Roles)+len(e.Authorities)+
		len(e.Services)+len(e.Aliases)+len(e.Tagged) == 0
}

func (d Definition) empty() bool {
	return len(d.Rules)+len(d.Access)+len(d.Groups)+len(d.Roles)+len(d.Authorities)+len(d.Services)+len(d.Levels)+
		len(d.Aliases)+len(d.Tagged) == 0
}

// IsZero is empty, for encoding/json.
func (d Definition) IsZero() bool { return d.empty() }

// AppendJSON appends the edit as one JSON object without white space, its fields always in the same order.
func (e Edit) AppendJSON(b []byte) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return b, fmt.Errorf("encode edit: %w", err)
	}
	return append(b, text...), nil
}

// ParseEdit reads what AppendJSON wrote, and no other text.
func ParseEdit(b []byte) (Edit, error) {
	var e Edit
	if len(b) > MaxEdit {
		return Edit{}, fmt.Errorf("parse edit: longer than %d bytes", MaxEdit)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return Edit{}, fmt.Errorf("parse edit: %w", err)
	}
	if again, err := e.AppendJSON(nil); err != nil || !bytes.Equal(again, b) {
		return Edit{}, errEditForm
	}
	return e, nil
}

// Diff returns what turns one definition into another. Both may be in any order; names must not repeat.
func Diff(prev, next Definition) (e Edit) {
	e.Put.Rules, e.Rules = differ(prev.Rules, next.Rules, RuleDef.name, func(x, y RuleDef) bool { return x == y })
	e.Put.Access, e.Access = differ(prev.Access, next.Access, AccessDef.name, AccessDef.equal)
	e.Put.Roles, e.Roles = differ(prev.Roles, next.Roles, RoleDef.name, RoleDef.equal)
	e.Put.Authorities, e.Authorities = differ(prev.Authorities, next.Authorities, AuthorityDef.name, AuthorityDef.equal)
	e.Put.Services, e.Services = differ(prev.Services, next.Services, itself[string], func(x, y string) bool { return x == y })
	e.Put.Aliases, e.Aliases = differ(prev.Aliases, next.Aliases, KeyAlias.name, func(x, y KeyAlias) bool { return x == y })
	e.Put.Tagged, e.Tagged = differ(prev.Tagged, next.Tagged, itself[string], func(x, y string) bool { return x == y })
	if !slices.Equal(prev.levels(), next.levels()) {
		e.Put.Levels = next.levels()
	}
	changed, gone := differ(prev.Groups, next.Groups, GroupDef.name, GroupDef.equal)
	e.Gone = gone
	old := index(prev.Groups, GroupDef.name)
	for _, g := range changed {
		if was, ok := old[g.Name]; ok {
			e.Groups = append(e.Groups, groupEdit(was, g))
		} else {
			e.Put.Groups = append(e.Put.Groups, g)
		}
	}
	return e
}

func groupEdit(was, is GroupDef) GroupEdit {
	in, out := differ(was.Members, is.Members, itself[string], func(x, y string) bool { return x == y })
	return GroupEdit{is.Name, in, out, slices.Clone(is.Groups)}
}

// Apply returns the definition after the edit, each part sorted by name. The definition stays as it is. It refuses what
// does not fit: to remove what is not there, to edit a group that is not there.
func (d Definition) Apply(e Edit) (next Definition, err error) {
	keep := func(failed error) { err = cmp.Or(err, failed) }
	next.Rules = apply(keep, "rule", d.Rules, e.Put.Rules, e.Rules, RuleDef.name)
	next.Access = apply(keep, "access identifier", d.Access, e.Put.Access, e.Access, AccessDef.name)
	next.Roles = apply(keep, "role", d.Roles, e.Put.Roles, e.Roles, RoleDef.name)
	next.Authorities = apply(keep, "authority", d.Authorities, e.Put.Authorities, e.Authorities, AuthorityDef.name)
	next.Services = apply(keep, "service", d.Services, e.Put.Services, e.Services, itself[string])
	next.Aliases = apply(keep, "alias", d.Aliases, e.Put.Aliases, e.Aliases, KeyAlias.name)
	next.Tagged = apply(keep, "tagged key", d.Tagged, e.Put.Tagged, e.Tagged, itself[string])
	next.Levels = slices.Clone(d.Levels)
	if len(e.Put.Levels) > 0 {
		next.Levels = slices.Clone(e.Put.Levels)
	}
	if slices.Equal(next.Levels, DefaultLevels()) {
		next.Levels = nil
	}
	put, old := slices.Clone(e.Put.Groups), index(d.Groups, GroupDef.name)
	for _, g := range e.Groups {
		was, ok := old[g.Name]
		if !ok {
			keep(fmt.Errorf("group %s is not there", g.Name))
			continue
		}
		members := apply(keep, "member of "+string(g.Name), was.Members, g.In, g.Out, itself[string])
		put = append(put, GroupDef{g.Name, members, slices.Clone(g.Groups)})
	}
	next.Groups = apply(keep, "group", d.Groups, put, e.Gone, GroupDef.name)
	if err != nil {
		return Definition{}, fmt.Errorf("apply edit: %w", err)
	}
	return next, nil
}

// differ returns what is new or changed, and the names of what is gone, both sorted by name.
func differ[D any, N comparable](prev, next []D, name func(D) N, equal func(D, D) bool) (put []D, gone []N) {
	old := index(prev, name)
	for _, d := range next {
		if was, ok := old[name(d)]; !ok || !equal(was, d) {
			put = append(put, d)
		}
		delete(old, name(d))
	}
	byName(put, name)
	gone = slices.Collect(maps.Keys(old))
	byName(gone, itself[N])
	return put, gone
}

func apply[D any, N comparable](keep func(error), what string, now, put []D, gone []N, name func(D) N) []D {
	all := index(now, name)
	for _, n := range gone {
		if _, ok := all[n]; !ok {
			keep(fmt.Errorf("%s %v is not there", what, n))
		}
		delete(all, n)
	}
	for _, d := range put {
		all[name(d)] = d
	}
	next := slices.Collect(maps.Values(all))
	byName(next, name)
	return next
}

func index[D any, N comparable](defs []D, name func(D) N) map[N]D {
	all := make(map[N]D, len(defs))
	for _, d := range defs {
		all[name(d)] = d
	}
	return all
}

// byName sorts by the text of the names.
func byName[D any, N comparable](defs []D, name func(D) N) {
	slices.SortFunc(defs, func(x, y D) int { return cmp.Compare(textOf(name(x)), textOf(name(y))) })
}

func textOf(name any) string {
	switch n := name.(type) {
	case string:
		return n
	case RuleName:
		return string(n)
	case AccessID:
		return string(n)
	case GroupName:
		return string(n)
	case RoleName:
		return string(n)
	case kra.Anchor:
		return string(n)
	}
	return fmt.Sprint(name)
}

func itself[T any](x T) T { return x }

func (d RuleDef) name() RuleName        { return d.Name }
func (d AccessDef) name() AccessID      { return d.ID }
func (d GroupDef) name() GroupName      { return d.Name }
func (d RoleDef) name() RoleName        { return d.Name }
func (d AuthorityDef) name() kra.Anchor { return d.Alias }
func (a KeyAlias) name() block.Ref      { return a.Ref }

func (d AccessDef) equal(o AccessDef) bool {
	return d.ID == o.ID && d.Title == o.Title && d.Logic == o.Logic && d.Delivery == o.Delivery && d.Portion == o.Portion &&
		slices.Equal(d.Keys, o.Keys) && slices.Equal(d.Lists, o.Lists)
}

func (d GroupDef) equal(o GroupDef) bool {
	return d.Name == o.Name && slices.Equal(d.Members, o.Members) && slices.Equal(d.Groups, o.Groups)
}

func (d RoleDef) equal(o RoleDef) bool { return d.Name == o.Name && slices.Equal(d.Needs, o.Needs) }

func (d AuthorityDef) equal(o AuthorityDef) bool {
	return d.Alias == o.Alias && slices.Equal(d.May, o.May)
}

func (d Definition) levels() []string {
	if len(d.Levels) == 0 {
		return DefaultLevels()
	}
	return d.Levels
}
