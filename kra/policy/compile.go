package policy

import (
	"cmp"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// tools are the CEL environments. They are made once and handed from book to book.
type tools struct{ vocabulary, grammar *cel.Env }

func newTools() (*tools, error) {
	v, err := newVocabulary()
	if err != nil {
		return nil, err
	}
	g, err := newGrammar()
	if err != nil {
		return nil, err
	}
	return &tools{v, g}, nil
}

// Compile makes a book of a definition. What did not change since prev, which may be nil, is taken from there. A mistake
// in a rule or list is a *SyntaxError.
func Compile(version uint64, d Definition, prev *Book) (*Book, error) {
	if len(d.Rules) > MaxRules || len(d.Access) > MaxAccess || len(d.Groups) > MaxGroups {
		return nil, fmt.Errorf("compile book: %d rules, %d access identifiers, %d groups; at most %d, %d, %d are allowed",
			len(d.Rules), len(d.Access), len(d.Groups), MaxRules, MaxAccess, MaxGroups)
	}
	if prev == nil {
		t, err := newTools()
		if err != nil {
			return nil, err
		}
		prev = &Book{tools: t}
	}
	b := &Book{version: version, tools: prev.tools}
	for _, step := range []func(Definition, *Book) error{b.addGroups, b.addRules, b.addAccess} {
		if err := step(d, prev); err != nil {
			return nil, fmt.Errorf("compile book: %w", err)
		}
	}
	return b, nil
}

func (b *Book) addGroups(d Definition, prev *Book) error {
	b.groups = make(map[GroupName]*group, len(d.Groups))
	total := 0
	for _, def := range d.Groups {
		if total += len(def.Members); total > MaxMembership {
			return fmt.Errorf("groups have more than %d members together", MaxMembership)
		}
		if b.groups[def.Name] != nil {
			return fmt.Errorf("group %s is defined twice", def.Name)
		}
		if g := prev.groups[def.Name]; g != nil && slices.Equal(g.def.Members, def.Members) {
			b.groups[def.Name] = g
			continue
		}
		g, err := newGroup(def)
		if err != nil {
			return err
		}
		b.groups[def.Name] = g
	}
	return nil
}

func newGroup(def GroupDef) (*group, error) {
	if _, err := ParseGroupName(string(def.Name)); err != nil {
		return nil, err
	}
	g := &group{GroupDef{Name: def.Name, Members: slices.Clone(def.Members)}, make(map[kra.Decryptor]struct{}, len(def.Members))}
	for _, m := range def.Members {
		who, err := kra.ParseDecryptor(m)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", def.Name, err)
		}
		if _, ok := g.members[who]; ok {
			return nil, fmt.Errorf("group %s: %s is a member twice", def.Name, m)
		}
		g.members[who] = struct{}{}
	}
	return g, nil
}

func (b *Book) addRules(d Definition, prev *Book) error {
	b.rules = make(map[RuleName]*rule, len(d.Rules))
	known := func(g GroupName) bool { return b.groups[g] != nil }
	for _, def := range d.Rules {
		if _, err := ParseRuleName(string(def.Name)); err != nil {
			return err
		}
		if b.rules[def.Name] != nil {
			return fmt.Errorf("rule %s is defined twice", def.Name)
		}
		r := prev.rules[def.Name]
		if r == nil || r.text != def.Expr || !r.stillGood(known) {
			var err error
			if r, err = compileRule(b.tools.vocabulary, def, known); err != nil {
				return err
			}
		}
		b.rules[def.Name] = r
	}
	return nil
}

func (b *Book) addAccess(d Definition, prev *Book) error {
	b.access = make(map[AccessID]*entry, len(d.Access))
	b.byKey = make(map[block.KeyID][]*entry, len(d.Access))
	b.lists = make(map[string]*list)
	b.order = make([]*entry, 0, len(d.Access))
	for _, def := range d.Access {
		if b.access[def.ID] != nil {
			return fmt.Errorf("access identifier %s is defined twice", def.ID)
		}
		e, err := b.entry(def, prev)
		if err != nil {
			return err
		}
		b.access[def.ID] = e
		b.order = append(b.order, e)
	}
	slices.SortFunc(b.order, func(x, y *entry) int { return cmp.Compare(x.def.ID, y.def.ID) })
	for _, e := range b.order {
		for _, k := range e.def.Keys {
			if b.byKey[k] = append(b.byKey[k], e); len(b.byKey[k]) > MaxShared {
				return fmt.Errorf("key %s is stored under more than %d access identifiers", k, MaxShared)
			}
		}
	}
	return nil
}

// entry makes or takes over the entry of one access identifier.
func (b *Book) entry(def AccessDef, prev *Book) (*entry, error) {
	e := prev.access[def.ID]
	if e == nil || !e.def.equal(def) {
		if err := def.check(); err != nil {
			return nil, err
		}
		e = &entry{def: def.clone()}
	} else {
		e = &entry{def: e.def}
	}
	e.lists = make([]*list, len(def.Lists))
	for i, text := range def.Lists {
		var err error
		if e.lists[i], err = b.list(def.ID, i, text, prev); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (b *Book) list(id AccessID, i int, text string, prev *Book) (*list, error) {
	if l := b.lists[text]; l != nil {
		return l, nil
	}
	known := func(n RuleName) bool { return b.rules[n] != nil }
	l := prev.lists[text]
	if l == nil || slices.ContainsFunc(l.names, func(n RuleName) bool { return !known(n) }) {
		var err error
		if l, err = compileList(b.tools.grammar, fmt.Sprintf("access %s, list %d", id, i+1), text, known); err != nil {
			return nil, err
		}
	}
	b.lists[text] = l
	return l, nil
}

func (d AccessDef) check() error {
	if _, err := ParseAccessID(string(d.ID)); err != nil {
		return err
	}
	if err := CheckTitle(d.Title); err != nil {
		return fmt.Errorf("access %s: %w", d.ID, err)
	}
	if len(d.Keys) > MaxKeys || len(d.Lists) > MaxLists {
		return fmt.Errorf("access %s: %d keys and %d lists, at most %d and %d are allowed", d.ID, len(d.Keys), len(d.Lists), MaxKeys, MaxLists)
	}
	for i, k := range d.Keys {
		if k.IsZero() || slices.Contains(d.Keys[:i], k) {
			return fmt.Errorf("access %s: key %s is zero or stored twice", d.ID, k)
		}
	}
	return nil
}
