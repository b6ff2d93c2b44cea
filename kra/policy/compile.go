package policy

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"

	"github.com/keyrelease/krabox/kra"
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

// newBook returns the empty book.
func newBook() (*Book, error) {
	t, err := newTools()
	if err != nil {
		return nil, fmt.Errorf("compile book: %w", err)
	}
	return &Book{tools: t}, nil
}

// Compile makes a book of a definition. What did not change since prev, which may be nil, is taken from there. A mistake
// in a rule or list is a *SyntaxError.
func Compile(version uint64, d Definition, prev *Book) (*Book, error) {
	if prev == nil {
		var err error
		if prev, err = newBook(); err != nil {
			return nil, err
		}
	}
	return (&Book{tools: prev.tools}).revise(version, Revision{Put: d}, prev)
}

// A Revision is what one version of a book has other than the one before. Nothing is both put and removed.
type Revision struct {
	Put    Definition // new or changed
	Rules  []RuleName // to remove, as below
	Access []AccessID
	Groups []GroupName
}

// Revise makes the next version, in time that depends on the revision and hardly on the book, unless something is removed
// that could still be in use. The book, which may be nil, stays as it is. A mistake in a rule or list is a *SyntaxError.
func (b *Book) Revise(version uint64, r Revision) (*Book, error) {
	if b == nil {
		return Compile(version, r.Put, nil)
	}
	return b.revise(version, r, b)
}

// revise makes the next version of b, taking from prev what is compiled there already.
func (b *Book) revise(version uint64, r Revision, prev *Book) (*Book, error) {
	n := &reviser{tools: b.tools, prev: prev, members: b.members, rules: b.rules.Edit(), groups: b.groups.Edit(),
		access: b.access.Edit(), byKey: b.byKey.Edit(), lists: b.lists.Edit()}
	for _, step := range []func(Revision) error{n.reviseGroups, n.reviseRules, n.reviseAccess, n.limits} {
		if err := step(r); err != nil {
			return nil, fmt.Errorf("compile book: %w", err)
		}
	}
	return &Book{version: version, tools: n.tools, rules: n.rules.Map(), groups: n.groups.Map(), members: n.members,
		access: n.access.Map(), byKey: n.byKey.Map(), lists: n.lists.Map()}, nil
}

// repeated returns a name that occurs twice.
func repeated[D any, N comparable](defs []D, name func(D) N) (twice N, found bool) {
	seen := make(map[N]struct{}, len(defs))
	for _, d := range defs {
		if _, found = seen[name(d)]; found {
			return name(d), true
		}
		seen[name(d)] = struct{}{}
	}
	return twice, false
}

func newGroup(def GroupDef) (*group, error) {
	if _, err := ParseGroupName(string(def.Name)); err != nil {
		return nil, err
	}
	g := &group{def.clone(), make(map[kra.Decryptor]struct{}, len(def.Members))}
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
