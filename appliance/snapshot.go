package appliance

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	advertising "github.com/keyrelease/krabox/appliance/board"
	"github.com/keyrelease/krabox/appliance/book"
	"github.com/keyrelease/krabox/appliance/external"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/appliance/syslog"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/replay"
)

// A board holds what the port serves from: one snapshot of the state, replaced as a whole.
type board struct {
	domain  label.Domain
	dial    dial             // for sources and services; nil: this host's
	time    func() time.Time // by which their certificates are judged; nil: this host's
	sources *inform.Keeper   // follows what was posted
	outside *external.Services
	forward *syslog.Sender      // of the log
	page    *advertising.Keeper // adverts, and what the domain permits
	now     atomic.Pointer[posted]
	astray  atomic.Pointer[error] // why the sources are not those of now

	telling sync.Mutex            // guards first
	first   *posted               // whose book is not in the log yet
	untold  atomic.Pointer[error] // why
}

// posted is a snapshot and the state that it was made of.
type posted struct {
	release.Snapshot
	state   *store.State
	informs *inform.Config // who else says something about decryptors
	serve   []external.Service
	logs    syslog.Target // that the log is forwarded to
	edit    policy.Edit   // what its book has other than book number from; 0: than the empty one
	from    uint64
}

func (b *board) snapshot() *release.Snapshot { return &b.now.Load().Snapshot }
func (b *board) book() *policy.Book          { return b.now.Load().Book }
func (b *board) world() release.World        { return world{b.sources.World()} }

// build makes the snapshot of a state from the present one, in time that depends on what changed; version is the
// generation that the state has or will have.
func (b *board) build(st *store.State, version uint64) (*posted, error) {
	old := b.now.Load()
	if old == nil {
		old = &posted{}
	}
	diff := st.Since(old.state)
	edit, err := book.Edit(st, old.state, diff)
	if err != nil {
		return nil, err
	}
	rules, from := old.Book, uint64(0)
	if rules != nil {
		from = rules.Version()
	}
	switch {
	case rules == nil:
		rules, err = policy.Load(version, edit)
	case !edit.IsZero(): // else the book that is in the log goes on
		rules, err = rules.Revise(version, edit)
	}
	if err != nil {
		return nil, err
	}
	next := &posted{Snapshot: release.Snapshot{Domain: b.domain.Name, Box: st.Box().Name, Book: rules, Anchors: old.Anchors, Directory: old.Directory},
		state: st, informs: old.informs, serve: old.serve, edit: edit, from: from}
	if len(diff.Anchors) > 0 || next.Anchors == nil {
		if next.Anchors, err = anchorsOf(st); err != nil {
			return nil, err
		}
	}
	if next.logs, err = forwardTo(st); err != nil {
		return nil, err
	}
	if next.Platforms = old.Platforms; diff.Platforms || len(diff.Anchors) > 0 || next.Platforms == nil {
		if next.Platforms, err = platformsOf(st, next.Anchors); err != nil {
			return nil, err
		}
	}
	if len(diff.Anchors)+len(diff.Sources) > 0 || next.informs == nil || next.Box != old.Box {
		c, err := informers(b.domain, st, b.dial, b.time)
		if err != nil {
			return nil, err
		}
		next.informs = &c
		if next.serve, err = servicesOf(st, b.dial, b.time); err != nil {
			return nil, err
		}
	}
	if diff.Published || next.Directory == nil {
		next.Directory = release.NewDirectory(b.domain.Name, next.Box, published{st})
	}
	return next, nil
}

// decides reports whether the snapshot's book is another than the one before it.
func (p *posted) decides() bool { return p.Book.Version() != p.from }

// log writes into the log how the snapshot's book came about, before it decides. Where the change is then not committed,
// the book is never used, and another may get its number.
func (p *posted) log(ctx context.Context, l *audit.Log) error {
	if !p.decides() {
		return nil
	}
	parts, err := replay.Parts(p.Book.Version(), p.from, p.edit)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(parts, bookParts) {
		entries := make([]audit.Entry, len(some))
		for i, part := range some {
			entries[i] = audit.Entry{Kind: receipt.Book, Book: p.Book.Version(), Private: part}
		}
		if _, err := l.Append(ctx, entries...); err != nil {
			return fmt.Errorf("log book: %w", err)
		}
	}
	return nil
}

// tell logs the first book. It may wait for a full disk, as long as the port is refused and no rule is changed: the console is what
// helps then.
func (b *board) tell(ctx context.Context, l *audit.Log) error {
	b.telling.Lock()
	defer b.telling.Unlock()
	if b.first == nil {
		return nil
	}
	if err := b.first.log(ctx, l); err != nil {
		b.untold.Store(&err)
		return err
	}
	b.first = nil
	b.untold.Store(nil)
	return nil
}

// keepTelling has the first book logged once the disk has room for it.
func (b *board) keepTelling(ctx context.Context, l *audit.Log) error {
	for t := time.NewTicker(time.Second); b.untold.Load() != nil; {
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if l.Health() != nil {
			continue
		}
		if err := b.tell(ctx, l); err != nil && !errors.Is(err, audit.ErrFull) {
			return err
		}
	}
	return nil
}

// bookParts is how many records of a long edit are appended at once.
const bookParts = 16

// use puts a snapshot to work. Sources that cannot be followed keep the box from releasing: what they would take back, it
// would not know.
func (b *board) use(p *posted) {
	old := b.now.Swap(p)
	if b.forward != nil {
		b.forward.Configure(p.logs)
	}
	if old != nil && old.informs == p.informs {
		return
	}
	if err := errors.Join(b.sources.Configure(*p.informs), b.outside.Configure(p.serve)); err != nil {
		b.astray.Store(&err)
	} else {
		b.astray.Store(nil)
	}
}

// health returns why the sources are not those of the snapshot, or why the log does not have its book, or nil.
func (b *board) health() error {
	if err := cmp.Or(b.astray.Load(), b.untold.Load()); err != nil {
		return *err
	}
	return nil
}

func anchorsOf(st *store.State) (*release.Anchors, error) {
	var all []release.Anchor
	for _, a := range st.Anchors() {
		c, err := x509.ParseCertificate(a.Cert)
		if err != nil {
			return nil, fmt.Errorf("load trust anchor %q: %w", a.Alias, err)
		}
		all = append(all, release.Anchor{Alias: a.Alias, Naming: a.Naming, Certificate: c})
	}
	return release.NewAnchors(all)
}
