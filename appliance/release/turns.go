package release

import (
	"hash/maphash"
	"net/http"
	"sync/atomic"
)

// Limits of what is not a release and may cost more than one.
const (
	maxWalks   = 2   // for each processor: requests at work that walk through all rules or a group
	maxWalksOf = 1   // of them from one decryptor
	maxEdits   = 16  // statements about groups at work
	maxEditsOf = 1   // of them from one decryptor
	maxLists   = 256 // whole directories being sent
	maxListsOf = 8   // of them to one source
)

// shares count what each decryptor, or source, has of something. Its place is drawn by a secret of this start: few share
// one, nobody chooses with whom, and nothing is locked or grows.
type shares struct {
	seed maphash.Seed
	at   [4096]atomic.Int64
}

func newShares() shares { return shares{seed: maphash.MakeSeed()} }

func placeOf[T comparable](s *shares, who T) *atomic.Int64 {
	return &s.at[maphash.Comparable(s.seed, who)%uint64(len(s.at))]
}

// turns bound how much of something one has at a time, and all together.
type turns struct {
	one, most int64
	shares    shares
	all       atomic.Int64
}

func newTurns(one, most int64) turns { return turns{one: one, most: most, shares: newShares()} }

// take takes a turn, which must be given back, or reports that there is none.
func take[T comparable](t *turns, who T) (giveBack func(), ok bool) {
	own := placeOf(&t.shares, who)
	if own.Add(1) > t.one {
		own.Add(-1)
		return nil, false
	}
	if t.all.Add(1) > t.most {
		own.Add(-1)
		t.all.Add(-1)
		return nil, false
	}
	return func() { own.Add(-1); t.all.Add(-1) }, true
}

// inTurn runs f if whom the channel proves has no other turn. Who is nobody takes none: f tells him so.
func (s *Server) inTurn(r *http.Request, t *turns, f func() reply) reply {
	id, err := s.look(r).channel()
	if err != nil {
		return f()
	}
	giveBack, ok := take(t, id.who)
	if !ok {
		return busy()
	}
	defer giveBack()
	return f()
}
