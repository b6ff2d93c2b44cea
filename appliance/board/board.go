// Package board is a box's side of boards: what it advertises on its own page and on its domain's, and what the domain permits it to be.
//
//	tpmd signs adverts ─► own page            domain's board ─► permissions, verified ─► remembered ─► may the box release?
//	         └──────────► domain's board                              pasted ─┘
package board

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/label"
)

// Pace of advertising.
const (
	advertLife  = 6 * time.Hour
	renewEvery  = advertLife / 3
	retryEvery  = 30 * time.Second
	checkEvery  = 5 * time.Second // health of what is advertised; age of the page
	pageFor     = time.Minute
	retractWait = 5 * time.Second // at the end
)

// An advertiser is tpmd: it makes and signs the statements itself, in a state that the domain approved, and in no other.
type advertiser interface {
	// Advertise signs adverts of every label that the box can be now. There may be none.
	Advertise(ctx context.Context, addresses []string, life time.Duration) ([]label.SignedAdvert, error)
	// Retract takes back all adverts of a label.
	Retract(ctx context.Context, l label.ID) (label.SignedRetraction, error)
}

// A Config is what a Keeper works with.
type Config struct {
	Domain    label.Domain
	Box       string
	Addresses []string // https://HOST:PORT
	TPM       advertiser
	Clock     func() time.Time // never before the box's floor
	Able      func() error     // why the box could not release now, apart from what its domain permits; nil if it could
	Keys      func() []board.Key
	Save      func(context.Context, label.SignedPermissions) error // returns when the box will remember them
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Log       *slog.Logger
}

// Settings are the domain's board; the zero value is none.
type Settings struct {
	URL          string
	CA           [][]byte // DER
	Every, Limit time.Duration
}

// A Keeper keeps page, adverts and permissions of a box.
type Keeper struct {
	c     Config
	root  *x509.Certificate
	roots *x509.CertPool
	wake  chan struct{} // one place: something changed

	mu       sync.Mutex // guards what follows
	set      Settings
	known    *label.SignedPermissions
	visited  time.Time // of the last good look at the board
	tried    time.Time // of the last look
	failed   error     // of the last look
	adverts  []label.SignedAdvert
	offers   []label.Offered // of adverts
	renewed  time.Time
	unsaid   error               // why the box cannot say what it is; nil if it can
	posted   map[label.ID]uint64 // serials that stand on the domain's board
	refused  time.Time           // when it last did not take one
	made     time.Time           // of the page
	able     bool                // as last looked
	told     string              // the kind of reason that was logged last
	outdated bool                // the page is not what it would be now

	standing atomic.Pointer[standing]
	pages    atomic.Pointer[map[string]board.Document]
	verdict  atomic.Pointer[verdict]
}

// A verdict is what permits said of a standing in one second: a release does not look through all entries again.
type verdict struct {
	of     *standing
	second int64
	err    error
}

// standing is what Health goes by. It does not change.
type standing struct {
	set     Settings
	known   *label.SignedPermissions
	visited time.Time
	failed  error
	self    *label.Offered // of label key-release; nil: the box cannot say what it is
	unsaid  error
}

// New makes a keeper of a box; what it remembers and where it looks, Configure says.
func New(c Config) (*Keeper, error) {
	root, err := c.Domain.Certificate()
	if err != nil {
		return nil, err
	}
	k := &Keeper{c: c, root: root, roots: x509.NewCertPool(), wake: make(chan struct{}, 1), posted: map[label.ID]uint64{}, able: true, outdated: true}
	k.roots.AddCert(root)
	k.settle()
	return k, nil
}

// Configure follows a committed state: where to look, and the newest permissions that the box remembers.
func (k *Keeper) Configure(s Settings, known *label.SignedPermissions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.URL != k.set.URL {
		k.visited, k.tried, k.failed = time.Time{}, time.Time{}, nil
		clear(k.posted)
		k.refused = time.Time{}
	}
	k.set = s
	if known != nil && (k.known == nil || known.Permissions.Sequence >= k.known.Permissions.Sequence) {
		k.known = known
	}
	k.outdated = true
	k.settle()
	k.stir()
}

// settle puts the present standing where Health reads it. It needs mu.
func (k *Keeper) settle() {
	s := &standing{set: k.set, known: k.known, visited: k.visited, failed: k.failed, unsaid: k.unsaid}
	for i, o := range k.offers {
		if o.Advert().Label == label.KeyRelease {
			s.self = &k.offers[i]
		}
	}
	k.standing.Store(s)
}

// stir has Run look again now.
func (k *Keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// ErrStale is the error of a box that has not heard of its domain for longer than it may.
var ErrStale = errors.New("the box has not seen its domain's board for too long")

// Health returns why the domain does not let the box release, or nil. It waits for nothing.
func (k *Keeper) Health() error {
	s, now := k.standing.Load(), k.c.Clock()
	if v := k.verdict.Load(); v != nil && v.of == s && v.second == now.Unix() {
		return v.err
	}
	v := &verdict{s, now.Unix(), s.permits(now, k.c.Box)}
	k.verdict.Store(v)
	return v.err
}

func (s *standing) permits(now time.Time, box string) error {
	if err := s.fresh(now); err != nil {
		return err
	}
	if s.known == nil {
		return nil
	}
	p := s.known.Permissions
	if err := p.Current(now); err != nil {
		return err
	}
	if s.self == nil {
		return fmt.Errorf("the box cannot show its domain what it is: %w", orNone(s.unsaid))
	}
	if err := p.Allows(label.KeyRelease, box, s.self.Key(), now, s.self.Attester()); err != nil {
		return err
	}
	for _, v := range s.self.Values() { // of the registers of this boot
		if err := p.Runs(v.Version); err != nil {
			return err
		}
	}
	return nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("it has made no advert yet")
	}
	return err
}

// fresh: a box that asks a board has seen it within the limit, and has permissions of it. Until the first look after a start, the
// permissions' own date counts.
func (s *standing) fresh(now time.Time) error {
	if s.set.URL == "" {
		return nil
	}
	seen := s.visited
	if s.known != nil && s.known.Permissions.Issued.After(seen) {
		seen = s.known.Permissions.Issued
	}
	switch {
	case s.known == nil:
		return fmt.Errorf("%w: it has no permissions yet: %w", ErrStale, orUntried(s.failed))
	case now.Sub(seen) > s.set.Limit:
		return fmt.Errorf("%w: last on %s: %w", ErrStale, seen.UTC().Format(time.DateTime), orUntried(s.failed))
	}
	return nil
}

func orUntried(err error) error {
	if err == nil {
		return errors.New("no look has succeeded since the start")
	}
	return err
}

// Permissions are the newest that the box knows, nil if there are none. Whoever believes a label asks them.
func (k *Keeper) Permissions() *label.SignedPermissions { return k.standing.Load().known }

// Documents are the box's own page, ready to be sent, by path. They do not change.
func (k *Keeper) Documents() map[string]board.Document {
	if p := k.pages.Load(); p != nil {
		return *p
	}
	return nil
}

// Lines say for the console how things stand.
func (k *Keeper) Lines() (out []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Clock()
	if err := k.standing.Load().permits(now, k.c.Box); err != nil {
		out = append(out, "NOTHING IS RELEASED: "+err.Error())
	} else {
		out = append(out, "the domain permits the box to release")
	}
	for _, o := range k.offers {
		a := o.Advert()
		out = append(out, fmt.Sprintf("advertises label %s until %s UTC, number %d", a.Label, a.Until.Format(time.DateTime), a.Serial))
	}
	if k.unsaid != nil {
		out = append(out, "cannot advertise: "+k.unsaid.Error())
	}
	switch {
	case k.set.URL == "":
	case k.visited.IsZero():
		out = append(out, "has not seen the board since the start")
	default:
		out = append(out, "saw the board on "+k.visited.UTC().Format(time.DateTime)+" UTC")
	}
	if k.failed != nil {
		out = append(out, "last look failed: "+k.failed.Error())
	}
	return out
}
