package ldap

import (
	"errors"
	"fmt"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra/policy"
)

const (
	maxItems = 200 // of one entry
	overhead = 200 // bytes of an item or a name in memory, besides its text
)

// Why nothing counts that a directory says of somebody. Others are not concerned.
var (
	errSeveral   = errors.New("directory has several entries of that name")
	errPartial   = errors.New("directory gave only some values of a field of the entry")
	errManyItems = fmt.Errorf("directory says more than %d things of the entry", maxItems)
)

// An image is what a directory said: records by the names in which decryptors are found.
type image struct {
	match match
	of    map[string]*record
}

// A record is what one entry says, or why nothing that it says counts.
type record struct {
	items []policy.Item
	err   error
}

// Lookup implements inform.Image.
func (i *image) Lookup(s inform.Subject) ([]policy.Item, error) {
	var found *record
	for _, key := range i.match.keys(s) {
		r := i.of[key]
		if r != nil && found != nil && r != found {
			return nil, errSeveral
		}
		if r != nil {
			found = r
		}
	}
	if found == nil {
		return nil, nil
	}
	return found.items, found.err
}

// A member is an entry's place in a group.
type member struct {
	base  string // of the groups
	group string
}

// A builder makes an image.
type builder struct {
	server  *Server
	of      map[string]*record
	groups  map[string][]member // by key of the member's name
	read    map[string]bool     // bases of groups that were read
	entries int
	kept    int
}

func (b *builder) done(base string) {
	if b.read == nil {
		b.read = map[string]bool{}
	}
	b.read[base] = true
}

// count holds entries and what is kept of them to their limits.
func (b *builder) count(entries, kept int) error {
	b.entries += entries
	b.kept += kept
	if b.entries > maxEntries {
		return fmt.Errorf("more than %d entries: narrow the base or the filter", maxEntries)
	}
	if b.kept > maxKept {
		return fmt.Errorf("what the entries say takes more than %d bytes: narrow the base, the filter or the fields", maxKept)
	}
	return nil
}

// group takes a group that lists its members.
func (b *builder) group(f field) func(*goldap.Entry) error {
	return func(e *goldap.Entry) error {
		n, err := parseName(e.DN)
		if err != nil {
			return err
		}
		if !n.under(f.groups) || n.first == "" {
			return b.count(1, 0)
		}
		for _, name := range memberFields {
			values, whole := valuesOf(e, name)
			if !whole {
				return fmt.Errorf("group %.100q: %w", e.DN, errPartial)
			}
			for _, v := range values {
				who, err := parseName(v)
				if err != nil {
					continue // nobody has that name
				}
				b.groups[who.key()] = append(b.groups[who.key()], member{f.base, n.first})
				if err := b.count(0, len(v)+len(n.first)+overhead); err != nil {
					return err
				}
			}
		}
		return b.count(1, 0)
	}
}

// person takes an entry that may be a decryptor's.
func (b *builder) person(e *goldap.Entry) error {
	n, err := parseName(e.DN)
	if err != nil {
		return err
	}
	r := b.record(e, n)
	size := 0
	for _, i := range r.items {
		size += len(i.Name) + len(i.Value) + overhead
	}
	for _, key := range b.keys(e, n) {
		if old := b.of[key]; old != nil && old != r {
			b.of[key] = &record{err: errSeveral}
		} else {
			b.of[key] = r
		}
		size += len(key) + overhead
	}
	return b.count(1, size)
}

// keys are the names under which an entry is found.
func (b *builder) keys(e *goldap.Entry, n name) (all []string) {
	m := b.server.match
	if m.field == "" {
		return []string{n.key()}
	}
	values, _ := valuesOf(e, m.field)
	for _, v := range values {
		if key, ok := m.key(v); ok {
			all = append(all, key)
		}
	}
	return all
}

func (b *builder) record(e *goldap.Entry, n name) *record {
	seen := map[policy.Item]bool{}
	r := &record{}
	put := func(i policy.Item, ok bool) {
		if ok && !seen[i] && len(r.items) <= maxItems {
			seen[i] = true
			r.items = append(r.items, i)
		}
	}
	for _, f := range b.server.fields {
		if f.groups != nil {
			for _, m := range b.groups[n.key()] {
				put(policy.Item{Kind: f.Kind, Name: m.group}, m.base == f.base)
			}
			continue
		}
		values, whole := valuesOf(e, f.name)
		if !whole {
			return &record{err: errPartial}
		}
		for _, v := range values {
			put(f.item(v))
		}
	}
	if err := check(r.items); err != nil {
		return &record{err: err}
	}
	return r
}

// check says whether decisions can use the items.
func check(items []policy.Item) error {
	if len(items) > maxItems {
		return errManyItems
	}
	full := make([]policy.Item, 0, len(items))
	for _, item := range items {
		if item.Authority, item.Via = "directory", policy.Directory; item.Word() { // others the World leaves out
			full = append(full, item)
		}
	}
	_, err := policy.NewInformation(full, nil)
	return err
}

// valuesOf returns the values of a field. whole is false if the server kept some to itself (range retrieval, [MS-ADTS]
// section 3.1.1.3.1.3.3). Other options, such as languages, are other fields.
func valuesOf(e *goldap.Entry, field string) (values []string, whole bool) {
	for _, a := range e.Attributes {
		name, option, has := strings.Cut(a.Name, ";")
		if !strings.EqualFold(name, field) {
			continue
		}
		if !has {
			values = append(values, a.Values...)
		} else if strings.HasPrefix(strings.ToLower(option), "range=") {
			return nil, false
		}
	}
	return values, true
}
