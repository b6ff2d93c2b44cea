package policy

import (
	"cmp"
	"slices"
)

// A Word is something of a definition that has a name.
type Word struct {
	Kind WordKind
	Name string
}

// A WordKind is a kind of words.
type WordKind string

// The kinds of words.
const (
	AccessWord WordKind = "access"
	RuleWord   WordKind = "rule"
	RoleWord   WordKind = "role"
	GroupWord  WordKind = "group"
)

var wordUses = map[what]WordKind{useGroup: GroupWord, useRole: RoleWord, useRule: RuleWord}

// Users returns what names one of the words, or names something that does, sorted: what may be decided otherwise once they change. A rule
// that no longer compiles could name any.
//
//	group --> group --> role --> rule --> access identifier
//
// An arrow may pass over what is between.
func (b *Book) Users(of ...Word) []Word {
	if b == nil || len(of) == 0 {
		return nil
	}
	touched := map[Word]bool{}
	for _, w := range of {
		touched[w] = true
	}
	var users []Word
	uses := func(u use) bool { return touched[Word{wordUses[u.what], u.name}] }
	note := func(kind WordKind, name string) { users = append(users, Word{kind, name}) }
	touch := func() {
		for _, w := range users {
			touched[w] = true
		}
	}
	for name, g := range b.groups.All() {
		if slices.ContainsFunc(g.within, func(in GroupName) bool { return touched[Word{GroupWord, string(in)}] }) {
			note(GroupWord, string(name))
		}
	}
	touch()
	for name, r := range b.roles.All() {
		if slices.ContainsFunc(r.uses, uses) {
			note(RoleWord, string(name))
		}
	}
	touch()
	for name, r := range b.rules.All() {
		c, err := r.compile(b.tools.vocabulary, b.knows)
		if err != nil || slices.ContainsFunc(c.uses, uses) {
			note(RuleWord, string(name))
		}
	}
	touch()
	for id, e := range b.access.All() {
		if slices.ContainsFunc(e.lists, func(l *list) bool { return slices.ContainsFunc(l.uses, uses) }) {
			note(AccessWord, string(id))
		}
	}
	slices.SortFunc(users, func(x, y Word) int { return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name)) })
	return users
}
