package policy

import (
	"cmp"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/immutable"
)

// A Book is one version of everything that decides: rules, groups, access identifiers and their keys. It does not
// change; a new version is a new Book, which shares what stayed the same. The nil Book permits nothing.
type Book struct {
	version uint64
	tools   *tools
	rules   immutable.Map[RuleName, *rule]
	groups  immutable.Map[GroupName, *group]
	members int // of all groups
	access  immutable.Map[AccessID, *entry]
	byKey   immutable.Map[block.KeyID, []*entry] // each in the order of IDs
	lists   immutable.Map[listKey, sharedList]   // many access identifiers have the same
	roles   immutable.Map[RoleName, *role]
	refs    immutable.Map[block.Ref, block.KeyID] // other names of keys
	terms   *terms
}

// A sharedList is a rule list and how often access identifiers have it.
type sharedList struct {
	*list
	uses int
}

// knows says which names there are.
func (b *Book) knows(u use) error { return b.draft(b).knows(u) }

// An entry is an access identifier with its lists compiled.
type entry struct {
	def   AccessDef
	lists []*list
}

// uses returns how many names the lists use at most.
func (x *entry) uses() (n int) {
	for _, l := range x.lists {
		n += len(l.uses)
	}
	return n
}

// order returns the entries by ID.
func (b *Book) order() []*entry {
	all := make([]*entry, 0, b.access.Len())
	for _, e := range b.access.All() {
		all = append(all, e)
	}
	slices.SortFunc(all, byID)
	return all
}

func byID(x, y *entry) int { return cmp.Compare(x.def.ID, y.def.ID) }

// Version returns the number that Compile was given.
func (b *Book) Version() uint64 { return b.version }

// AccessOf returns the access identifiers that the key is stored under, sorted.
func (b *Book) AccessOf(id block.KeyID) []AccessID {
	if b == nil {
		return nil
	}
	under := b.byKey.At(id)
	ids := make([]AccessID, 0, len(under))
	for _, e := range under {
		ids = append(ids, e.def.ID)
	}
	return ids
}

// Access returns one access identifier.
func (b *Book) Access(id AccessID) (AccessDef, bool) {
	if b == nil || b.access.At(id) == nil {
		return AccessDef{}, false
	}
	return b.access.At(id).def.clone(), true
}

// AllAccess returns every access identifier, sorted.
func (b *Book) AllAccess() []AccessDef {
	if b == nil {
		return nil
	}
	defs := make([]AccessDef, b.access.Len())
	for i, e := range b.order() {
		defs[i] = e.def.clone()
	}
	return defs
}

// UsedBy returns the access identifiers whose lists name the rule, sorted.
func (b *Book) UsedBy(name RuleName) []AccessID {
	if b == nil {
		return nil
	}
	var ids []AccessID
	for _, e := range b.order() {
		if slices.ContainsFunc(e.lists, func(l *list) bool { return l.names(name) }) {
			ids = append(ids, e.def.ID)
		}
	}
	return ids
}

func (d AccessDef) clone() AccessDef {
	d.Keys, d.Lists = slices.Clone(d.Keys), slices.Clone(d.Lists)
	return d
}
