package store

import (
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// Limits of groups; package policy has its own, and the narrower ones hold.
const (
	MaxMembers     = 50_000
	MaxNested      = 256 // groups directly within a group
	MaxMaintainers = 64  // decryptors who may change one group
	MaxGroupEdit   = kra.MaxGroupEdit
	maxMember      = 1024 // bytes
)

// putGroup keeps a changed group and counts the change.
func (s *State) putGroup(g Group) {
	g.Version++
	s.groups.put(g.Name, g)
}

// changeGroup lets f change a copy of a group. f copies what it changes of it.
func (s *State) changeGroup(name string, f func(*Group) error) error {
	g, ok := s.groups.get(name)
	if !ok {
		return invalid("there is no group %.80q", name)
	}
	if err := f(&g); err != nil {
		return err
	}
	s.putGroup(g)
	return nil
}

// with returns the sorted list with one more, or nil if it is there.
func with(sorted []string, x string) []string {
	at, found := slices.BinarySearch(sorted, x)
	if found {
		return nil
	}
	return slices.Insert(slices.Clone(sorted), at, x)
}

// without returns the sorted list with one less, or nil if it is not there.
func without(sorted []string, x string) []string {
	at, found := slices.BinarySearch(sorted, x)
	if !found {
		return nil
	}
	return append([]string{}, slices.Delete(slices.Clone(sorted), at, at+1)...)
}

func checkMember(s string) error {
	if _, err := kra.ParseDecryptor(s); err != nil || len(s) > maxMember {
		return invalid("member %.80q: want ALIAS:NAME, such as corp:CN=alice,O=Example", s)
	}
	return nil
}

func (g *Group) enter(member string) error {
	if err := checkMember(member); err != nil {
		return err
	}
	if len(g.Members) >= MaxMembers {
		return invalid("group %q has %d members, which is the limit", g.Name, MaxMembers)
	}
	all := with(g.Members, member)
	if all == nil {
		return invalid("%s is in group %q already", member, g.Name)
	}
	g.Members = all
	return nil
}

func (g *Group) leave(member string) error {
	all := without(g.Members, member)
	if all == nil {
		return invalid("%.80s is not in group %q", member, g.Name)
	}
	g.Members = all
	return nil
}

// GroupAdd puts a decryptor into a group, which it makes if need be. An empty Member only makes the group.
type GroupAdd struct {
	Group  string `json:"group"`
	Member string `json:"member"`
}

func (GroupAdd) kind() string { return "group-add" }

func (c GroupAdd) apply(d *State) error {
	g, ok := d.groups.get(c.Group)
	if !ok {
		if kra.CheckName(c.Group) != nil {
			return invalid("group %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.Group, kra.MaxID)
		}
		g = Group{Name: c.Group, Members: []string{}, Groups: []string{}, Maintainers: []string{}, Version: d.retired.single().Version}
	}
	if c.Member != "" {
		if err := g.enter(c.Member); err != nil {
			return err
		}
	} else if ok {
		return invalid("group %q exists already", c.Group)
	}
	d.putGroup(g)
	return nil
}

// GroupRemove takes a decryptor out of a group, or with an empty Member removes the group, unless something names it.
type GroupRemove struct {
	Group  string `json:"group"`
	Member string `json:"member"`
}

func (GroupRemove) kind() string { return "group-remove" }

func (c GroupRemove) apply(d *State) error {
	if c.Member != "" {
		return d.changeGroup(c.Group, func(g *Group) error { return g.leave(c.Member) })
	}
	g, ok := d.groups.get(c.Group)
	if !ok {
		return invalid("there is no group %.80q", c.Group)
	}
	if users := d.usersOfGroup(c.Group); len(users) > 0 {
		return invalid("group %q is in use by %s", c.Group, joined(users))
	}
	if r := d.retired.single(); g.Version > r.Version {
		d.retired.put(only, Retired{g.Version})
	}
	d.groups.remove(c.Group)
	d.forget(ThingGroup, c.Group)
	return nil
}

// usersOfGroup names the rules, roles and groups that name the group, and the officers who maintain it, a few of them.
func (s *State) usersOfGroup(name string) (users []string) {
	for _, r := range s.rules.all() {
		if quotes(r.Expr, name) {
			users = append(users, "rule "+r.Name)
		}
	}
	for _, r := range s.roles.all() {
		if slices.ContainsFunc(r.Needs, func(n Need) bool { return n.Kind == GroupInformation && n.Name == name && n.Authority == "" }) {
			users = append(users, "role "+r.Name)
		}
	}
	for _, g := range s.groups.all() {
		if slices.Contains(g.Groups, name) {
			users = append(users, "group "+g.Name)
		}
	}
	for _, o := range s.officers.all() {
		if o.Group == name {
			users = append(users, "maintainer "+o.Name)
		}
	}
	return few(users)
}

func joined(users []string) string { return strings.Join(users, ", ") }

// GroupNest puts a whole group into another. That no group comes to lie within itself, the caller has found by compiling
// the book.
type GroupNest struct {
	Group string `json:"group"`
	In    string `json:"in"`
}

func (GroupNest) kind() string { return "group-nest" }

func (c GroupNest) apply(d *State) error {
	if !d.groups.has(c.Group) {
		return invalid("there is no group %.80q", c.Group)
	}
	return d.changeGroup(c.In, func(g *Group) error {
		if len(g.Groups) >= MaxNested {
			return invalid("group %q has %d groups within it, which is the limit", c.In, MaxNested)
		}
		all := with(g.Groups, c.Group)
		if all == nil {
			return invalid("group %q is in group %q already", c.Group, c.In)
		}
		g.Groups = all
		return nil
	})
}

// GroupUnnest takes a group out of another.
type GroupUnnest struct {
	Group string `json:"group"`
	From  string `json:"from"`
}

func (GroupUnnest) kind() string { return "group-unnest" }

func (c GroupUnnest) apply(d *State) error {
	return d.changeGroup(c.From, func(g *Group) error {
		all := without(g.Groups, c.Group)
		if all == nil {
			return invalid("group %.80q is not in group %q", c.Group, c.From)
		}
		g.Groups = all
		return nil
	})
}

// MaintainerAdd lets a decryptor change the members of a group, by signed statements.
type MaintainerAdd struct {
	Group      string `json:"group"`
	Maintainer string `json:"maintainer"`
}

func (MaintainerAdd) kind() string { return "maintainer-add" }

func (c MaintainerAdd) apply(d *State) error {
	if err := checkMember(c.Maintainer); err != nil {
		return err
	}
	return d.changeGroup(c.Group, func(g *Group) error {
		if len(g.Maintainers) >= MaxMaintainers {
			return invalid("group %q has %d maintainers, which is the limit", c.Group, MaxMaintainers)
		}
		all := with(g.Maintainers, c.Maintainer)
		if all == nil {
			return invalid("%s maintains group %q already", c.Maintainer, c.Group)
		}
		g.Maintainers = all
		return nil
	})
}

// MaintainerRemove lets a decryptor change the members of a group no longer.
type MaintainerRemove struct {
	Group      string `json:"group"`
	Maintainer string `json:"maintainer"`
}

func (MaintainerRemove) kind() string { return "maintainer-remove" }

func (c MaintainerRemove) apply(d *State) error {
	return d.changeGroup(c.Group, func(g *Group) error {
		all := without(g.Maintainers, c.Maintainer)
		if all == nil {
			return invalid("%.80s does not maintain group %q", c.Maintainer, c.Group)
		}
		g.Maintainers = all
		return nil
	})
}

// GroupEdit is what a maintainer changes of the members of a group that has the version, all or nothing. That the
// maintainer said so, the caller has verified.
type GroupEdit struct {
	Group   string   `json:"group"`
	Add     []string `json:"add"`
	Remove  []string `json:"remove"`
	Version uint64   `json:"version"`
	By      string   `json:"by"`
}

func (GroupEdit) kind() string { return "group-edit" }

func (c GroupEdit) apply(d *State) error {
	if n := len(c.Add) + len(c.Remove); n == 0 || n > MaxGroupEdit {
		return invalid("an edit of %d members; want 1 to %d", n, MaxGroupEdit)
	}
	return d.changeGroup(c.Group, func(g *Group) error {
		if _, maintains := slices.BinarySearch(g.Maintainers, c.By); !maintains {
			return invalid("%.80s does not maintain group %q", c.By, c.Group)
		}
		if g.Version != c.Version {
			return invalid("group %q has version %d, and the edit is of version %d", c.Group, g.Version, c.Version)
		}
		for _, m := range c.Remove {
			if err := g.leave(m); err != nil {
				return err
			}
		}
		for _, m := range c.Add {
			if err := g.enter(m); err != nil {
				return err
			}
		}
		return nil
	})
}
