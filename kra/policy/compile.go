package policy

import (
	"context"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
)

// tools are the CEL environments. They are made once and handed from book to book.
type tools struct {
	vocabulary *cel.Env
	rules      ruleEngine
}

func newTools() (*tools, error) {
	v, err := newVocabulary()
	if err != nil {
		return nil, err
	}
	g, err := newGrammar()
	if err != nil {
		return nil, err
	}
	return &tools{v, ruleEngine{g}}, nil
}

// engine returns the engine of a logic.
func (t *tools) engine(l Logic) (engine, error) {
	switch l {
	case Rules:
		return t.rules, nil
	case Cedar:
		return cedarEngine{}, nil
	}
	return nil, fmt.Errorf("unknown logic %q", clip(string(l)))
}

// newBook returns the empty book.
func newBook() (*Book, error) {
	t, err := newTools()
	if err != nil {
		return nil, fmt.Errorf("compile book: %w", err)
	}
	return emptyBook(t), nil
}

func emptyBook(t *tools) *Book { return &Book{tools: t, terms: &terms{levels: DefaultLevels()}} }

// Compile makes a book of a definition. What did not change since prev, which may be nil, is taken from there. A mistake
// in a rule or list is a *SyntaxError.
func Compile(version uint64, d Definition, prev *Book) (*Book, error) {
	if prev == nil {
		var err error
		if prev, err = newBook(); err != nil {
			return nil, err
		}
	}
	return emptyBook(prev.tools).revise(version, Edit{Put: d}, prev)
}

// Load makes a book of a definition, as an edit of the empty one, that was compiled before it was stored: the rules are
// compiled when they are asked, or by Warm. One that no longer compiles errs.
func Load(version uint64, e Edit) (*Book, error) {
	b, err := newBook()
	if err != nil {
		return nil, err
	}
	n := b.draft(b)
	n.later = true
	return n.revise(version, e)
}

// Warm compiles the rules that were not asked yet. It may run beside anything. The error is the context's.
func (b *Book) Warm(ctx context.Context) error {
	if b == nil {
		return nil
	}
	for _, r := range b.rules.All() {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, _ = r.compile(b.tools.vocabulary, b.knows) // who asks it hears of the mistake
	}
	return nil
}

// Revise makes the next version, in time that depends on the edit and hardly on the book, unless something is removed
// that could still be in use. The book, which may be nil, stays as it is. A mistake in a rule or list is a *SyntaxError.
func (b *Book) Revise(version uint64, e Edit) (*Book, error) {
	if b == nil {
		var err error
		if b, err = newBook(); err != nil {
			return nil, err
		}
	}
	return b.revise(version, e, b)
}

// revise makes the next version of b, taking from prev what is compiled there already.
func (b *Book) revise(version uint64, e Edit, prev *Book) (*Book, error) {
	return b.draft(prev).revise(version, e)
}

func (b *Book) draft(prev *Book) *reviser {
	return &reviser{tools: b.tools, prev: prev, members: b.members, rules: b.rules.Edit(), groups: b.groups.Edit(),
		access: b.access.Edit(), byKey: b.byKey.Edit(), lists: b.lists.Edit(), roles: b.roles.Edit(), refs: b.refs.Edit(), terms: b.terms}
}

func (n *reviser) revise(version uint64, e Edit) (*Book, error) {
	for _, step := range []func(Edit) error{n.reviseTerms, n.reviseGroups, n.reviseRoles, n.reviseRules, n.reviseKeys, n.limits} {
		if err := step(e); err != nil {
			return nil, fmt.Errorf("compile book: %w", err)
		}
	}
	return &Book{version: version, tools: n.tools, rules: n.rules.Map(), groups: n.groups.Map(), members: n.members,
		access: n.access.Map(), byKey: n.byKey.Map(), lists: n.lists.Map(), roles: n.roles.Map(), refs: n.refs.Map(), terms: n.terms}, nil
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
	if d.Delivery != ToAuthenticated && d.Delivery != ToAnyone {
		return fmt.Errorf("access %s: unknown delivery %q", d.ID, clip(string(d.Delivery)))
	}
	if d.Portion != WholeHeader && d.Portion != AnyPortion {
		return fmt.Errorf("access %s: unknown portion %q", d.ID, clip(string(d.Portion)))
	}
	for i, k := range d.Keys {
		if k.IsZero() || slices.Contains(d.Keys[:i], k) {
			return fmt.Errorf("access %s: key %s is zero or stored twice", d.ID, k)
		}
	}
	return nil
}
