package audit

import (
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A tracker follows hsmd's chain through the records. The head that a checkpoint may carry is the highest one with
// hsmd's MAC up to which every item is in the log: records arrive in any order, so it lags a little.
type tracker struct {
	lives   map[receipt.Instance]*life
	current receipt.Instance  // the newest life of hsmd
	proven  receipt.ChainHead // of the current life; zero before its first head
}

// A life is the chain of one instance of hsmd.
type life struct {
	n       uint64                       // every item up to n is in the log
	head    [32]byte                     // after item n
	pending map[uint64]receipt.Item      // items above n that are in the log
	heads   map[uint64]receipt.ChainHead // hsmd's word about heads at or above n
}

var (
	// ErrTwice is returned by Append for an entry that accounts for an unwrap a second time. Nothing was logged.
	ErrTwice = errors.New("this unwrap is in the log already")
	errChain = errors.New("hsmd's chain head does not follow from the records")
)

func newTracker() *tracker { return &tracker{lives: map[receipt.Instance]*life{}} }

// has says whether the item is in the log.
func (t *tracker) has(i receipt.Item) bool {
	l := t.lives[i.Instance]
	if l == nil {
		return false
	}
	_, above := l.pending[i.N]
	return above || i.N <= l.n
}

// admit takes the items of one request, or refuses them all if one accounts for an unwrap a second time.
func (t *tracker) admit(records []record) error {
	for k := range records {
		i := records[k].item
		if i == nil {
			continue
		}
		if t.has(*i) {
			return fmt.Errorf("item %d: %w", i.N, ErrTwice)
		}
		for _, before := range records[:k] {
			if b := before.item; b != nil && b.Instance == i.Instance && b.N == i.N {
				return fmt.Errorf("item %d: %w", i.N, ErrTwice)
			}
		}
	}
	for k := range records {
		if i := records[k].item; i != nil {
			t.life(i.Instance).pending[i.N] = *i
		}
	}
	return nil
}

// add goes on with an admitted item and hsmd's word, either of which may be absent.
func (t *tracker) add(i *receipt.Item, h receipt.ChainHead) error {
	if h.Instance != (receipt.Instance{}) {
		l := t.life(h.Instance)
		if h.N > l.n {
			l.heads[h.N] = h
		} else if h.N == l.n && h.Head != l.head {
			return errChain
		} else if h.N == l.n && h.Instance == t.current {
			t.proven = h
		}
	}
	if i != nil {
		return t.advance(i.Instance)
	}
	return nil
}

// life returns the instance's chain; one never seen is hsmd's newest.
func (t *tracker) life(i receipt.Instance) *life {
	l := t.lives[i]
	if l == nil {
		l = &life{head: receipt.FirstHead(i), pending: map[uint64]receipt.Item{}, heads: map[uint64]receipt.ChainHead{}}
		t.lives[i], t.current, t.proven = l, i, receipt.ChainHead{}
	}
	return l
}

// advance moves the instance's head over every item that now follows without a gap.
func (t *tracker) advance(instance receipt.Instance) error {
	l := t.lives[instance]
	for {
		i, ok := l.pending[l.n+1]
		if !ok {
			return nil
		}
		delete(l.pending, i.N)
		l.n, l.head = i.N, receipt.NextHead(l.head, i.Key, i.Ciphertext)
		h, ok := l.heads[l.n]
		if !ok {
			continue
		}
		delete(l.heads, l.n)
		if h.Head != receipt.Hash(l.head) {
			return fmt.Errorf("item %d: %w", l.n, errChain)
		}
		if instance == t.current {
			t.proven = h
		}
	}
}
