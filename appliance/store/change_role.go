package store

import (
	"slices"

	"github.com/keyrelease/krabox/kra"
)

// Limits of roles; package policy has its own, and the narrower ones hold.
const (
	MaxRoles = 10_000
	MaxNeeds = 32 // of one role
)

// A Role is a set of things that must be known about a decryptor, all of them.
type Role struct {
	Name  string `json:"name"`
	Needs []Need `json:"needs"`
}

// A Need is one of them. An empty Authority is any that may say so.
type Need struct {
	Kind      InformationKind `json:"kind"`
	Name      string          `json:"name,omitempty"`  // group or role; type of an attribute or device attribute; form of an alias
	Value     string          `json:"value,omitempty"` // of an attribute, device attribute or alias; the level of a clearance
	Authority kra.Anchor      `json:"authority,omitempty"`
}

// RoleSet makes or changes a role. The caller has compiled the book that it will be part of.
type RoleSet struct {
	Name  string `json:"name"`
	Needs []Need `json:"needs"`
}

func (RoleSet) kind() string { return "role-set" }

func (c RoleSet) apply(d *State) error {
	switch {
	case kra.CheckName(c.Name) != nil:
		return invalid("role %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.Name, kra.MaxID)
	case !d.roles.has(c.Name) && d.roles.size() >= MaxRoles:
		return invalid("there are %d roles already, which is the limit", MaxRoles)
	case len(c.Needs) == 0 || len(c.Needs) > MaxNeeds:
		return invalid("role %q needs %d things; want 1 to %d", c.Name, len(c.Needs), MaxNeeds)
	}
	for i, n := range c.Needs {
		if err := n.check(d); err != nil {
			return invalid("role %q: %v", c.Name, err)
		}
		if slices.Contains(c.Needs[:i], n) {
			return invalid("role %q needs the same thing twice", c.Name)
		}
	}
	d.roles.put(c.Name, Role{c.Name, slices.Clone(c.Needs)})
	return nil
}

func (n Need) check(d *State) error {
	named, valued := n.Kind.Named(), n.Kind.Valued()
	switch {
	case !slices.Contains(InformationKinds(), n.Kind):
		return invalid("unknown kind of information %.40q", n.Kind)
	case named != (n.Name != "") || !isText(n.Name, maxField):
		return invalid("a %s with the name %.80q cannot be", n.Kind, n.Name)
	case valued != (n.Value != "") || !isText(n.Value, maxField):
		return invalid("a %s with the value %.80q cannot be", n.Kind, n.Value)
	case n.Authority != "" && !d.anchors.has(string(n.Authority)) && !d.sources.has(string(n.Authority)):
		return invalid("there is no authority %.80q", n.Authority)
	}
	return nil
}

// Named reports whether information of the kind has a name.
func (k InformationKind) Named() bool { return k != ClearanceInformation }

// Valued reports whether information of the kind has a value.
func (k InformationKind) Valued() bool { return k != GroupInformation && k != RoleInformation }

// RoleRemove removes a role that no rule names.
type RoleRemove struct {
	Name string `json:"name"`
}

func (RoleRemove) kind() string { return "role-remove" }

func (c RoleRemove) apply(d *State) error {
	if !d.roles.has(c.Name) {
		return invalid("there is no role %.80q", c.Name)
	}
	if users := d.usersOfRole(c.Name); len(users) > 0 {
		return invalid("role %q is in use by %s", c.Name, joined(users))
	}
	d.roles.remove(c.Name)
	return nil
}

// usersOfRole names the rules and roles that name a role, a few of them.
func (s *State) usersOfRole(name string) (users []string) {
	for _, r := range s.rules.all() {
		if quotes(r.Expr, name) {
			users = append(users, "rule "+r.Name)
		}
	}
	for _, r := range s.roles.all() {
		if slices.ContainsFunc(r.Needs, func(n Need) bool { return n.Kind == RoleInformation && n.Name == name && n.Authority == "" }) {
			users = append(users, "role "+r.Name)
		}
	}
	return few(users)
}
