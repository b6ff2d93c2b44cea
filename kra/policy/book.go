package policy

import (
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// A Book is one version of everything that decides: rules, groups, access identifiers and their keys. It does not
// change; a new version is a new Book, which shares what stayed the same. The nil Book permits nothing.
type Book struct {
	version uint64
	tools   *tools
	rules   map[RuleName]*rule
	groups  map[GroupName]*group
	access  map[AccessID]*entry
	order   []*entry                 // by ID
	byKey   map[block.KeyID][]*entry // each in the order of order
	lists   map[string]*list         // by text; many access identifiers have the same
}

// A group is who is in it.
type group struct {
	def     GroupDef
	members map[kra.Decryptor]struct{}
}

func (g *group) has(d kra.Decryptor) bool {
	if g == nil || !d.Valid() {
		return false
	}
	_, ok := g.members[d]
	return ok
}

// An entry is an access identifier with its lists compiled.
type entry struct {
	def   AccessDef
	lists []*list
}

// Version returns the number that Compile was given.
func (b *Book) Version() uint64 { return b.version }

// AccessOf returns the access identifiers that the key is stored under, sorted.
func (b *Book) AccessOf(id block.KeyID) []AccessID {
	if b == nil {
		return nil
	}
	ids := make([]AccessID, 0, len(b.byKey[id]))
	for _, e := range b.byKey[id] {
		ids = append(ids, e.def.ID)
	}
	return ids
}

// Access returns one access identifier.
func (b *Book) Access(id AccessID) (AccessDef, bool) {
	if b == nil || b.access[id] == nil {
		return AccessDef{}, false
	}
	return b.access[id].def.clone(), true
}

// AllAccess returns every access identifier, sorted.
func (b *Book) AllAccess() []AccessDef {
	if b == nil {
		return nil
	}
	defs := make([]AccessDef, len(b.order))
	for i, e := range b.order {
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
	for _, e := range b.order {
		if slices.ContainsFunc(e.lists, func(l *list) bool { return slices.Contains(l.names, name) }) {
			ids = append(ids, e.def.ID)
		}
	}
	return ids
}

func (d AccessDef) clone() AccessDef {
	d.Keys, d.Lists = slices.Clone(d.Keys), slices.Clone(d.Lists)
	return d
}

func (d AccessDef) equal(o AccessDef) bool {
	return d.ID == o.ID && d.Title == o.Title && slices.Equal(d.Keys, o.Keys) && slices.Equal(d.Lists, o.Lists)
}
