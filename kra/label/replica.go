package label

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	replicaRequestBlock   = "KRA REPLICA REQUEST"
	replicaRequestContext = "kra/replica-request/v1"
	replicaBlock          = "KRA REPLICA"
	replicaContext        = "kra/replica/v1"
)

// Limits of statements about copies of keys.
const (
	MaxReplicaKeys   = 32      // keys in one: what a console can paste
	MaxReplicaAccess = 1024    // access identifiers in one
	maxReplicaPart   = 8 << 10 // bytes of a key's part
	maxReplicaTitle  = 256     // bytes of a title
	maxReplicaMade   = 20      // bytes of a time
	maxTransport     = 2 << 10 // bytes of a transport key
	maxLetter        = 2 << 10 // bytes of a sealed transfer key
	earliestMade     = "2020-01-01T00:00:00Z"
)

// A ReplicaRequest is a box's wish for copies of keys: its token's transport key, to which a sender seals. That it may have any
// is for the sender to say.
type ReplicaRequest struct {
	Domain    Digest `json:"domain"`
	Box       string `json:"box"`
	Transport []byte `json:"transport"` // hsm/REPLICA.md
	Nonce     Digest `json:"nonce"`     // 32 random bytes: no two requests are one
}

// Digest names the request: an answer is to this one. The statement's key is certified for it.
func (r ReplicaRequest) Digest() Digest { return digestOf(replicaRequestContext, r) }

// A Replica is keys of one box for one other, wrapped for its token.
type Replica struct {
	Domain  Digest          `json:"domain"`
	Box     string          `json:"box"`     // whose they are
	To      string          `json:"to"`      // whom they are for
	Peer    Digest          `json:"peer"`    // of the transport key that they are wrapped for, hsm/REPLICA.md
	Request Digest          `json:"request"` // that is answered
	Letter  []byte          `json:"letter"`  // the sealed transfer key
	Keys    []ReplicaKey    `json:"keys"`
	Access  []ReplicaAccess `json:"access"`
}

// Digest is what the statement's key is certified for.
func (r Replica) Digest() Digest { return digestOf(replicaContext, r) }

// A ReplicaKey is one key. It is replicable, or it would not be here.
type ReplicaKey struct {
	SPKI    []byte `json:"spki"`
	Suite   string `json:"suite"`   // what the key is, as both consoles call it
	Custody string `json:"custody"` // what it was at the sender
	Origin  string `json:"origin"`  // where it was made, as the sender knows
	State   string `json:"state"`
	Made    string `json:"made"` // RFC 3339, seconds, UTC
	Wrapped []byte `json:"wrapped"`
	SeedKey []byte `json:"seedKey"` // of a hybrid key, else empty
	Seed    []byte `json:"seed"`    // of a hybrid key, else empty
}

// A ReplicaAccess is an access identifier and which of the keys it has, by their places, the current one first.
type ReplicaAccess struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Keys  []int  `json:"keys"`
}

func (r ReplicaRequest) check() error {
	if !namePattern.MatchString(r.Box) || len(r.Transport) == 0 || len(r.Transport) > maxTransport {
		return errors.New("no box or no transport key")
	}
	if r.Nonce == (Digest{}) {
		return errors.New("no nonce")
	}
	return nil
}

// Check says what is wrong with the form of a statement, so that it can be known before there are wrapped keys to put into it.
func (r Replica) Check() error { return r.check() }

func (r Replica) check() error {
	switch {
	case !namePattern.MatchString(r.Box) || !namePattern.MatchString(r.To):
		return errors.New("box: want [a-z0-9][a-z0-9-]{0,62}")
	case r.Box == r.To:
		return errors.New("a box has no copies for itself")
	case r.Request == Digest{}:
		return errors.New("it answers no request")
	case len(r.Letter) == 0 || len(r.Letter) > maxLetter:
		return errors.New("no transfer key")
	case len(r.Keys) == 0 || len(r.Keys) > MaxReplicaKeys:
		return fmt.Errorf("%d keys, want 1 to %d", len(r.Keys), MaxReplicaKeys)
	case len(r.Access) == 0 || len(r.Access) > MaxReplicaAccess:
		return fmt.Errorf("%d access identifiers, want 1 to %d", len(r.Access), MaxReplicaAccess)
	}
	for i, k := range r.Keys {
		if err := k.check(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	return r.checkAccess()
}

func (k ReplicaKey) check() error {
	for _, part := range [][]byte{k.SPKI, k.Wrapped, k.SeedKey, k.Seed} {
		if part == nil || len(part) > maxReplicaPart {
			return errors.New("a part is missing or too long")
		}
	}
	if len(k.SPKI) == 0 || len(k.Wrapped) == 0 {
		return errors.New("a part is empty")
	}
	for _, w := range []string{k.Suite, k.Custody, k.Origin, k.State} {
		if !printable(w, maxReplicaTitle) {
			return errors.New("a word is not printable")
		}
	}
	at, err := time.Parse(time.RFC3339, k.Made)
	if err != nil || len(k.Made) != maxReplicaMade || at.UTC().Format(time.RFC3339) != k.Made || k.Made < earliestMade {
		return errors.New("made: not a time in UTC")
	}
	return nil
}

// checkAccess wants each key to belong to something, and each access identifier once and sorted.
func (r Replica) checkAccess() error {
	used := make([]bool, len(r.Keys))
	for i, a := range r.Access {
		switch {
		case !namePattern.MatchString(a.ID) || a.Title != "" && !printable(a.Title, maxReplicaTitle):
			return errors.New("access identifier or title is malformed")
		case i > 0 && r.Access[i-1].ID >= a.ID:
			return errors.New("access identifiers are not sorted")
		case len(a.Keys) == 0 || len(a.Keys) > len(r.Keys):
			return fmt.Errorf("access identifier %q has %d keys", a.ID, len(a.Keys))
		}
		for j, k := range a.Keys {
			if k < 0 || k >= len(r.Keys) || slices.Contains(a.Keys[:j], k) {
				return fmt.Errorf("access identifier %q: its keys are not there, or there twice", a.ID)
			}
			used[k] = true
		}
	}
	if slices.Contains(used, false) {
		return errors.New("a key belongs to no access identifier")
	}
	return nil
}

// Sign gives the request in PEM, signed with a key that the chain certifies.
func (r ReplicaRequest) Sign(chain [][]byte, by crypto.Signer) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign replica request: %w", err)
	}
	text, err := signStatement(replicaRequestBlock, replicaRequestContext, r, chain, by)
	if err != nil {
		return nil, fmt.Errorf("sign replica request: %w", err)
	}
	return text, nil
}

// OpenReplicaRequest reads a request out of a text and verifies that a box of this domain made it, in an approved state.
func OpenReplicaRequest(text []byte, d Domain, at time.Time) (ReplicaRequest, Member, error) {
	r, by, err := openStatement(replicaRequestBlock, replicaRequestContext, text, d, at, ReplicaRequest.check)
	if err == nil {
		err = says(r.Domain, r.Box, d, by)
	}
	if err != nil {
		return ReplicaRequest{}, Member{}, fmt.Errorf("open replica request: %w", err)
	}
	return r, by, nil
}

// Sign gives the keys in PEM, signed with a key that the chain certifies.
func (r Replica) Sign(chain [][]byte, by crypto.Signer) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign replica: %w", err)
	}
	text, err := signStatement(replicaBlock, replicaContext, r, chain, by)
	if err != nil {
		return nil, fmt.Errorf("sign replica: %w", err)
	}
	return text, nil
}

// OpenReplica reads keys out of a text and verifies that a box of this domain made it, in an approved state. Whom they are
// for is not yet decided.
func OpenReplica(text []byte, d Domain, at time.Time) (Replica, Member, error) {
	r, by, err := openStatement(replicaBlock, replicaContext, text, d, at, Replica.check)
	if err == nil {
		err = says(r.Domain, r.Box, d, by)
	}
	if err != nil {
		return Replica{}, Member{}, fmt.Errorf("open replica: %w", err)
	}
	return r, by, nil
}

// says holds what a statement says of its maker to who made it.
func says(domain Digest, box string, d Domain, by Member) error {
	switch {
	case domain != d.Hash():
		return fmt.Errorf("it is of domain %s, this box is of domain %q (%s)", domain.Short(), d.Name, d.Hash().Short())
	case box != by.Box:
		return fmt.Errorf("it is said to be of box %q and signed by box %q", box, by.Box)
	}
	return nil
}
