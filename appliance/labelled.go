package appliance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// How often the TPM is asked whether a label can still be had, which an operator's time ends without a word; and whether one can be had
// again, of which the console tells at once.
const (
	stillEvery = 10 * time.Second
	againEvery = time.Minute
	followIn   = 30 * time.Second // bounds one round
)

// A binder has the TPM keep secrets that it gives back only while the box has a label: Refused while it has not.
type binder interface {
	BindSecret(ctx context.Context, l label.ID, secret []byte) (blob []byte, err error)
	OpenSecret(ctx context.Context, l label.ID, blob []byte) (secret []byte, err error)
}

// A loader is the part of hsmd that makes and loads keys bound to a label: see hsm/LABEL.md.
type loader interface {
	Enclose(ctx context.Context, s hsm.Suite, l label.ID, secret []byte) (hsm.Key, hsm.Enclosed, error)
	Load(ctx context.Context, e hsm.Enclosed, secret []byte) (hsm.Key, error)
	Unload(ctx context.Context, id block.KeyID) error
	Loaded(ctx context.Context) ([]hsm.Key, error)
}

// A labelled keeps hsmd's loaded keys what the labels of the box allow: whatever says that a label cannot be had, be it that the TPM
// does not answer, unloads its keys.
//
//	TPM, the operator, a change of the store, hsmd's life ──► Follow ──► Load, Unload at hsmd
//	                                                             └─────► absent, one pointer swap ──► why a release was refused
type labelled struct {
	tpm   binder
	hsm   loader
	state func() *store.State
	log   *slog.Logger
	again chan struct{} // something has changed

	mu     sync.Mutex                            // one round at a time
	absent atomic.Pointer[map[block.KeyID]error] // why a key cannot be used
}

// A following is a labelled with a connection of its own to the TPM: who waits for a leaf or the record does not wait for it, nor it for
// challengers.
type following struct {
	*labelled
	close func() error
}

// followLabels has the keys that are bound to labels follow them. None of them can be used before the first Follow.
func (a *agent) followLabels(o opened, h *hsm.Client) (following, error) {
	t, err := tpm.Dial(a.o.tpm)
	if err != nil {
		return following{}, err
	}
	return following{newLabelled(t, h, o.store.State, a.log), t.Close}, nil
}

func newLabelled(t binder, h loader, state func() *store.State, log *slog.Logger) *labelled {
	l := &labelled{tpm: t, hsm: h, state: state, log: log, again: make(chan struct{}, 1)}
	l.absent.Store(&map[block.KeyID]error{})
	return l
}

// Enclose makes a key that is bound to a label, whether the box has that now or not. The secret is nowhere when it returns.
func (l *labelled) Enclose(ctx context.Context, s hsm.Suite, to label.ID) (hsm.Key, store.Binding, error) {
	secret := make([]byte, hsm.LabelSecret)
	rand.Read(secret)
	defer clear(secret)
	blob, err := l.tpm.BindSecret(ctx, to, secret)
	if err != nil {
		return hsm.Key{}, store.Binding{}, fmt.Errorf("bind key to label %s: %w", to, err)
	}
	k, e, err := l.hsm.Enclose(ctx, s, to, secret)
	if err != nil {
		return hsm.Key{}, store.Binding{}, err
	}
	return k, store.Binding{Label: to, Secret: blob, Sealed: e.Sealed}, nil
}

// An unusable key is one that hsmd has not loaded. To the release port it is not in the HSM.
type unusable struct{ error }

func (unusable) Is(target error) bool { return target == release.ErrNoKey }

func notPresent(l label.ID, why error) error {
	return unusable{fmt.Errorf("label %s is not present: %w", l, why)}
}

// Usable says why a key cannot be used now, or nothing. It waits for nothing.
func (l *labelled) Usable(id block.KeyID) error { return (*l.absent.Load())[id] }

// Follow makes every key usable whose label can be had now, and no other.
func (l *labelled) Follow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), followIn)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := round{labelled: l, ctx: ctx, absent: map[block.KeyID]error{}, loaded: map[block.KeyID]bool{}}
	keys := l.state().Labelled()
	if err := r.look(); err != nil { // nobody can use what nobody answers for
		for _, k := range keys {
			r.absent[k.ID] = notPresent(k.Bound.Label, err)
		}
	} else {
		r.settle(keys)
	}
	l.swap(r.absent)
}

// swap publishes why keys cannot be used, and says what is new.
func (l *labelled) swap(now map[block.KeyID]error) {
	was := *l.absent.Swap(&now)
	for id, why := range now {
		if was[id] == nil || was[id].Error() != why.Error() {
			l.log.Info("key cannot be used", "key", id.String(), "reason", why)
		}
	}
	for id := range was {
		if now[id] == nil {
			l.log.Info("key can be used again", "key", id.String())
		}
	}
}

// A round is one pass over the keys.
type round struct {
	*labelled
	ctx    context.Context
	loaded map[block.KeyID]bool
	absent map[block.KeyID]error
}

func (r *round) look() error {
	all, err := r.hsm.Loaded(r.ctx)
	for _, k := range all {
		r.loaded[k.ID] = true
	}
	return err
}

// settle asks for each label once, by its first key, and for each key that is to be loaded.
func (r *round) settle(keys []store.Key) {
	has := map[label.ID]error{} // the labels asked for so far; nil: it can be had
	for _, k := range keys {
		l := k.Bound.Label
		why, asked := has[l]
		if !asked || why == nil && !r.loaded[k.ID] {
			var secret []byte
			secret, why = r.tpm.OpenSecret(r.ctx, l, k.Bound.Secret)
			has[l] = why
			if why == nil && !r.loaded[k.ID] {
				r.load(k, secret)
			}
			clear(secret)
		}
		if why != nil {
			r.unload(k.ID)
			r.absent[k.ID] = notPresent(l, why)
		}
		delete(r.loaded, k.ID)
	}
	for id := range r.loaded { // of none that is stored
		r.unload(id)
	}
}

func (r *round) load(k store.Key, secret []byte) {
	_, err := r.hsm.Load(r.ctx, hsm.Enclosed{Key: k.SPKI, Label: k.Bound.Label, Sealed: k.Bound.Sealed}, secret)
	if err != nil {
		r.absent[k.ID] = unusable{err}
	}
}

func (r *round) unload(id block.KeyID) {
	if !r.loaded[id] {
		return
	}
	if err := r.hsm.Unload(r.ctx, id); err != nil && !errors.Is(err, hsm.ErrNoKey) {
		r.log.Error("unload key", "key", id.String(), "err", err)
	}
}

// changed has a round begin soon. It waits for nothing.
func (l *labelled) changed() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// keep follows the labels until ctx ends. While there are no such keys, the TPM is left alone.
func (l *labelled) keep(ctx context.Context) {
	t := time.NewTicker(stillEvery)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.again:
		case <-t.C:
			if !l.due(last) {
				continue
			}
		}
		last = time.Now()
		l.Follow(ctx)
	}
}

// due says whether a round is: while a key can be used, at each tick.
func (l *labelled) due(last time.Time) bool {
	keys := l.state().Labelled()
	return len(keys) > len(*l.absent.Load()) || len(keys) > 0 && time.Since(last) >= againEvery
}
