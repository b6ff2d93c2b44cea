package store

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// A State is one version of everything that the console can change. It never changes itself; slices and maps that its
// methods return are shared and must not be written to.
type State struct {
	officers table[Officer]
	rules    table[Rule]
	access   table[Access]
	groups   table[Group]
	anchors  table[Anchor]
	keys     table[Key]
	certs    table[Certificate]
	receipts table[ReceiptKey]
	network  table[machine.Network] // at most one row, as the three below
	clock    table[Clock]
	times    table[TimeSource]
	box      table[label.Box]
	pins     table[PINs]
	sources  table[Source]
	roles    table[Role]
	levels   table[Levels]
	retired  table[Retired]
	tags     table[Tag]
	peers    table[Peer]
	gone     table[Gone]
	asked    table[Asked]
	standby  table[Standby]

	platforms table[PlatformDomain]
	board     table[Board] // at most one row, as the next
	permit    table[Permit]
	control   table[Control] // at most one row
	requests  table[Request]
	counter   table[Counter]   // at most one row
	owners    table[Owner]     // by thing and name
	door      table[Door]      // at most one row
	backup    table[BackupKey] // the box's, and the one that waits to be approved
	syslog    table[Syslog]    // at most one row
	keeping   table[Keeping]   // at most one row
	exported  table[Exported]  // at most one row
	files     fileTable

	mark  mark
	root  [32]byte
	tree  tree
	edits []edit // what Apply changed, until it is on the disk
}

// only is the key of a table's only row.
const only = ""

const fileBucket = "file"

// Empty returns the state of which all others come by changes: it has no records.
func Empty() *State { return newState() }

func newState() *State {
	s := &State{tree: newTree()}
	for name, t := range map[string]*string{"officer": &s.officers.name, "rule": &s.rules.name, "access": &s.access.name,
		"group": &s.groups.name, "anchor": &s.anchors.name, "key": &s.keys.name, "certificate": &s.certs.name,
		"receipt": &s.receipts.name, "network": &s.network.name, "clock": &s.clock.name, "time-source": &s.times.name, "box": &s.box.name,
		"pin": &s.pins.name, "source": &s.sources.name, "role": &s.roles.name, "levels": &s.levels.name, "retired": &s.retired.name, "tag": &s.tags.name, "peer": &s.peers.name,
		"gone": &s.gone.name, "asked": &s.asked.name, "board": &s.board.name, "permissions": &s.permit.name, "platform": &s.platforms.name, "standby": &s.standby.name,
		"control": &s.control.name, "request": &s.requests.name, "counter": &s.counter.name, "owner": &s.owners.name, "door": &s.door.name, "backup": &s.backup.name, "syslog": &s.syslog.name, "keeping": &s.keeping.name, "exported": &s.exported.name,
		fileBucket: &s.files.name} {
		*t = name
	}
	return s
}

// buckets returns all tables, always in this order.
func (s *State) buckets() []bucket {
	return []bucket{&s.officers, &s.rules, &s.access, &s.groups, &s.anchors, &s.keys, &s.certs, &s.receipts, &s.network,
		&s.clock, &s.times, &s.box, &s.pins, &s.sources, &s.roles, &s.levels, &s.retired, &s.tags, &s.peers, &s.gone, &s.asked, &s.platforms, &s.standby, &s.board, &s.permit, &s.control, &s.requests, &s.counter, &s.owners, &s.door, &s.backup, &s.syslog, &s.keeping, &s.exported, &s.files}
}

// draft returns a copy that may be changed.
func (s *State) draft() *State {
	d := *s
	return &d
}

// settle ends the draft: its rows are now a state's.
func (s *State) settle() {
	for _, b := range s.buckets() {
		b.settle()
	}
}

// An Officer is somebody who administers the box, or the part of it that the duty is about.
type Officer struct {
	Name     string    `json:"name"`
	Hash     string    `json:"hash"` // argon2id, PHC form
	Duty     Duty      `json:"duty"`
	Team     string    `json:"team,omitempty"`     // of an officer of a team
	Given    bool      `json:"given,omitempty"`    // somebody else has chosen the passphrase
	Group    string    `json:"group,omitempty"`    // the group that a maintainer maintains
	Failures int       `json:"failures,omitempty"` // wrong passphrases since the last right one
	Failed   time.Time `json:"failed,omitzero"`    // when the last of them was
	Codes    *Codes    `json:"codes,omitempty"`    // the second factor, nil: none
}

// A Rule is a named rule: CEL, which only package policy understands.
type Rule struct {
	Name string `json:"name"`
	Expr string `json:"expr"`
}

// An Access is an access identifier: its keys, the first of which is current, and its rule lists in order.
type Access struct {
	ID    kra.AccessID  `json:"id"`
	Title string        `json:"title"`
	Keys  []block.KeyID `json:"keys"`
	Lists []string      `json:"lists"`

	Logic    Logic    `json:"logic,omitempty"`    // what the lists are written in
	Delivery Delivery `json:"delivery,omitempty"` // whom its keys may be handed to
	Portion  Portion  `json:"portion,omitempty"`  // how much of an age header must be there
	Rotation Rotation `json:"rotation,omitzero"`  // when it gets a new current key
}

// A Logic is what rule lists are written in. The zero Logic is that of package policy.
type Logic string

// The logics.
const (
	Rules Logic = ""
	Cedar Logic = "cedar"
)

// A Delivery says whom the keys of an access identifier may be handed to. The zero Delivery is who proved to be somebody.
type Delivery string

// The deliveries.
const (
	ToChannel Delivery = ""
	ToAnyone  Delivery = "anyone" // also who proved nothing, encrypted to the certificate of whom the rules let pass
)

// A Portion says how much of an age header must be there for a key of it to be released. The zero Portion is all of it.
type Portion string

// The portions.
const (
	WholeHeader Portion = ""
	AnyPortion  Portion = "part" // also without the MAC, as age shows it to plugins
)

// A Group is a list of decryptors, sorted, as kra.Decryptor.String writes them, and the groups within it.
type Group struct {
	Name        string   `json:"name"`
	Members     []string `json:"members"`
	Groups      []string `json:"groups"`      // sorted
	Maintainers []string `json:"maintainers"` // sorted decryptors who may change the members
	Version     uint64   `json:"version"`     // counts the changes; never the same again for this name
}

// Retired keeps what outlives a group: no group made later has a version that one before it had.
type Retired struct {
	Version uint64 `json:"version"`
}

// Levels are the classification levels of the box, lowest first.
type Levels struct {
	Names []string `json:"names"`
}

// An Anchor is a certification authority of decryptors.
type Anchor struct {
	Alias  kra.Anchor `json:"alias"`
	Naming kra.Naming `json:"naming"`
	Cert   []byte     `json:"cert"` // DER
}

// A KeyState is what a key may still be used for. The zero KeyState is refused.
type KeyState string

// The key states, after SP 800-57 part 1, section 7.
const (
	Active      KeyState = "active"      // may be an access identifier's current key
	Suspended   KeyState = "suspended"   // opens nothing for the time being
	Deactivated KeyState = "deactivated" // opens old blocks only
	Compromised KeyState = "compromised" // opens old blocks only, and is shown as what it is
)

// A Key is a key-release key in the token.
type Key struct {
	hsm.Key
	State   KeyState    `json:"state"`
	From    *Copy       `json:"from,omitempty"`   // of a copy, else nil
	Made    time.Time   `json:"made"`             // by the box's clock
	Until   time.Time   `json:"until,omitzero"`   // when its cryptoperiod ends
	Destroy time.Time   `json:"destroy,omitzero"` // when it is destroyed: until then it opens nothing
	Names   []block.Ref `json:"names,omitempty"`  // that certificates of it ever gave it: issuer and serial number, key identifier
	Bound   *Binding    `json:"bound,omitempty"`  // of a key that is in no token but while the box has a label, else nil
}

// A Binding is what a key is made usable from while the box has its label. See hsm/LABEL.md.
type Binding struct {
	Label  label.ID `json:"label"`
	Secret []byte   `json:"secret"` // a blob of the TPM
	Sealed []byte   `json:"sealed"` // the key, under that secret
}

// A Tag is the recipient by which stock age encrypts to a key without naming it. Each costs a trial for each stanza of
// stock age, so that only so many keys have one.
type Tag struct {
	Recipient string `json:"recipient"`
}

// Refs returns how headers may name the key.
func (k Key) Refs() ([]block.Ref, error) {
	refs, err := block.RefsOf(k.SPKI)
	if err != nil {
		return nil, fmt.Errorf("name key %s: %w", k.ID, err)
	}
	return append(refs, k.Names...), nil
}

// called adds the names that a certificate gives the key. The latest stay.
func (k *Key) called(cert *x509.Certificate) error {
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return invalid("the certificate has no serial number")
	}
	names := []block.Ref{block.IssuerSerialRef(cert.RawIssuer, serial)}
	if ski, err := block.SKIRef(cert.SubjectKeyId); err == nil {
		names = append(names, ski)
	}
	k.Names = slices.Clone(k.Names)
	for _, n := range names {
		if !slices.Contains(k.Names, n) {
			k.Names = append(k.Names, n)
		}
	}
	k.Names = k.Names[max(0, len(k.Names)-maxKeyNames):]
	return nil
}

// A Certificate is the path, leaf first, that certifies a key for one access identifier.
type Certificate struct {
	Access kra.AccessID `json:"access"`
	Key    block.KeyID  `json:"key"`
	Chain  [][]byte     `json:"chain"` // DER
}

// A ReceiptKey is the certificate path of a receipt key, leaf first, in use since record Index of the log.
type ReceiptKey struct {
	Index int64    `json:"index"`
	Chain [][]byte `json:"chain"` // DER
}

// A ClockSource says who vouches for the clock.
type ClockSource string

// The sources of trusted time.
const (
	Manual ClockSource = "manual" // an officer's word
	NTS    ClockSource = "nts"    // an authenticated time server
)

// A Clock is the last time that was trusted, and whose word it was. The floor is never below it.
//
// Stepped is by how far the sources of time have set the clock since an officer's word, less what a crystal may have gone wrong meanwhile.
type Clock struct {
	Time    time.Time     `json:"time"`
	Source  ClockSource   `json:"source"`
	Stepped time.Duration `json:"stepped"` // nanoseconds
}

// A Secret is text that opens something. It prints as an address; only its JSON, which records and changes are made
// of, holds it in the clear.
type Secret struct{ take func() []byte }

// NewSecret keeps a copy of text.
func NewSecret(text []byte) Secret {
	kept := append([]byte{}, text...)
	return Secret{func() []byte { return append([]byte{}, kept...) }}
}

// Bytes returns a copy for the caller to use and clear.
func (s Secret) Bytes() []byte {
	if s.take == nil {
		return nil
	}
	return s.take()
}

// size returns how many bytes it has.
func (s Secret) size() int {
	b := s.Bytes()
	defer clear(b)
	return len(b)
}

// MarshalJSON returns the text, base64.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.Bytes()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Secret) UnmarshalJSON(b []byte) error {
	var text []byte
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	if *s = (Secret{}); text != nil {
		*s = NewSecret(text)
	}
	return nil
}

// PINs open the token.
type PINs struct {
	User Secret `json:"user"`
	SO   Secret `json:"so"`
}

// Set is how many of the two there are.
func (p PINs) Set() (n int) {
	for _, s := range []Secret{p.User, p.SO} {
		if s.size() > 0 {
			n++
		}
	}
	return n
}

// Generation counts the states of this box; it never repeats and never goes back.
func (s *State) Generation() uint64 { return s.mark.Generation }

// Root is the hash over all records, generation and prev.
func (s *State) Root() [32]byte { return s.root }

// Officers returns the administrators by name.
func (s *State) Officers() []Officer { return s.officers.sorted() }

// Officer returns one administrator.
func (s *State) Officer(name string) (Officer, bool) { return s.officers.get(name) }

// Rules returns the rules by name.
func (s *State) Rules() []Rule { return s.rules.sorted() }

// Rule returns one rule.
func (s *State) Rule(name string) (Rule, bool) { return s.rules.get(name) }

// Accesses returns the access identifiers by id.
func (s *State) Accesses() []Access { return s.access.sorted() }

// Access returns one access identifier.
func (s *State) Access(id kra.AccessID) (Access, bool) { return s.access.get(string(id)) }

// Groups returns the groups by name.
func (s *State) Groups() []Group { return s.groups.sorted() }

// Group returns one group.
func (s *State) Group(name string) (Group, bool) { return s.groups.get(name) }

// Roles returns the roles by name.
func (s *State) Roles() []Role { return s.roles.sorted() }

// Role returns one role.
func (s *State) Role(name string) (Role, bool) { return s.roles.get(name) }

// Sources returns the sources by alias.
func (s *State) Sources() []Source { return s.sources.sorted() }

// Source returns one source.
func (s *State) Source(a kra.Anchor) (Source, bool) { return s.sources.get(string(a)) }

// Levels returns the classification levels, lowest first; none if the box has those of package policy.
func (s *State) Levels() []string { return s.levels.single().Names }

// Anchors returns the certification authorities by alias.
func (s *State) Anchors() []Anchor { return s.anchors.sorted() }

// Anchor returns one certification authority.
func (s *State) Anchor(a kra.Anchor) (Anchor, bool) { return s.anchors.get(string(a)) }

// Keys returns the keys by id.
func (s *State) Keys() []Key { return s.keys.sorted() }

// Key returns one key.
func (s *State) Key(id block.KeyID) (Key, bool) { return s.keys.get(id.String()) }

// Tag returns the recipient by which stock age encrypts to the key, "" if it has none.
func (s *State) Tag(id block.KeyID) string {
	t, _ := s.tags.get(id.String())
	return t.Recipient
}

// Certificate returns the path that certifies the key for the access identifier, leaf first, nil if there is none.
func (s *State) Certificate(a kra.AccessID, id block.KeyID) [][]byte {
	c, _ := s.certs.get(certKey(a, id))
	return c.Chain
}

// ReceiptKeys returns the latest receipt keys, oldest first.
func (s *State) ReceiptKeys() []ReceiptKey { return s.receipts.sorted() }

// Network returns the network configuration; the zero Mode means that none was set.
func (s *State) Network() machine.Network { return s.network.single() }

// Clock returns the last trusted time; zero means never.
func (s *State) Clock() Clock { return s.clock.single() }

// TimeSources returns the sources of time by address.
func (s *State) TimeSources() []TimeSource { return s.times.sorted() }

// Box returns how the box is called.
func (s *State) Box() label.Box { return s.box.single() }

// PINs returns what opens the token; zero Secrets before they are set.
func (s *State) PINs() PINs { return s.pins.single() }

// HasFiles says whether the token's files are here.
func (s *State) HasFiles() bool { return s.files.size() > 0 }

func certKey(a kra.AccessID, id block.KeyID) string { return string(a) + "/" + id.String() }

func receiptKey(index int64) string {
	k := strconv.FormatInt(index, 10)
	return "00000000000000000000"[len(k):] + k
}
