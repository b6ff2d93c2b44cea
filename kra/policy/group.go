package policy

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/immutable"
)

// A group is who is in it, and the groups that are within it, directly or not.
type group struct {
	def    GroupDef // its members are those of the crowd
	crowd  crowd
	within []GroupName // sorted
}

// inGroup reports whether the decryptor of that identifier is in the group or in one within it.
func (b *Book) inGroup(name GroupName, id string) bool {
	g := b.groups.At(name)
	if g == nil || id == "" {
		return false
	}
	if g.crowd.has(id) {
		return true
	}
	for _, n := range g.within {
		if in := b.groups.At(n); in != nil && in.crowd.has(id) {
			return true
		}
	}
	return false
}

func (g *group) size() int {
	if g == nil {
		return 0
	}
	return len(g.def.Members)
}

// A crowd finds identifiers in a list of them: a hash table of their places, open addressing, at most half full. It costs
// 8 to 16 bytes an identifier beside the list.
type crowd struct {
	ids   []string
	table []uint32 // place in ids, from 1; 0 is free
}

var crowdSeed = maphash.MakeSeed() // for this process only: nobody can choose identifiers that collide

func newCrowd(ids []string) (crowd, string) {
	size := 4
	for size < 2*len(ids) {
		size *= 2
	}
	c := crowd{ids, make([]uint32, size)}
	for i, id := range ids {
		at, there := c.find(id)
		if there {
			return crowd{}, id
		}
		c.table[at] = uint32(i + 1)
	}
	return c, ""
}

func (c crowd) find(id string) (at int, there bool) {
	mask := len(c.table) - 1
	for at = int(maphash.String(crowdSeed, id)) & mask; c.table[at] != 0; at = (at + 1) & mask {
		if c.ids[c.table[at]-1] == id {
			return at, true
		}
	}
	return at, false
}

func (c crowd) has(id string) bool {
	if len(c.table) == 0 {
		return false
	}
	_, there := c.find(id)
	return there
}

// newGroup makes a group. Whoever trusted says is a decryptor's identifier needs no check.
func newGroup(def GroupDef, trusted func(string) bool) (*group, error) {
	if _, err := ParseGroupName(string(def.Name)); err != nil {
		return nil, err
	}
	g := &group{def: GroupDef{def.Name, slices.Clone(def.Members), slices.Clone(def.Groups)}}
	for _, m := range g.def.Members {
		if trusted(m) {
			continue
		}
		if _, err := kra.ParseDecryptor(m); err != nil {
			return nil, fmt.Errorf("group %s: %w", def.Name, err)
		}
	}
	var twice string
	if g.crowd, twice = newCrowd(g.def.Members); twice != "" {
		return nil, fmt.Errorf("group %s: %s is a member twice", def.Name, twice)
	}
	if name, twice := repeated(def.Groups, func(n GroupName) GroupName { return n }); twice {
		return nil, fmt.Errorf("group %s: %s is within it twice", def.Name, name)
	}
	return g, nil
}

// A nester finds out which groups are within which.
type nester struct {
	groups *immutable.Draft[GroupName, *group]
	done   map[GroupName][]GroupName
	path   []GroupName
}

// nest sets what is within each group.
func nest(groups *immutable.Draft[GroupName, *group]) error {
	n := &nester{groups: groups, done: map[GroupName][]GroupName{}}
	var names []GroupName
	for name, g := range groups.All() {
		if len(g.def.Groups) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that one mistake has one message
	for _, name := range names {
		if _, err := n.within(name); err != nil {
			return err
		}
	}
	var changed []*group
	for name, g := range groups.All() {
		if !slices.Equal(n.done[name], g.within) {
			changed = append(changed, &group{g.def, g.crowd, n.done[name]})
		}
	}
	for _, g := range changed {
		groups.Put(g.def.Name, g)
	}
	return nil
}

func (n *nester) within(name GroupName) ([]GroupName, error) {
	if all, ok := n.done[name]; ok {
		return all, nil
	}
	g := n.groups.At(name)
	if i := slices.Index(n.path, name); i >= 0 {
		return nil, fmt.Errorf("groups contain each other: %s", arrows(append(n.path[i:], name)))
	}
	if g == nil {
		return nil, fmt.Errorf("group %s: unknown group %q", n.path[len(n.path)-1], clip(string(name)))
	}
	n.path = append(n.path, name)
	defer func() { n.path = n.path[:len(n.path)-1] }()
	var all []GroupName
	for _, in := range g.def.Groups {
		more, err := n.within(in)
		if err != nil {
			return nil, err
		}
		all = append(append(all, in), more...)
		slices.Sort(all)
		if all = slices.Compact(all); len(all) > MaxNested {
			return nil, fmt.Errorf("group %s: more than %d groups are within it", name, MaxNested)
		}
	}
	n.done[name] = all
	return all, nil
}

// arrows shows a way from group to group.
func arrows(path []GroupName) string {
	text := make([]string, len(path))
	for i, n := range path {
		text[i] = string(n)
	}
	if len(text) > 8 {
		text = slices.Concat(text[:4], []string{"..."}, text[len(text)-3:])
	}
	return strings.Join(text, " > ")
}
