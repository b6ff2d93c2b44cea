package board

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/label"
)

// Run advertises, looks at the domain's board and keeps the page, until ctx ends; then it takes back what it has posted.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	for {
		k.round(ctx)
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), retractWait)
			defer cancel()
			k.retract(end, func(label.ID) bool { return true })
			return
		case <-t.C:
		case <-k.wake:
		}
	}
}

// round does what is due. Only Run calls it.
func (k *Keeper) round(ctx context.Context) {
	now := k.c.Clock()
	k.mu.Lock()
	renew := k.renewed.IsZero() || now.Sub(k.renewed) >= renewEvery || now.Before(k.renewed) || k.unsaid != nil && now.Sub(k.renewed) >= retryEvery
	look := k.set.URL != "" && (k.tried.IsZero() || now.Sub(k.tried) >= k.pace() || now.Before(k.tried))
	k.mu.Unlock()
	if renew {
		k.renew(ctx, now)
	}
	if look {
		k.look(ctx, now)
	}
	k.tell()
	k.post(ctx)
	k.paint(k.c.Clock())
}

// pace is how long to wait after the last look. It needs mu.
func (k *Keeper) pace() time.Duration {
	if k.failed != nil {
		return min(retryEvery, k.set.Every)
	}
	return k.set.Every
}

// renew has tpmd say anew what the box could be, and believes it no more than any reader does.
func (k *Keeper) renew(ctx context.Context, now time.Time) {
	adverts, err := k.c.TPM.Advertise(ctx, k.c.Addresses, advertLife)
	var offers []label.Offered
	for _, a := range adverts {
		o, bad := a.Verify(k.roots, now)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		offers = append(offers, o)
	}
	if err == nil && len(offers) == 0 {
		err = errors.New("no label can be had in the present state")
	}
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.unsaid == nil || k.unsaid.Error() != err.Error()) {
		k.c.Log.Error("advertise", "err", err)
	}
	k.adverts, k.offers, k.renewed, k.unsaid, k.outdated = adverts, offers, now, err, true
	k.settle()
}

// look fetches what the domain permits.
func (k *Keeper) look(ctx context.Context, now time.Time) {
	k.mu.Lock()
	s, known := k.set, k.known
	k.mu.Unlock()
	got, err := k.fetch(ctx, s)
	if err == nil {
		err = k.acceptable(got, known, now)
	}
	if err == nil && (known == nil || got.Permissions.Sequence > known.Permissions.Sequence) {
		err = k.c.Save(ctx, got)
	}
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set.URL != s.URL {
		return // told otherwise meanwhile
	}
	k.tried, k.failed = now, err
	if err == nil {
		k.visited, k.outdated = now, true
		if k.known == nil || got.Permissions.Sequence >= k.known.Permissions.Sequence {
			k.known = &got
		}
	} else {
		k.c.Log.Warn("look at the domain's board", "url", s.URL, "err", err)
	}
	k.settle()
}

// tell logs when the box stops and begins to release, and when the reason becomes another.
func (k *Keeper) tell() {
	err := k.Health()
	kind := err
	for _, known := range []error{ErrStale, label.ErrStale, label.ErrEarly, label.ErrRevoked, label.ErrNotGranted, label.ErrOldRelease} {
		if errors.Is(err, known) {
			kind = known
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	word := ""
	if kind != nil {
		word = kind.Error()
	}
	if word == k.told {
		return
	}
	k.told = word
	if err != nil {
		k.c.Log.Error("the domain does not let the box release", "reason", err)
	} else {
		k.c.Log.Info("the domain lets the box release")
	}
}

// acceptable: of this domain, current, and not older than what the box remembers.
func (k *Keeper) acceptable(s label.SignedPermissions, known *label.SignedPermissions, now time.Time) error {
	p, err := s.Verify(k.c.Domain)
	if err != nil {
		return err
	}
	if err := p.Current(now); err != nil {
		return err
	}
	if known != nil {
		return p.Follows(known.Permissions)
	}
	return nil
}

// mayAdvertise: the box could release now, and its domain lets it.
func (k *Keeper) mayAdvertise() bool { return k.c.Able() == nil && k.Health() == nil }

// post brings the domain's board to where the box is: its adverts while it could do what they say, their retraction when it cannot.
func (k *Keeper) post(ctx context.Context) {
	able := k.mayAdvertise()
	k.mu.Lock()
	if able != k.able {
		k.able, k.outdated = able, true
	}
	s, adverts := k.set, k.adverts
	k.mu.Unlock()
	if s.URL == "" {
		return
	}
	if !able {
		adverts = nil
	}
	k.retract(ctx, func(l label.ID) bool {
		return !slices.ContainsFunc(adverts, func(a label.SignedAdvert) bool { return a.Advert.Label == l })
	})
	if k.mayPost() {
		k.postAll(ctx, s, adverts)
	}
}

// mayPost: after a failure the board is left alone for a while.
func (k *Keeper) mayPost() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	since := k.c.Clock().Sub(k.refused)
	return k.refused.IsZero() || since < 0 || since >= retryEvery
}

func (k *Keeper) postAll(ctx context.Context, s Settings, adverts []label.SignedAdvert) {
	for _, a := range adverts {
		k.mu.Lock()
		done := k.posted[a.Advert.Label] >= a.Advert.Serial
		k.mu.Unlock()
		if done {
			continue
		}
		err := k.send(ctx, s, board.PathAdverts, a.Bytes())
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		k.refused = time.Time{}
		if err == nil {
			k.posted[a.Advert.Label] = a.Advert.Serial
		} else {
			k.refused = k.c.Clock()
		}
		k.mu.Unlock()
		if err != nil {
			k.c.Log.Warn("post on the domain's board", "label", a.Advert.Label, "err", err)
			return
		}
	}
}

// retract takes back what stands on the domain's board of the labels of which over says that they are.
func (k *Keeper) retract(ctx context.Context, over func(label.ID) bool) {
	k.mu.Lock()
	s := k.set
	var labels []label.ID
	for l := range k.posted {
		if over(l) {
			labels = append(labels, l)
		}
	}
	k.mu.Unlock()
	for _, l := range labels {
		r, err := k.c.TPM.Retract(ctx, l)
		if err == nil && s.URL != "" {
			err = k.send(ctx, s, board.PathRetractions, r.Bytes())
		}
		if err != nil {
			k.c.Log.Warn("retract advert", "label", l, "err", err) // it ends by itself
		}
		k.mu.Lock()
		delete(k.posted, l)
		k.renewed, k.outdated = time.Time{}, true // a new advert has a new number
		k.mu.Unlock()
		if err == nil {
			k.c.Log.Info("advert retracted", "label", l)
		}
	}
}

// paint makes the page, if it is not what it would be now.
func (k *Keeper) paint(now time.Time) {
	k.mu.Lock()
	due := k.outdated || k.made.IsZero() || now.Sub(k.made) >= pageFor || now.Before(k.made)
	adverts, known, able := k.adverts, k.known, k.able
	k.outdated = false
	k.mu.Unlock()
	if !due {
		return
	}
	if !able {
		adverts = nil // it promises nothing that it could not do
	}
	b := board.New(k.c.Domain.Name, adverts, known)
	at := "https://" + k.c.Box
	if len(k.c.Addresses) > 0 {
		at = k.c.Addresses[0]
	}
	all, err := board.Draw(board.View{Box: k.c.Box, At: at, Root: k.root, Keys: k.c.Keys(), Board: b}, k.roots, now)
	if err != nil {
		k.c.Log.Error("make page", "err", err)
		return
	}
	k.mu.Lock()
	k.made = now
	k.mu.Unlock()
	k.pages.Store(&all)
}
