package inform

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/appliance/inform/crl"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/repository"
)

// A Keeper fetches what the sources of a configuration say, in the background, and has the newest World. It is used by
// many goroutines at once.
type Keeper struct {
	clock func() time.Time
	log   *slog.Logger
	world atomic.Pointer[World]

	ctx  context.Context // of all feeds: it ends with Close
	stop context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conf  Config
	feeds map[kra.Anchor]*feed
}

// NewKeeper makes a keeper without sources. clock is the box's; a nil log writes nothing.
func NewKeeper(clock func() time.Time, log *slog.Logger) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{clock: clock, log: log, feeds: map[kra.Anchor]*feed{}}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.world.Store(&World{})
	return k
}

// World returns the newest World. The pointer changes when anything in it does.
func (k *Keeper) World() *World { return k.world.Load() }

// Close ends all background work and waits for it. The last World stays.
func (k *Keeper) Close() {
	k.stop()
	k.mu.Lock()
	for _, f := range k.feeds {
		f.end()
	}
	k.mu.Unlock()
	k.work.Wait()
}

// Configure replaces the sources; when it returns, World knows the new ones and has forgotten the others. A source whose
// alias and stamp are those of before keeps what it has. It waits for no network.
func (k *Keeper) Configure(c Config) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("configure sources: %w", err)
	}
	wanted, err := k.feedsOf(c)
	if err != nil {
		return fmt.Errorf("configure sources: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return errors.New("configure sources: keeper is closed")
	}
	before := k.feeds
	k.feeds = map[kra.Anchor]*feed{}
	for _, f := range wanted {
		if old := before[f.alias]; old != nil && old.stamp == f.stamp {
			k.feeds[f.alias] = old
			continue
		}
		k.feeds[f.alias] = f
		k.start(f)
	}
	for alias, old := range before {
		if k.feeds[alias] != old {
			old.end()
		}
	}
	k.conf = c
	k.publish()
	return nil
}

// feedsOf makes a feed, not started, for each source that has something to keep. What was pasted is read at once; if that
// fails the source has nothing, which closes what depends on it.
func (k *Keeper) feedsOf(c Config) (all []*feed, err error) {
	for _, d := range c.Directories {
		all = append(all, &feed{alias: d.Alias, stamp: "directory " + d.Stamp, every: d.Every, maxAge: d.MaxAge,
			get: func(ctx context.Context, _ found) (found, error) {
				image, err := d.Server.Sync(ctx)
				if err == nil && image == nil {
					err = errors.New("directory gave no image")
				}
				return found{image: image}, err
			}})
	}
	for _, r := range c.Repositories {
		f := &feed{alias: r.Alias, stamp: "repository " + r.Stamp, every: r.Every, maxAge: r.MaxAge,
			until: func(x found) time.Time { return x.repository.Until() }}
		fetch := fetcher{}
		if r.URL == "" {
			f.every, f.maxAge = 0, 0
		} else if fetch, err = newFetcher(under(r.URL, repository.AllFile), repository.MaxImage, r.Roots, c); err != nil {
			return nil, fmt.Errorf("source %s: %w", r.Alias, err)
		}
		f.get = func(ctx context.Context, last found) (found, error) { return fetch.repository(ctx, r.Key, last) }
		k.paste(f, r.Pasted, func(b []byte) (found, error) {
			image, err := r.Key.Parse(asFile(b))
			return found{repository: image}, err
		})
		all = append(all, f)
	}
	for _, r := range c.Revocations {
		f := &feed{alias: r.Alias, stamp: "list " + r.Stamp + fingerprint(r.issuers()), every: r.Every}
		fetch := fetcher{}
		if r.URL == "" {
			f.every = 0
		} else if fetch, err = newFetcher(r.URL, crl.MaxSize, r.Roots, c); err != nil {
			return nil, fmt.Errorf("source %s: %w", r.Alias, err)
		}
		f.get = func(ctx context.Context, last found) (found, error) { return fetch.list(ctx, r, last) }
		k.paste(f, r.Pasted, r.parse)
		all = append(all, f)
	}
	return all, nil
}

// fingerprint changes when one of the certificates does.
func fingerprint(certs []*x509.Certificate) string {
	h := sha256.New()
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	return string(h.Sum(nil))
}

func (k *Keeper) paste(f *feed, b []byte, parse func([]byte) (found, error)) {
	if len(b) == 0 {
		return
	}
	got, err := parse(b)
	if f.err = err; err == nil {
		f.last, f.fetched = got, time.Now()
	}
}

// asFile gives lines that went through a terminal the line ends of a file.
func asFile(b []byte) []byte {
	return append(bytes.TrimSpace(bytes.ReplaceAll(b, []byte("\r"), nil)), '\n')
}

// repository fetches the newest image. One that is older than the last is not taken: somebody shows yesterday's.
func (f fetcher) repository(ctx context.Context, key repository.Key, last found) (found, error) {
	b, err := f.get(ctx)
	if err != nil {
		return found{}, err
	}
	image, err := key.Parse(b)
	if err != nil {
		return found{}, err
	}
	if last.repository != nil && image.From().Before(last.repository.From()) {
		return found{}, fmt.Errorf("fetch %s: repository of %s, older than what is known", f.url, image.From().Format(time.DateTime))
	}
	return found{repository: image}, nil
}

// list fetches the newest revocation list, and does not go back to an older one.
func (f fetcher) list(ctx context.Context, r Revocation, last found) (found, error) {
	b, err := f.get(ctx)
	if err != nil {
		return found{}, err
	}
	got, err := r.parse(b)
	if err != nil {
		return found{}, err
	}
	if last.list != nil && last.list.Newer(got.list) {
		return found{}, fmt.Errorf("fetch %s: list of %s, older than what is known", f.url, got.list.From().UTC().Format(time.DateTime))
	}
	return got, nil
}

// start begins a feed's work. The lock is held.
func (k *Keeper) start(f *feed) {
	ctx, cancel := context.WithCancel(k.ctx)
	f.stop = cancel
	if !f.fetched.IsZero() {
		k.expire(f)
	}
	if f.err != nil {
		k.log.Warn("what was pasted cannot be read", "source", f.alias, "err", f.err)
	}
	if f.every == 0 {
		return
	}
	last := f.last
	k.work.Go(func() { f.run(ctx, last, func(began time.Time, got found, err error) { k.done(f, began, got, err) }) })
}

// end stops a feed. The lock is held.
func (f *feed) end() {
	f.ended = true
	f.stop()
	if f.expiry != nil {
		f.expiry.Stop()
	}
}

// done takes the outcome of a try. What it found is as old as its beginning.
func (k *Keeper) done(f *feed, began time.Time, got found, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f.ended {
		return
	}
	if f.err = err; err != nil {
		k.log.Warn("source cannot be read", "source", f.alias, "err", err)
		return
	}
	f.last, f.fetched = got, began
	k.expire(f)
	k.publish()
}

// expire has what a feed holds forgotten when it is too old. The time that passes counts, not what a clock is set to.
func (k *Keeper) expire(f *feed) {
	if f.expiry != nil {
		f.expiry.Stop()
		f.expiry = nil
	}
	wait, ends := f.maxAge-time.Since(f.fetched), f.maxAge > 0
	if f.until != nil {
		left := max(f.until(f.last).Add(time.Second).Sub(k.clock()), 0)
		if !ends || left < wait {
			wait, ends = left, true
		}
	}
	if !ends {
		return
	}
	of := f.fetched
	f.expiry = time.AfterFunc(wait, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if f.ended || f.fetched != of {
			return
		}
		k.log.Warn("source is too old, and unavailable", "source", f.alias)
		f.last, f.fetched = found{}, time.Time{}
		k.publish()
	})
}

// publish swaps in the World of what is known now. The lock is held.
func (k *Keeper) publish() {
	w := &World{conf: k.conf, found: map[kra.Anchor]found{}, proved: &proved{}}
	for alias, f := range k.feeds {
		if !f.fetched.IsZero() {
			w.found[alias] = f.last
		}
	}
	k.world.Store(w)
}

// A Status says how a source that is fetched or pasted is.
type Status struct {
	Alias   kra.Anchor
	Fetched time.Time // last good answer; zero: there is none, and the source is unavailable
	Until   time.Time // when that answer ends by itself; zero: it does not
	Err     error     // of the last try
}

// Status returns how the sources are, sorted by alias.
func (k *Keeper) Status() []Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Status
	for alias, f := range k.feeds {
		s := Status{Alias: alias, Fetched: f.fetched, Err: f.err}
		switch {
		case f.last.list != nil:
			s.Until = f.last.list.Until()
		case f.last.repository != nil:
			s.Until = f.last.repository.Until()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Alias, b.Alias) })
	return all
}
