package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// The forms of aliases.
var aliasForms = []string{"dns", "mail", "upn", "uri"}

// NormalAlias returns the one form of an alias, which is its own: a DNS name in lower case without dots at its end, the
// domain of a mailbox in lower case. What is empty then is no alias.
func NormalAlias(form, value string) string {
	switch form {
	case "dns":
		return strings.TrimRight(lower(value), ".")
	case "mail", "upn":
		if at := strings.LastIndexByte(value, '@'); at >= 0 {
			return value[:at] + lower(value[at:])
		}
	}
	return value
}

// lower folds ASCII and nothing else: no letter stands for one that only looks like it.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// A builder makes the nodes of one rule or role and notes what they use. The complaint of a method is about the argument
// whose index it returns.
type builder struct {
	known knowing
	uses  []use
}

func (b *builder) use(u use) error {
	if err := b.known(u); err != nil {
		return err
	}
	if !slices.Contains(b.uses, u) {
		b.uses = append(b.uses, u)
	}
	return nil
}

var (
	errNothing = errors.New("want something to look for")
	errLong    = fmt.Errorf("is longer than %d bytes", MaxItemText)
)

// said asks for an item. Its arguments are the name and the value, as far as the kind has them, and the authority.
func (b *builder) said(k Kind, args ...string) (node, int, error) {
	last := len(args) - 1
	for i, arg := range args[:last] {
		if arg == "" {
			return nil, i, errNothing
		}
		if !shortText(arg) {
			return nil, i, errLong
		}
	}
	n := saidNode{kind: k, authority: kra.Anchor(args[last]), name: args[0]}
	if last == 2 {
		n.value = args[1]
	}
	return n, last, b.use(use{useAuthority, args[last], k})
}

// alias asks for FORM:VALUE on an authority's word.
func (b *builder) alias(name, authority string) (node, int, error) {
	form, value, _ := strings.Cut(name, ":")
	if !slices.Contains(aliasForms, form) || value == "" {
		return nil, 0, fmt.Errorf("bad alias %q, want mail:, dns:, uri: or upn: and a name", clip(name))
	}
	if normal := NormalAlias(form, value); normal != value {
		return nil, 0, fmt.Errorf("bad alias %q: write it as %s:%s", clip(name), form, clip(normal))
	}
	n, at, err := b.said(Alias, form, value, authority)
	return n, max(at-1, 0), err
}

func (b *builder) group(name string) (node, int, error) {
	if _, err := ParseGroupName(name); err != nil {
		return nil, 0, err
	}
	return groupNode(name), 0, b.use(use{what: useGroup, name: name})
}

func (b *builder) role(name string) (node, int, error) {
	if _, err := ParseRoleName(name); err != nil {
		return nil, 0, err
	}
	return roleNode(name), 0, b.use(use{what: useRole, name: name})
}

// cleared asks for a clearance; without an authority, on the word of any that may assert clearances.
func (b *builder) cleared(args ...string) (node, int, error) {
	c, err := parseClearance(args[0])
	if err != nil {
		return nil, 0, err
	}
	if err := b.use(use{what: useLevel, name: c.level}); err != nil {
		return nil, 0, err
	}
	if len(args) == 1 {
		return clearedNode{c, ""}, 0, b.use(use{what: useClearers})
	}
	return clearedNode{c, kra.Anchor(args[1])}, 1, b.use(use{useAuthority, args[1], Clearance})
}

func (b *builder) service(name string) (node, int, error) {
	if _, err := ParseService(name); err != nil {
		return nil, 0, err
	}
	return serviceNode(name), 0, b.use(use{what: useService, name: name})
}

// A role is a role of the box: what it needs, compiled.
type role struct {
	def   RoleDef
	needs node
	uses  []use
}

// MaxNeeds is how many things one role may need.
const MaxNeeds = 32

func newRole(def RoleDef, known knowing) (*role, error) {
	if _, err := ParseRoleName(string(def.Name)); err != nil {
		return nil, err
	}
	if len(def.Needs) == 0 || len(def.Needs) > MaxNeeds {
		return nil, fmt.Errorf("role %s needs %d things, want 1 to %d", def.Name, len(def.Needs), MaxNeeds)
	}
	b := builder{known: known}
	of := make([]node, len(def.Needs))
	for i, need := range def.Needs {
		var err error
		if of[i], err = b.need(need); err != nil {
			return nil, fmt.Errorf("role %s, need %d: %w", def.Name, i+1, err)
		}
	}
	return &role{RoleDef{def.Name, slices.Clone(def.Needs)}, countNode{len(of), of}, b.uses}, nil
}

// need asks what a role needs. A role of the box needs no other role of the box.
func (b *builder) need(n Need) (x node, err error) {
	if err := n.shape(); err != nil {
		return nil, err
	}
	a := string(n.Authority)
	switch {
	case n.Kind == Group && a == "":
		x, _, err = b.group(n.Name)
	case n.Kind == Group || n.Kind == Role:
		x, _, err = b.said(n.Kind, n.Name, a)
	case n.Kind == Attribute || n.Kind == Device:
		x, _, err = b.said(n.Kind, n.Name, n.Value, a)
	case n.Kind == Alias:
		x, _, err = b.alias(n.Name+":"+n.Value, a)
	case a == "":
		x, _, err = b.cleared(n.Value)
	default:
		x, _, err = b.cleared(n.Value, a)
	}
	return x, err
}

func (n Need) shape() error {
	named, valued := n.Kind != Clearance, n.Kind != Group && n.Kind != Role
	if n.Kind.String() == "" || named != (n.Name != "") || valued != (n.Value != "") {
		return errItemShape
	}
	return nil
}
