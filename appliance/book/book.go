// Package book turns the records of the sealed state into the definition that decides.
package book

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/side"
)

// Edit is what a difference between two states, of which old may be nil, means for the book. It takes time in proportion
// to what changed.
func Edit(st, old *store.State, diff store.Difference) (e policy.Edit, err error) {
	if old == nil {
		old = store.Empty()
	}
	rules(&e, st, diff)
	groups(&e, st, old, diff)
	roles(&e, st, diff)
	authorities(&e, st, old, diff)
	if diff.Levels {
		if e.Put.Levels = st.Levels(); len(e.Put.Levels) == 0 {
			e.Put.Levels = policy.DefaultLevels()
		}
	}
	many := []func() error{ // the two that a large state has most of, side by side
		func() error { return keys(&e, st, old, diff) },
		func() error { accesses(&e, st, old, diff); return nil },
	}
	return e, side.Run(len(many), func(i int) error { return many[i]() })
}

func rules(e *policy.Edit, st *store.State, diff store.Difference) {
	for _, name := range diff.Rules {
		if x, ok := st.Rule(name); ok {
			e.Put.Rules = append(e.Put.Rules, policy.RuleDef{Name: policy.RuleName(x.Name), Expr: x.Expr})
		} else {
			e.Rules = append(e.Rules, policy.RuleName(name))
		}
	}
}

// accesses writes those that changed, and those of a key that opens again or no longer.
func accesses(e *policy.Edit, st, old *store.State, diff store.Difference) {
	for _, id := range touched(st, old, diff) {
		if x, ok := st.Access(id); ok {
			e.Put.Access = append(e.Put.Access, policy.AccessDef{ID: x.ID, Title: x.Title, Keys: opening(st, x.Keys), Lists: x.Lists,
				Logic: policy.Logic(x.Logic), Delivery: policy.Delivery(x.Delivery), Portion: policy.Portion(x.Portion)})
		} else {
			e.Access = append(e.Access, id)
		}
	}
}

func touched(st, old *store.State, diff store.Difference) []kra.AccessID {
	turned := map[block.KeyID]bool{}
	for _, id := range diff.Keys {
		key, err := block.ParseKeyID(id)
		if err != nil {
			continue // keys, below, says so
		}
		is, there := st.Key(key)
		if was, known := old.Key(key); there && known && is.Opens() != was.Opens() {
			turned[key] = true
		}
	}
	if len(turned) == 0 {
		return diff.Access
	}
	all := slices.Clone(diff.Access)
	for _, a := range st.Accesses() {
		if slices.ContainsFunc(a.Keys, func(id block.KeyID) bool { return turned[id] }) && !slices.Contains(all, a.ID) {
			all = append(all, a.ID)
		}
	}
	slices.Sort(all)
	return all
}

// opening are the keys with which anything is released.
func opening(st *store.State, ids []block.KeyID) []block.KeyID {
	out := make([]block.KeyID, 0, len(ids))
	for _, id := range ids {
		if k, ok := st.Key(id); ok && k.Opens() {
			out = append(out, id)
		}
	}
	return out
}

// groups writes who joined and who left, not the whole group: a book is logged, and groups are large.
func groups(e *policy.Edit, st, old *store.State, diff store.Difference) {
	for _, name := range diff.Groups {
		is, there := st.Group(name)
		was, known := old.Group(name)
		switch {
		case !there && known:
			e.Gone = append(e.Gone, policy.GroupName(name))
		case there && !known:
			e.Put.Groups = append(e.Put.Groups, groupOf(is))
		case there:
			d := policy.Diff(policy.Definition{Groups: []policy.GroupDef{groupOf(was)}}, policy.Definition{Groups: []policy.GroupDef{groupOf(is)}})
			e.Groups = append(e.Groups, d.Groups...)
		}
	}
}

func groupOf(g store.Group) policy.GroupDef {
	def := policy.GroupDef{Name: policy.GroupName(g.Name), Members: g.Members}
	for _, x := range g.Groups {
		def.Groups = append(def.Groups, policy.GroupName(x))
	}
	return def
}

func roles(e *policy.Edit, st *store.State, diff store.Difference) {
	for _, name := range diff.Roles {
		x, ok := st.Role(name)
		if !ok {
			e.Roles = append(e.Roles, policy.RoleName(name))
			continue
		}
		def := policy.RoleDef{Name: policy.RoleName(x.Name)}
		for _, n := range x.Needs {
			def.Needs = append(def.Needs, policy.Need{Kind: kind(n.Kind), Name: n.Name, Value: n.Value, Authority: n.Authority})
		}
		e.Put.Roles = append(e.Put.Roles, def)
	}
}

// Kinds are the kinds of information in the words of package policy.
func Kinds(may []store.InformationKind) (out []policy.Kind) {
	for _, k := range may {
		out = append(out, kind(k))
	}
	return out
}

// kind returns 0, which no book accepts, for a kind that is none.
func kind(k store.InformationKind) policy.Kind {
	p, err := policy.ParseKind(string(k))
	if err != nil {
		return 0
	}
	return p
}

// authorities are the certification authorities of decryptors, whose certificates say how somebody is also called, and the
// sources that vouch for something. Services are what rules may ask.
func authorities(e *policy.Edit, st, old *store.State, diff store.Difference) {
	for _, alias := range diff.Anchors {
		if _, ok := st.Anchor(alias); ok {
			e.Put.Authorities = append(e.Put.Authorities, policy.AuthorityDef{Alias: alias, May: []policy.Kind{policy.Alias}})
		} else if _, vouches := vouching(st, alias); !vouches {
			e.Authorities = append(e.Authorities, alias)
		}
	}
	for _, alias := range diff.Sources {
		if x, ok := vouching(st, alias); ok {
			e.Put.Authorities = append(e.Put.Authorities, policy.AuthorityDef{Alias: alias, May: Kinds(x.May)})
		} else if _, was := vouching(old, alias); was && !anchored(st, alias) {
			e.Authorities = append(e.Authorities, alias)
		}
		if serving(st, alias) {
			e.Put.Services = append(e.Put.Services, string(alias))
		} else if serving(old, alias) {
			e.Services = append(e.Services, string(alias))
		}
	}
}

func vouching(st *store.State, alias kra.Anchor) (store.Source, bool) {
	x, ok := st.Source(alias)
	return x, ok && x.Kind().Vouches()
}

func serving(st *store.State, alias kra.Anchor) bool {
	x, ok := st.Source(alias)
	return ok && x.Service != nil
}

func anchored(st *store.State, alias kra.Anchor) bool {
	_, ok := st.Anchor(alias)
	return ok
}

// keys writes how headers may name the keys that came, went or were certified anew. No two keys have the same name: an
// issuer gives a serial number once.
func keys(e *policy.Edit, st, old *store.State, diff store.Difference) error {
	was, err := names(old, diff.Keys)
	if err != nil {
		return err
	}
	is, err := names(st, diff.Keys)
	if err != nil {
		return err
	}
	var put, gone []name
	for i := range diff.Keys {
		put = append(put, without(is[i], was[i])...)
		gone = append(gone, without(was[i], is[i])...)
	}
	put, gone = inOrder(put), inOrder(gone)
	for _, n := range put {
		e.Put.Aliases = append(e.Put.Aliases, policy.KeyAlias{Ref: n.ref, Key: n.key})
	}
	for _, n := range gone {
		if _, there := slices.BinarySearchFunc(put, n, byText); !there {
			e.Aliases = append(e.Aliases, n.ref)
		}
	}
	return tags(e, st, old, diff)
}

// tags are the recipients that stock age may encrypt to.
func tags(e *policy.Edit, st, old *store.State, diff store.Difference) error {
	for _, id := range diff.Tagged {
		key, err := block.ParseKeyID(id)
		if err != nil {
			return fmt.Errorf("name keys: %w", err)
		}
		is, was := st.Tag(key), old.Tag(key)
		switch {
		case is == was:
		case is == "":
			e.Tagged = append(e.Tagged, was)
		default:
			e.Put.Tagged = append(e.Put.Tagged, is)
		}
	}
	return nil
}

// A name of a key, other than its id.
type name struct {
	ref  block.Ref
	lead uint64 // how text begins, in its order: most names differ there already
	text string // ref's
	key  block.KeyID
}

// newName leads with two letters of the kind and six of the value.
func newName(r block.Ref, key block.KeyID) name {
	n := name{ref: r, text: r.String(), key: key}
	kind, value, _ := strings.Cut(n.text, ":")
	var lead [8]byte
	copy(lead[:2], kind)
	copy(lead[2:], value)
	n.lead = binary.BigEndian.Uint64(lead[:])
	return n
}

func byText(a, b name) int {
	if a.lead != b.lead {
		return cmp.Compare(a.lead, b.lead)
	}
	return cmp.Compare(a.text, b.text)
}

// inOrder sorts names, of which each is there once then. Should keys share one, the first key has it.
func inOrder(names []name) []name {
	slices.SortFunc(names, func(a, b name) int {
		if c := byText(a, b); c != 0 {
			return c
		}
		return bytes.Compare(a.key[:], b.key[:])
	})
	return slices.CompactFunc(names, func(a, b name) bool { return a.ref == b.ref })
}

// without are the names of a that b has not.
func without(a, b []name) (out []name) {
	for _, n := range a {
		if !slices.ContainsFunc(b, func(o name) bool { return o.ref == n.ref }) {
			out = append(out, n)
		}
	}
	return out
}

// names are those of the keys that a state has, in the order given.
func names(st *store.State, ids []string) ([][]name, error) {
	out := make([][]name, len(ids))
	return out, side.Run(len(ids), func(i int) (err error) {
		out[i], err = namesOf(st, ids[i])
		return err
	})
}

func namesOf(st *store.State, id string) ([]name, error) {
	key, err := block.ParseKeyID(id)
	if err != nil {
		return nil, fmt.Errorf("name keys: %w", err)
	}
	k, ok := st.Key(key)
	if !ok {
		return nil, nil
	}
	refs, err := k.Refs()
	if err != nil {
		return nil, err
	}
	out := make([]name, 0, len(refs))
	for _, r := range refs {
		if r.Kind() != block.RefKeyID {
			out = append(out, newName(r, key))
		}
	}
	return out, nil
}
