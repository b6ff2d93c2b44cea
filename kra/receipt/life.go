package receipt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrTwice is wrapped when a second record accounts for one unwrap.
var ErrTwice = errors.New("this unwrap is in the log already")

// ErrChain is wrapped when a head of hsmd's chain does not follow from the records.
var ErrChain = errors.New("hsmd's chain head does not follow from the records")

// A Life follows the chain of one instance of hsmd through records that arrive in any order.
//
//	1 … proven            │ proven+1 … n           │ beyond a gap
//	under a checkpoint    │ recorded, no gap: tail │ above
type Life struct {
	instance Instance
	proven   uint64
	head     Hash // after item proven
	tail     []step
	above    map[uint64]Item
}

type step struct {
	item Item
	head Hash // after it
}

// NewLife begins before the first item.
func NewLife(i Instance) *Life {
	return &Life{instance: i, head: FirstHead(i), above: map[uint64]Item{}}
}

// Instance returns whose life it is.
func (l *Life) Instance() Instance { return l.instance }

// N returns the item up to which every item is recorded.
func (l *Life) N() uint64 { return l.proven + uint64(len(l.tail)) }

// Proven returns the last item under a checkpoint.
func (l *Life) Proven() uint64 { return l.proven }

// Beyond returns how many items are recorded although one before them is not.
func (l *Life) Beyond() int { return len(l.above) }

// Has says whether item n is recorded.
func (l *Life) Has(n uint64) bool {
	_, above := l.above[n]
	return above || n <= l.N()
}

// Add takes an item; ErrTwice if it was recorded before.
func (l *Life) Add(i Item) error {
	if l.Has(i.N) {
		return fmt.Errorf("hsm item %d: %w", i.N, ErrTwice)
	}
	l.above[i.N] = i
	for next, ok := l.above[l.N()+1]; ok; next, ok = l.above[l.N()+1] {
		delete(l.above, next.N)
		l.tail = append(l.tail, step{next, next.After(l.last())})
	}
	return nil
}

// last returns the head after item n.
func (l *Life) last() Hash {
	if len(l.tail) == 0 {
		return l.head
	}
	return l.tail[len(l.tail)-1].head
}

// Prove takes a head that hsmd states: every item up to it must be recorded and lead to it, and none may have been
// proven beyond it.
func (l *Life) Prove(h ChainHead) error {
	if h.Instance != l.instance || h.N < l.proven || h.N > l.N() {
		return fmt.Errorf("hsm item %d: %w", h.N, ErrChain)
	}
	steps := h.N - l.proven
	head := l.head
	if steps > 0 {
		head = l.tail[steps-1].head
	}
	if head != h.Head {
		return fmt.Errorf("hsm item %d: %w", h.N, ErrChain)
	}
	l.proven, l.head, l.tail = h.N, head, l.tail[steps:]
	return nil
}

// MaxLives is how many lives of hsmd, the newest, a log keeps in mind and hands on to an export that begins behind them. What of an older
// one was recorded stays in the records; an item of it that came now would be taken for a new life's.
const MaxLives = 1024

// A LifeState is a life as an export carries it that does not begin at the first record. What it claims is
// confirmed by the next checkpoint that names the instance, or by none.
type LifeState struct {
	Instance Instance `json:"instance"`
	Proven   uint64   `json:"proven"`
	Head     Hash     `json:"head"`            // after item proven
	Items    []Item   `json:"items,omitempty"` // recorded after it, by number
}

// State returns the life for an export.
func (l *Life) State() LifeState {
	s := LifeState{Instance: l.instance, Proven: l.proven, Head: l.head}
	for _, t := range l.tail {
		s.Items = append(s.Items, t.item)
	}
	beyond := slices.SortedFunc(maps.Values(l.above), func(a, b Item) int { return cmp.Compare(a.N, b.N) })
	s.Items = append(s.Items, beyond...)
	return s
}

// Life takes a state back.
func (s LifeState) Life() (*Life, error) {
	l := NewLife(s.Instance)
	l.proven, l.head = s.Proven, s.Head
	for _, i := range s.Items {
		if i.Instance != s.Instance {
			return nil, errors.New("item of another instance")
		}
		if err := l.Add(i); err != nil {
			return nil, err
		}
	}
	return l, nil
}
