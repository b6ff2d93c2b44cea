package store

import (
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of other boxes.
const (
	MaxPeers = 64
)

// A Peer is another box of the domain, to which copies of keys may be sent.
type Peer struct {
	Box       string       `json:"box"`
	Label     label.Digest `json:"label"`     // of its label key's SubjectPublicKeyInfo, when it was admitted
	Transport []byte       `json:"transport"` // of its token
	Request   label.Digest `json:"request"`   // that it was admitted by
	Letter    []byte       `json:"letter"`    // the transfer key that the token has for it, sealed to its transport key
	Since     time.Time    `json:"since"`
}

// ID is how the token calls it.
func (p Peer) ID() hsm.Peer { return hsm.PeerOf(p.Transport) }

// A Copy says where a copied key came from.
type Copy struct {
	Box    string `json:"box"`
	Origin string `json:"origin"` // there
}

// PeerSet admits a box, or admits it again, together with the token files that changed by it.
type PeerSet struct {
	Peer  Peer              `json:"peer"`
	Files map[string][]byte `json:"files"` // nil value: removed
}

func (PeerSet) kind() string { return "peer-set" }

func (c PeerSet) apply(d *State) error {
	p := c.Peer
	if err := d.CheckPeer(p); err != nil {
		return err
	}
	switch {
	case !d.peers.has(p.Box) && d.peers.size() >= MaxPeers:
		return invalid("there are %d boxes already, which is the limit", MaxPeers)
	}
	p.Since = p.Since.UTC().Truncate(time.Second)
	d.peers.put(p.Box, p)
	return TokenSet{c.Files}.apply(d)
}

// CheckPeer says what is wrong with the form of a box that is, or is to be, admitted.
func (s *State) CheckPeer(p Peer) error {
	switch {
	case kra.CheckName(p.Box) != nil:
		return invalid("box name %.80q: want a-z, 0-9 and '-', at most 63 of them, not '-' first", p.Box)
	case p.Box == s.Box().Name:
		return invalid("%q is this box", p.Box)
	case len(p.Transport) != hsm.TransportSize:
		return invalid("box %q: a transport key of %d bytes, want %d", p.Box, len(p.Transport), hsm.TransportSize)
	case len(p.Letter) != hsm.LetterSize:
		return invalid("box %q: a sealed transfer key of %d bytes, want %d", p.Box, len(p.Letter), hsm.LetterSize)
	case p.Label == label.Digest{} || p.Request == label.Digest{}:
		return invalid("box %q: its label key or its request is not known", p.Box)
	}
	return nil
}

// PeerRemove admits a box no longer. What it was sent, it has.
type PeerRemove struct {
	Box   string            `json:"box"`
	Files map[string][]byte `json:"files"` // nil value: removed
}

func (PeerRemove) kind() string { return "peer-remove" }

func (c PeerRemove) apply(d *State) error {
	if !d.peers.has(c.Box) {
		return invalid("there is no box %.80q", c.Box)
	}
	d.peers.remove(c.Box)
	return TokenSet{c.Files}.apply(d)
}

// CopyAdd takes a key that came from another box. Its token files, and what it is used for, are changes beside it.
type CopyAdd struct {
	Key   hsm.Key   `json:"key"`
	State KeyState  `json:"state"` // that it had there
	Made  time.Time `json:"made"`  // there
	From  Copy      `json:"from"`
}

func (CopyAdd) kind() string { return "copy-add" }

func (c CopyAdd) apply(d *State) error {
	if kra.CheckName(c.From.Box) != nil || !isText(c.From.Origin, MaxTitle) {
		return invalid("key %s: where it came from is not set", c.Key.ID)
	}
	if c.State != Active && c.State != Deactivated && c.State != Compromised {
		return invalid("key %s: unknown state %.40q", c.Key.ID, c.State)
	}
	if c.Key.Custody != hsm.Replicable {
		return invalid("key %s is no copy: it is %s", c.Key.ID, c.Key.Custody)
	}
	return d.putKey(Key{Key: c.Key, State: c.State, Made: c.Made, From: &c.From})
}

// Asked is the box's newest request for copies, the only one whose answers count.
type Asked struct {
	Request label.Digest `json:"request"`
}

// ReplicaAsk notes that the box makes a request for copies. What answers an earlier one counts no more.
type ReplicaAsk struct {
	Request label.Digest `json:"request"`
}

func (ReplicaAsk) kind() string { return "replica-ask" }

func (c ReplicaAsk) apply(d *State) error {
	if c.Request == (label.Digest{}) {
		return invalid("the request has no digest")
	}
	d.asked.put(only, Asked(c))
	return nil
}

// Asked returns the digest of the newest request; false if there was none.
func (s *State) Asked() (label.Digest, bool) {
	a, ok := s.asked.get(only)
	return a.Request, ok
}

// Peers returns the boxes to which copies may be sent, by name.
func (s *State) Peers() []Peer { return s.peers.sorted() }

// Peer returns one of them.
func (s *State) Peer(box string) (Peer, bool) { return s.peers.get(box) }
