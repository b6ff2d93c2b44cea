package store

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of the rules; package policy has its own, and the narrower ones hold.
const (
	MaxText   = 4096 // bytes of a rule or a rule list
	MaxTitle  = 128  // bytes
	MaxLists  = 32   // of an access identifier
	MaxKeys   = 256  // of an access identifier
	MaxLevels = 32   // classification levels
)

// RuleAdd makes a named rule. The caller has compiled the book that it will be part of.
type RuleAdd struct {
	Name string `json:"name"`
	Expr string `json:"expr"`
}

func (RuleAdd) kind() string { return "rule-add" }

func (c RuleAdd) apply(d *State) error {
	if d.rules.has(c.Name) {
		return invalid("rule %q exists already; change it with rule set", c.Name)
	}
	return putRule(d, Rule(c))
}

// RuleSet changes a rule, wherever it is used.
type RuleSet struct {
	Name string `json:"name"`
	Expr string `json:"expr"`
}

func (RuleSet) kind() string { return "rule-set" }

func (c RuleSet) apply(d *State) error {
	if !d.rules.has(c.Name) {
		return invalid("there is no rule %.80q", c.Name)
	}
	return putRule(d, Rule(c))
}

func putRule(d *State, r Rule) error {
	if !isRuleName(r.Name) {
		return invalid("rule %.80q: want a-z, 0-9 and '_', a letter first, at most 63", r.Name)
	}
	if !isText(r.Expr, MaxText) || r.Expr == "" {
		return invalid("rule %q: want 1 to %d bytes of text", r.Name, MaxText)
	}
	d.rules.put(r.Name, r)
	return nil
}

// RuleRemove removes a rule that no rule list uses.
type RuleRemove struct {
	Name string `json:"name"`
}

func (RuleRemove) kind() string { return "rule-remove" }

func (c RuleRemove) apply(d *State) error {
	if !d.rules.has(c.Name) {
		return invalid("there is no rule %.80q", c.Name)
	}
	if users := d.usersOfRule(c.Name); len(users) > 0 {
		return invalid("rule %q is in use by %s", c.Name, strings.Join(users, ", "))
	}
	d.rules.remove(c.Name)
	d.forget(ThingRule, c.Name)
	return nil
}

// usersOfRule names the access identifiers whose lists contain the rule's name as a word, a few of them.
func (s *State) usersOfRule(name string) (users []string) {
	for _, a := range s.access.all() {
		if slices.ContainsFunc(a.Lists, func(l string) bool { return slices.Contains(words(l), name) }) {
			users = append(users, string(a.ID))
		}
	}
	return few(users)
}

// words splits a rule list into CEL identifiers.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// few sorts names and cuts a long list.
func few(names []string) []string {
	const most = 5
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	return names
}

// AccessAdd makes an access identifier without keys and rule lists: nobody's yet.
type AccessAdd struct {
	ID    kra.AccessID `json:"id"`
	Title string       `json:"title"`
}

func (AccessAdd) kind() string { return "access-add" }

func (c AccessAdd) apply(d *State) error {
	if _, err := kra.ParseAccessID(string(c.ID)); err != nil {
		return invalid("access identifier %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.ID, kra.MaxID)
	}
	if d.access.has(string(c.ID)) {
		return invalid("access identifier %q exists already", c.ID)
	}
	if !isText(c.Title, MaxTitle) {
		return invalid("title: want one line of at most %d bytes", MaxTitle)
	}
	d.access.put(string(c.ID), Access{ID: c.ID, Title: c.Title, Keys: []block.KeyID{}, Lists: []string{}})
	return nil
}

// AccessTitle changes the title.
type AccessTitle struct {
	ID    kra.AccessID `json:"id"`
	Title string       `json:"title"`
}

func (AccessTitle) kind() string { return "access-title" }

func (c AccessTitle) apply(d *State) error {
	if !isText(c.Title, MaxTitle) {
		return invalid("title: want one line of at most %d bytes", MaxTitle)
	}
	return d.changeAccess(c.ID, func(a *Access) error { a.Title = c.Title; return nil })
}

// AccessLists sets the rule lists, tried in order. The caller has compiled the book that they will be part of.
type AccessLists struct {
	ID    kra.AccessID `json:"id"`
	Lists []string     `json:"lists"`
}

func (AccessLists) kind() string { return "access-lists" }

func (c AccessLists) apply(d *State) error {
	if len(c.Lists) > MaxLists {
		return invalid("%d rule lists are too many; at most %d", len(c.Lists), MaxLists)
	}
	for _, l := range c.Lists {
		if !isText(l, MaxText) || l == "" {
			return invalid("rule list: want 1 to %d bytes of text", MaxText)
		}
	}
	return d.changeAccess(c.ID, func(a *Access) error { a.Lists = append([]string{}, c.Lists...); return nil })
}

// AccessKeys sets the keys of an access identifier; the first is the current one and must be active.
type AccessKeys struct {
	ID   kra.AccessID  `json:"id"`
	Keys []block.KeyID `json:"keys"`
}

func (AccessKeys) kind() string { return "access-keys" }

func (c AccessKeys) apply(d *State) error {
	return d.changeAccess(c.ID, func(a *Access) error { return d.setKeys(a, c.Keys) })
}

func (s *State) setKeys(a *Access, ids []block.KeyID) error {
	if len(ids) > MaxKeys {
		return invalid("access identifier %q: %d keys are too many; at most %d", a.ID, len(ids), MaxKeys)
	}
	for i, id := range ids {
		k, ok := s.keys.get(id.String())
		switch {
		case !ok:
			return invalid("there is no key %s", id)
		case slices.Contains(ids[:i], id):
			return invalid("key %s is named twice", id)
		case i == 0 && k.State != Active:
			return invalid("key %s is %s and cannot be current", id, k.State)
		}
	}
	for _, old := range a.Keys {
		if !slices.Contains(ids, old) && s.certs.has(certKey(a.ID, old)) {
			s.certs.remove(certKey(a.ID, old))
		}
	}
	a.Keys = append([]block.KeyID{}, ids...)
	return nil
}

// AccessLogic sets what the rule lists of an access identifier are written in, and the lists.
type AccessLogic struct {
	ID    kra.AccessID `json:"id"`
	Logic Logic        `json:"logic"`
	Lists []string     `json:"lists"`
}

func (AccessLogic) kind() string { return "access-logic" }

func (c AccessLogic) apply(d *State) error {
	if c.Logic != Rules && c.Logic != Cedar {
		return invalid("unknown logic %.40q", c.Logic)
	}
	if err := d.changeAccess(c.ID, func(a *Access) error { a.Logic = c.Logic; return nil }); err != nil {
		return err
	}
	return AccessLists{c.ID, c.Lists}.apply(d)
}

// AccessDelivery sets whom the keys of an access identifier may be handed to.
type AccessDelivery struct {
	ID       kra.AccessID `json:"id"`
	Delivery Delivery     `json:"delivery"`
}

func (AccessDelivery) kind() string { return "access-delivery" }

func (c AccessDelivery) apply(d *State) error {
	if c.Delivery != ToChannel && c.Delivery != ToAnyone {
		return invalid("unknown delivery %.40q", c.Delivery)
	}
	return d.changeAccess(c.ID, func(a *Access) error { a.Delivery = c.Delivery; return nil })
}

// AccessPortion sets how much of an age header must be there.
type AccessPortion struct {
	ID      kra.AccessID `json:"id"`
	Portion Portion      `json:"portion"`
}

func (AccessPortion) kind() string { return "access-portion" }

func (c AccessPortion) apply(d *State) error {
	if c.Portion != WholeHeader && c.Portion != AnyPortion {
		return invalid("unknown portion %.40q", c.Portion)
	}
	return d.changeAccess(c.ID, func(a *Access) error { a.Portion = c.Portion; return nil })
}

// LevelsSet names the classification levels of the box, lowest first. None means those of package policy.
type LevelsSet struct {
	Names []string `json:"names"`
}

func (LevelsSet) kind() string { return "levels-set" }

func (c LevelsSet) apply(d *State) error {
	if len(c.Names) > MaxLevels {
		return invalid("%d levels are too many; at most %d", len(c.Names), MaxLevels)
	}
	for i, name := range c.Names {
		if kra.CheckName(name) != nil || slices.Contains(c.Names[:i], name) {
			return invalid("level %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first, each once", name, kra.MaxID)
		}
	}
	d.levels.put(only, Levels{slices.Clone(c.Names)})
	return nil
}

// AccessRemove removes an access identifier and its certificates; its keys stay in the box.
type AccessRemove struct {
	ID kra.AccessID `json:"id"`
}

func (AccessRemove) kind() string { return "access-remove" }

func (c AccessRemove) apply(d *State) error {
	err := d.changeAccess(c.ID, func(a *Access) error { return d.setKeys(a, nil) })
	if err == nil {
		d.access.remove(string(c.ID))
		d.forget(ThingAccess, string(c.ID))
	}
	return err
}

// changeAccess lets f change a copy of an access identifier.
func (s *State) changeAccess(id kra.AccessID, f func(*Access) error) error {
	a, ok := s.access.get(string(id))
	if !ok {
		return invalid("there is no access identifier %.80q", id)
	}
	if err := f(&a); err != nil {
		return err
	}
	s.access.put(string(id), a)
	return nil
}

func isRuleName(s string) bool {
	if s == "" || len(s) > 63 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' })
}

// isText accepts UTF-8 that a terminal shows on one line.
func isText(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
