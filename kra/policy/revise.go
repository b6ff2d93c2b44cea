package policy

import (
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/immutable"
	"github.com/keyrelease/krabox/kra/side"
)

// A reviser is a book in the making.
type reviser struct {
	tools   *tools
	later   bool  // the definition was compiled before: rules are compiled when they are asked, members are not checked
	prev    *Book // has compiled parts that can be taken over
	members int
	rules   *immutable.Draft[RuleName, *rule]
	groups  *immutable.Draft[GroupName, *group]
	access  *immutable.Draft[AccessID, *entry]
	byKey   *immutable.Draft[block.KeyID, []*entry]
	lists   *immutable.Draft[listKey, sharedList]
	roles   *immutable.Draft[RoleName, *role]
	refs    *immutable.Draft[block.Ref, block.KeyID]
	terms   *terms
}

// knows says which names there are.
func (n *reviser) knows(u use) error {
	switch u.what {
	case useGroup:
		return u.must(n.groups.At(GroupName(u.name)) != nil)
	case useRole:
		return u.must(n.roles.At(RoleName(u.name)) != nil)
	case useRule:
		return u.must(n.rules.At(RuleName(u.name)) != nil)
	}
	return n.terms.knows(u)
}

func (n *reviser) reviseTerms(e Edit) (err error) {
	if len(e.Put.Authorities)+len(e.Put.Services)+len(e.Put.Levels)+len(e.Put.Tagged)+len(e.Authorities)+len(e.Services)+len(e.Tagged) > 0 {
		n.terms, err = n.terms.merge(e)
	}
	return err
}

// loses reports whether a name that is used may be gone after the edit.
func (e Edit) loses() bool {
	return len(e.Gone)+len(e.Roles)+len(e.Put.Authorities)+len(e.Authorities)+len(e.Services)+len(e.Put.Levels) > 0
}

func (n *reviser) reviseGroups(e Edit) error {
	if name, twice := repeated(e.Put.Groups, GroupDef.name); twice {
		return fmt.Errorf("group %s is defined twice", name)
	}
	nested := len(e.Gone) > 0
	for _, name := range e.Gone {
		n.members -= n.groups.At(name).size()
		n.groups.Delete(name)
	}
	put, err := n.groupEdits(e)
	if err != nil {
		return err
	}
	for _, def := range put {
		was := n.groups.At(def.Name)
		nested = nested || len(def.Groups) > 0 || was != nil && len(was.def.Groups) > 0
		n.members += len(def.Members) - was.size()
		if n.members > MaxMembership {
			return fmt.Errorf("groups have more than %d members together", MaxMembership)
		}
		g := n.prev.groups.At(def.Name)
		if g == nil || !g.def.equal(def) {
			was := g
			trusted := func(id string) bool { return n.later || was != nil && was.crowd.has(id) }
			if g, err = newGroup(def, trusted); err != nil {
				return err
			}
		}
		n.groups.Put(def.Name, g)
	}
	if !nested {
		return nil
	}
	return nest(n.groups)
}

// groupEdits returns the groups to put, those that are edited among them.
func (n *reviser) groupEdits(e Edit) ([]GroupDef, error) {
	if len(e.Groups) == 0 {
		return e.Put.Groups, nil
	}
	var was Definition
	for _, g := range e.Groups {
		if have := n.groups.At(g.Name); have != nil {
			was.Groups = append(was.Groups, have.def)
		}
	}
	is, err := was.Apply(Edit{Groups: e.Groups})
	return slices.Concat(e.Put.Groups, is.Groups), err
}

func (n *reviser) reviseRoles(e Edit) error {
	if name, twice := repeated(e.Put.Roles, RoleDef.name); twice {
		return fmt.Errorf("role %s is defined twice", name)
	}
	for _, name := range e.Roles {
		n.roles.Delete(name)
	}
	for _, def := range e.Put.Roles {
		r, err := newRole(def, n.knows)
		if err != nil {
			return err
		}
		n.roles.Put(def.Name, r)
	}
	if !e.loses() {
		return nil
	}
	for name, r := range n.roles.All() {
		if err := stillGood(r.uses, n.knows); err != nil {
			return fmt.Errorf("role %s: %w", name, err)
		}
	}
	return nil
}

func (n *reviser) reviseRules(e Edit) error {
	if name, twice := repeated(e.Put.Rules, RuleDef.name); twice {
		return fmt.Errorf("rule %s is defined twice", name)
	}
	for _, name := range e.Rules {
		n.rules.Delete(name)
	}
	for _, def := range e.Put.Rules {
		if err := n.putRule(def); err != nil {
			return err
		}
	}
	if n.later || !e.loses() {
		return nil
	}
	for name, x := range n.rules.All() {
		if err := x.stillGood(n.tools.vocabulary, n.knows); err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
	}
	return nil
}

func (n *reviser) putRule(def RuleDef) error {
	if _, err := ParseRuleName(string(def.Name)); err != nil {
		return err
	}
	x := n.prev.rules.At(def.Name)
	if x == nil || x.text != def.Expr || x.stillGood(n.tools.vocabulary, n.knows) != nil {
		x = &rule{name: def.Name, text: def.Expr}
	}
	n.rules.Put(def.Name, x)
	if n.later {
		return nil
	}
	_, err := x.compile(n.tools.vocabulary, n.knows)
	return err
}

// reviseKeys revises what names keys and what they are under, side by side: a large book is little else.
func (n *reviser) reviseKeys(e Edit) error {
	both := []func(Edit) error{n.reviseAccess, n.reviseRefs}
	return side.Run(len(both), func(i int) error { return both[i](e) })
}

func (n *reviser) reviseAccess(e Edit) error {
	if id, twice := repeated(e.Put.Access, AccessDef.name); twice {
		return fmt.Errorf("access identifier %s is defined twice", id)
	}
	for _, id := range e.Access {
		n.unlink(id)
	}
	for _, def := range e.Put.Access {
		n.unlink(def.ID)
		if err := n.link(def); err != nil {
			return err
		}
	}
	if len(e.Rules) == 0 && !e.loses() {
		return nil
	}
	for id, x := range n.access.All() {
		for i, l := range x.lists {
			if err := stillGood(l.uses, n.knows); err != nil {
				return fmt.Errorf("access %s, list %d: %w", id, i+1, err)
			}
		}
	}
	return nil
}

// reviseRefs changes the names of keys that are not their ids.
func (n *reviser) reviseRefs(e Edit) error {
	if r, twice := repeated(e.Put.Aliases, KeyAlias.name); twice {
		return fmt.Errorf("alias %s is defined twice", r)
	}
	for _, r := range e.Aliases {
		n.refs.Delete(r)
	}
	for _, a := range e.Put.Aliases {
		if k := a.Ref.Kind(); a.Key.IsZero() || k == 0 || k == block.RefKeyID || k == block.RefTag {
			return fmt.Errorf("alias %s of key %s: want the key and a name that is neither its id nor a tag", a.Ref, a.Key)
		}
		n.refs.Put(a.Ref, a.Key)
	}
	return nil
}

// unlink forgets an access identifier, if it is there.
func (n *reviser) unlink(id AccessID) {
	e := n.access.At(id)
	if e == nil {
		return
	}
	n.access.Delete(id)
	for _, k := range e.def.Keys {
		under := slices.DeleteFunc(slices.Clone(n.byKey.At(k)), func(x *entry) bool { return x == e })
		if n.byKey.Put(k, under); len(under) == 0 {
			n.byKey.Delete(k)
		}
	}
	for _, l := range e.lists {
		s := n.lists.At(l.listKey)
		if s.uses--; s.uses == 0 {
			n.lists.Delete(l.listKey)
		} else {
			n.lists.Put(l.listKey, s)
		}
	}
}

// link makes the entry of an access identifier that has none.
func (n *reviser) link(def AccessDef) error {
	if err := def.check(); err != nil {
		return err
	}
	e := &entry{def: def.clone(), lists: make([]*list, len(def.Lists))}
	for i, text := range e.def.Lists {
		l, err := n.list(def, i, text)
		if err != nil {
			return err
		}
		e.lists[i] = l
		n.lists.Put(l.listKey, sharedList{l, n.lists.At(l.listKey).uses + 1})
	}
	n.access.Put(def.ID, e)
	for _, k := range e.def.Keys {
		under := append(slices.Clone(n.byKey.At(k)), e)
		if len(under) > MaxShared {
			return fmt.Errorf("key %s is stored under more than %d access identifiers", k, MaxShared)
		}
		slices.SortFunc(under, byID)
		n.byKey.Put(k, under)
	}
	return nil
}

// list returns a rule list that another access identifier has, or had, or else compiles it.
func (n *reviser) list(def AccessDef, i int, text string) (*list, error) {
	key := listKey{def.Logic, text}
	for _, l := range []*list{n.lists.At(key).list, n.prev.lists.At(key).list} {
		if l != nil && stillGood(l.uses, n.knows) == nil {
			return l, nil
		}
	}
	with, err := n.tools.engine(def.Logic)
	if err != nil {
		return nil, fmt.Errorf("access %s: %w", def.ID, err)
	}
	return with.compile(fmt.Sprintf("access %s, list %d", def.ID, i+1), text, n.knows)
}

func (n *reviser) limits(Edit) error {
	if n.rules.Len() > MaxRules || n.access.Len() > MaxAccess || n.groups.Len() > MaxGroups {
		return fmt.Errorf("%d rules, %d access identifiers, %d groups; at most %d, %d, %d are allowed",
			n.rules.Len(), n.access.Len(), n.groups.Len(), MaxRules, MaxAccess, MaxGroups)
	}
	if n.roles.Len() > MaxRoles || n.refs.Len() > MaxAliases {
		return fmt.Errorf("%d roles, %d aliases; at most %d, %d are allowed", n.roles.Len(), n.refs.Len(), MaxRoles, MaxAliases)
	}
	return nil
}
