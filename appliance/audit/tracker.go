package audit

import (
	"fmt"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A tracker follows hsmd's chain through the records. The head that a checkpoint carries is the highest one with
// hsmd's MAC up to which every item is in the log: records arrive in any order, so it lags a little.
type tracker struct {
	lives   map[receipt.Instance]*life
	order   []receipt.Instance // the newest receipt.MaxLives, oldest first
	current receipt.Instance   // the newest
	proven  receipt.ChainHead  // of the current life; zero before its first head
}

// A life is the chain of one instance of hsmd, and what hsmd said about heads that the records have not reached.
type life struct {
	*receipt.Life
	heads map[uint64]receipt.ChainHead
}

func newTracker() *tracker { return &tracker{lives: map[receipt.Instance]*life{}} }

// life returns the instance's chain; one never seen is hsmd's newest.
func (t *tracker) life(i receipt.Instance) *life {
	l := t.lives[i]
	if l == nil {
		l = &life{receipt.NewLife(i), map[uint64]receipt.ChainHead{}}
		t.add(l)
		t.current, t.proven = i, receipt.ChainHead{}
	}
	return l
}

// add takes the newest life, and lets go of one that ended so long ago that no item of it can be on its way to the log any more.
func (t *tracker) add(l *life) {
	t.lives[l.Instance()], t.order = l, append(t.order, l.Instance())
	if len(t.order) > receipt.MaxLives {
		delete(t.lives, t.order[0])
		t.order = t.order[1:]
	}
}

// has says whether the item is in the log.
func (t *tracker) has(i receipt.Item) bool {
	l := t.lives[i.Instance]
	return l != nil && l.Has(i.N)
}

// admit takes the items of one request, or refuses them all if one accounts for an unwrap a second time.
func (t *tracker) admit(records []record) error {
	for k := range records {
		i := records[k].item
		if i == nil {
			continue
		}
		if t.has(*i) || contains(records[:k], *i) {
			return fmt.Errorf("hsm item %d: %w", i.N, receipt.ErrTwice)
		}
	}
	for k := range records {
		if i := records[k].item; i != nil {
			if err := t.life(i.Instance).Add(*i); err != nil {
				return err
			}
		}
	}
	return nil
}

func contains(records []record, i receipt.Item) bool {
	for k := range records {
		if b := records[k].item; b != nil && b.Instance == i.Instance && b.N == i.N {
			return true
		}
	}
	return false
}

// hear takes hsmd's word, which the records may not have reached yet. What has no MAC is not its word, and what is no
// news is passed over.
func (t *tracker) hear(h receipt.ChainHead) {
	if h.Instance == (receipt.Instance{}) || h.MAC == (receipt.Hash{}) {
		return
	}
	if l := t.life(h.Instance); h.N > l.Proven() || h.Instance == t.current && t.proven == (receipt.ChainHead{}) {
		l.heads[h.N] = h
	}
}

// prove moves the current life's head as far as hsmd's word and the records go together.
func (t *tracker) prove() error {
	l := t.lives[t.current]
	if l == nil {
		return nil
	}
	var best receipt.ChainHead
	for n, h := range l.heads {
		if n <= l.N() {
			delete(l.heads, n)
			if n >= best.N {
				best = h
			}
		}
	}
	if best.Instance == (receipt.Instance{}) {
		return nil
	}
	t.proven = best
	return l.Prove(best)
}
