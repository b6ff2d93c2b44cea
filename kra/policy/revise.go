package policy

import (
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/immutable"
)

// A reviser is a book in the making.
type reviser struct {
	tools   *tools
	prev    *Book // has compiled parts that can be taken over
	members int
	rules   *immutable.Draft[RuleName, *rule]
	groups  *immutable.Draft[GroupName, *group]
	access  *immutable.Draft[AccessID, *entry]
	byKey   *immutable.Draft[block.KeyID, []*entry]
	lists   *immutable.Draft[string, sharedList]
}

func (n *reviser) isGroup(g GroupName) bool { return n.groups.At(g) != nil }
func (n *reviser) isRule(r RuleName) bool   { return n.rules.At(r) != nil }

func (n *reviser) reviseGroups(r Revision) error {
	if name, twice := repeated(r.Put.Groups, func(d GroupDef) GroupName { return d.Name }); twice {
		return fmt.Errorf("group %s is defined twice", name)
	}
	for _, name := range r.Groups {
		n.members -= n.groups.At(name).size()
		n.groups.Delete(name)
	}
	for _, def := range r.Put.Groups {
		n.members += len(def.Members) - n.groups.At(def.Name).size()
		if g := n.prev.groups.At(def.Name); g != nil && g.def.equal(def) {
			n.groups.Put(def.Name, g)
			continue
		}
		g, err := newGroup(def)
		if err != nil {
			return err
		}
		n.groups.Put(def.Name, g)
	}
	return nil
}

func (n *reviser) reviseRules(r Revision) error {
	if name, twice := repeated(r.Put.Rules, func(d RuleDef) RuleName { return d.Name }); twice {
		return fmt.Errorf("rule %s is defined twice", name)
	}
	for _, name := range r.Rules {
		n.rules.Delete(name)
	}
	for _, def := range r.Put.Rules {
		if err := n.putRule(def); err != nil {
			return err
		}
	}
	if len(r.Groups) == 0 {
		return nil
	}
	for name, x := range n.rules.All() {
		if !x.stillGood(n.isGroup) {
			return fmt.Errorf("rule %s names a group that is gone", name)
		}
	}
	return nil
}

func (n *reviser) putRule(def RuleDef) error {
	if _, err := ParseRuleName(string(def.Name)); err != nil {
		return err
	}
	x := n.prev.rules.At(def.Name)
	if x == nil || x.text != def.Expr || !x.stillGood(n.isGroup) {
		var err error
		if x, err = compileRule(n.tools.vocabulary, def, n.isGroup); err != nil {
			return err
		}
	}
	n.rules.Put(def.Name, x)
	return nil
}

func (n *reviser) reviseAccess(r Revision) error {
	if id, twice := repeated(r.Put.Access, func(d AccessDef) AccessID { return d.ID }); twice {
		return fmt.Errorf("access identifier %s is defined twice", id)
	}
	for _, id := range r.Access {
		n.unlink(id)
	}
	for _, def := range r.Put.Access {
		n.unlink(def.ID)
		if err := n.link(def); err != nil {
			return err
		}
	}
	if len(r.Rules) == 0 {
		return nil
	}
	for id, e := range n.access.All() {
		for i, l := range e.lists {
			if !l.knows(n.isRule) {
				return fmt.Errorf("access %s, list %d names a rule that is gone", id, i+1)
			}
		}
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
		s := n.lists.At(l.text)
		if s.uses--; s.uses == 0 {
			n.lists.Delete(l.text)
		} else {
			n.lists.Put(l.text, s)
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
		l, err := n.list(def.ID, i, text)
		if err != nil {
			return err
		}
		e.lists[i] = l
		n.lists.Put(text, sharedList{l, n.lists.At(text).uses + 1})
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
func (n *reviser) list(id AccessID, i int, text string) (*list, error) {
	for _, l := range []*list{n.lists.At(text).list, n.prev.lists.At(text).list} {
		if l != nil && l.knows(n.isRule) {
			return l, nil
		}
	}
	return compileList(n.tools.grammar, fmt.Sprintf("access %s, list %d", id, i+1), text, n.isRule)
}

func (n *reviser) limits(Revision) error {
	if n.members > MaxMembership {
		return fmt.Errorf("groups have more than %d members together", MaxMembership)
	}
	if n.rules.Len() > MaxRules || n.access.Len() > MaxAccess || n.groups.Len() > MaxGroups {
		return fmt.Errorf("%d rules, %d access identifiers, %d groups; at most %d, %d, %d are allowed",
			n.rules.Len(), n.access.Len(), n.groups.Len(), MaxRules, MaxAccess, MaxGroups)
	}
	return nil
}
