package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/keyrelease/krabox/kra"
)

// Limits of the information about one decryptor.
const (
	MaxItems       = 256      // items
	MaxItemText    = 1024     // bytes of a name or a value
	MaxUnavailable = 64       // authorities that could not be asked
	MaxInformation = 32 << 10 // bytes of all items as a trace writes them, so that a trace fits a record of the log
)

// A Kind says what an item of information states. Zero is not set.
type Kind uint8

// The kinds of information.
const (
	Group     Kind = iota + 1 // is in the group Name
	Role                      // has the role Name
	Attribute                 // Name is Value: department, sales
	Clearance                 // may see what is classified Value: secret/crypto,nato
	Alias                     // is also called Value, a name of the form Name: mail, dns, uri, upn
	Device                    // the device that is used has the attribute Name with Value
)

var kinds = []string{Group: "group", Role: "role", Attribute: "attribute", Clearance: "clearance", Alias: "alias", Device: "device"}

// String returns the kind in lower case.
func (k Kind) String() string { return nameOf(kinds, int(k)) }

// ParseKind reads what String wrote.
func ParseKind(s string) (Kind, error) {
	i, err := indexOf(kinds, "kind of information", s)
	return Kind(i), err
}

// MarshalText returns String, or an error for a kind that is not set.
func (k Kind) MarshalText() ([]byte, error) {
	if k.String() == "" {
		return nil, errItemKind
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what String wrote.
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKind(string(b))
	return err
}

// A Via says how an item came to the box. Zero is not set.
type Via uint8

// The ways of information.
const (
	Channel    Via = iota + 1 // in the certificate of the secure channel
	Presented                 // in the request: a certificate, an attribute certificate
	Repository                // in the key repository
	Directory                 // in a directory, such as LDAP
	Token                     // in a token bound to the secure channel
)

var vias = []string{Channel: "channel", Presented: "presented", Repository: "repository", Directory: "directory", Token: "token"}

// String returns the way in lower case.
func (v Via) String() string { return nameOf(vias, int(v)) }

// ParseVia reads what String wrote.
func ParseVia(s string) (Via, error) {
	i, err := indexOf(vias, "way of information", s)
	return Via(i), err
}

// An Item is one piece of decryptor information: what, on whose word, until when.
type Item struct {
	Kind        Kind
	Name        string     // of a group or role; type of an attribute; form of an alias; empty for a clearance
	Value       string     // of an attribute, alias or clearance; empty for a group or role
	Authority   kra.Anchor // alias of who says so
	Via         Via
	From, Until time.Time // valid from and up to and including, in whole seconds of UTC; zero: not limited
}

// Information is what is known about a decryptor: items in one order, each once, and who could not be asked. It does not
// change. The zero Information says that nothing is known and nobody was missing.
type Information struct{ of *information }

type information struct {
	items       []Item
	unavailable []kra.Anchor
}

// NewInformation closes items and the authorities that could not be asked. It keeps no reference to either. Times become
// whole seconds, aliases their one form.
func NewInformation(items []Item, unavailable []kra.Anchor) (Information, error) {
	if len(items) > MaxItems || len(unavailable) > MaxUnavailable {
		return Information{}, fmt.Errorf("close information: %d items and %d authorities missing, at most %d and %d are allowed",
			len(items), len(unavailable), MaxItems, MaxUnavailable)
	}
	if len(items)+len(unavailable) == 0 {
		return Information{}, nil
	}
	in := &information{make([]Item, len(items)), slices.Clone(unavailable)}
	var text []byte
	for i, item := range items {
		if item.Kind == Alias {
			item.Value = NormalAlias(item.Name, item.Value)
		}
		item.From, item.Until = second(item.From), second(item.Until)
		if err := item.check(); err != nil {
			return Information{}, fmt.Errorf("close information: item %d: %w", i+1, err)
		}
		in.items[i] = item
		if text = item.append(text); len(text) > MaxInformation {
			return Information{}, errItemsLong
		}
	}
	for _, a := range unavailable {
		if _, err := kra.ParseAnchor(string(a)); err != nil {
			return Information{}, fmt.Errorf("close information: %w", err)
		}
	}
	slices.SortFunc(in.items, Item.compare)
	in.items = slices.Compact(in.items)
	slices.Sort(in.unavailable)
	in.unavailable = slices.Compact(in.unavailable)
	return Information{in}, nil
}

// second cuts a time to the form that is compared and written.
func second(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

var (
	errItemKind  = errors.New("kind or way is not set")
	errItemText  = fmt.Errorf("name or value is longer than %d bytes or not UTF-8", MaxItemText)
	errItemsLong = fmt.Errorf("close information: items are longer than %d bytes", MaxInformation)
	errItemShape = errors.New("has a name or a value where its kind has none, or none where it has one")
	errItemLife  = errors.New("ends before it begins, or beyond the years 1 to 9999")
)

func (i Item) check() error {
	if i.Kind.String() == "" || i.Via.String() == "" {
		return errItemKind
	}
	if _, err := kra.ParseAnchor(string(i.Authority)); err != nil {
		return err
	}
	if err := i.word(); err != nil {
		return err
	}
	if !i.Until.IsZero() && i.Until.Before(i.From) || i.From.Year() < 1 || i.From.Year() > 9999 || i.Until.Year() < 1 || i.Until.Year() > 9999 {
		return errItemLife
	}
	return nil
}

// Word reports whether what the item says could be something that a rule asks for: whoever says it, and for how long. What
// could not, neither makes a rule pass nor fail, and is better left out.
func (i Item) Word() bool {
	if i.Kind == Alias {
		i.Value = NormalAlias(i.Name, i.Value)
	}
	return i.word() == nil
}

func (i Item) word() error {
	if !shortText(i.Name) || !shortText(i.Value) {
		return errItemText
	}
	named, valued := i.Kind != Clearance, i.Kind != Group && i.Kind != Role
	if named != (i.Name != "") || !valued && i.Value != "" {
		return errItemShape
	}
	if i.Kind == Alias && i.Value == "" {
		return errItemShape
	}
	if i.Kind == Clearance {
		if _, err := parseClearance(i.Value); err != nil {
			return err
		}
	}
	return nil
}

func shortText(s string) bool { return len(s) <= MaxItemText && utf8.ValidString(s) }

// compare orders items by what they say, then by who says it and how.
func (i Item) compare(j Item) int {
	return cmp.Or(i.compareClaim(j.Kind, j.Authority, j.Name, j.Value), cmp.Compare(i.Via, j.Via), i.From.Compare(j.From), i.Until.Compare(j.Until))
}

func (i Item) compareClaim(k Kind, a kra.Anchor, name, value string) int {
	switch {
	case i.Kind != k:
		return cmp.Compare(i.Kind, k)
	case i.Authority != a:
		return cmp.Compare(i.Authority, a)
	case i.Name != name:
		return cmp.Compare(i.Name, name)
	}
	return cmp.Compare(i.Value, value)
}

// Items returns the items in their order. The caller must not write to them.
func (n Information) Items() []Item {
	if n.of == nil {
		return nil
	}
	return n.of.items
}

// Unavailable returns the authorities that could not be asked, sorted. The caller must not write to them.
func (n Information) Unavailable() []kra.Anchor {
	if n.of == nil {
		return nil
	}
	return n.of.unavailable
}

// nameOf and indexOf are the two directions between an enumeration, counted from 1, and its names.
func nameOf(names []string, i int) string {
	if i <= 0 || i >= len(names) {
		return ""
	}
	return names[i]
}

func indexOf(names []string, what, s string) (int, error) {
	if i := slices.Index(names, s); i > 0 {
		return i, nil
	}
	return 0, fmt.Errorf("unknown %s %q", what, clip(s))
}
