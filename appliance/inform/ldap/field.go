package ldap

import (
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/kra/policy"
)

const (
	inGroups    = "in"
	groupFilter = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=group))"
)

var memberFields = []string{"member", "uniqueMember"}

// A field is a mapping, read.
type field struct {
	Mapping
	name   string   // of the entries' field; empty if it is about groups
	base   string   // as it was written; empty: values are taken as they are
	under  []string // parts of base
	groups []string // parts of base, of groups that list their members
}

func parseField(m Mapping) (field, error) {
	what, base, based := strings.Cut(m.From, ":")
	f := field{Mapping: m, name: what, base: base}
	if !isField(what) || m.Kind.String() == "" {
		return field{}, fmt.Errorf("field %.100q: want FIELD, FIELD:BASE or %s:BASE", m.From, inGroups)
	}
	if !based {
		return f, nil
	}
	n, err := parseName(base)
	if err != nil {
		return field{}, fmt.Errorf("field %.100q: after the colon: %w", m.From, err)
	}
	if f.under = n.parts; what == inGroups {
		f.name, f.groups = "", n.parts
	}
	return f, nil
}

// isField accepts the name of an attribute (RFC 4512 section 2.5) without options.
func isField(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// item is what a value says. ok is false if it says nothing in the box's words.
func (f field) item(value string) (policy.Item, bool) {
	if f.under != nil {
		n, err := parseName(value)
		if err != nil || !n.under(f.under) || n.first == "" {
			return policy.Item{}, false
		}
		value = n.first
	}
	i := policy.Item{Kind: f.Kind, Name: f.Mapping.Name, Value: value}
	if f.Kind == policy.Group || f.Kind == policy.Role {
		i.Name, i.Value = value, ""
	}
	if f.Kind == policy.Alias {
		i.Value = policy.NormalAlias(i.Name, i.Value)
	}
	return i, true
}
