package release

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of clients who did not prove who they are. What they do is charged to nobody and leaves records in the log, so that
// their address must bound it.
const (
	maxStrangers       = 128      // requests at work
	maxFromOne         = 16       // of them from one source
	maxFromNear        = 32       // of them from one neighbourhood
	maxStrangersBodies = 16 << 20 // bytes of their bodies
	maxBodiesFromOne   = 2 << 20  // of them from one source
	maxBodiesFromNear  = 4 << 20  // of them from one neighbourhood
	maxSources         = 4096     // sources that are counted one by one
	sweepEvery         = time.Second

	rateOfAll, burstOfAll     = 256, 2048 // headers a second, and at once after a rest; at least kra.MaxHeaders
	rateFromOne, burstFromOne = 16, 256   // of them from one source
)

// An allowance fills up with time and is used up by headers: each may cost an operation of the HSM and leaves a record.
type allowance struct {
	left float64
	at   time.Time // zero: it is full
}

// fill counts what time gave. Requests that wait for each other may come in with times in another order.
func (a *allowance) fill(now time.Time, rate, burst float64) {
	switch {
	case a.at.IsZero():
		a.left = burst
	case now.Before(a.at):
		return
	default:
		a.left = min(burst, a.left+rate*now.Sub(a.at).Seconds())
	}
	a.at = now
}

// A Source is where clients are that did not prove who they are: an IPv4 address, or the 64 bits of an IPv6 address that
// one subscriber has. The zero Prefix stands for all that there was no room to count one by one, or no room any more.
type Source struct {
	Prefix   netip.Prefix
	Requests uint64 // for release, well-formed
	Released uint64 // keys, each encrypted to somebody's certificate
}

// strangers bounds and counts what they do.
type strangers struct {
	mu    sync.Mutex
	at    map[netip.Prefix]atWork // of sources and neighbourhoods, owned by mu
	all   int                     // at work, owned by mu
	bytes int64                   // of their bodies, owned by mu
	rest  allowance               // of all, owned by mu
	seen  map[netip.Prefix]*tally // owned by mu
	swept time.Time               // when seen was last looked through, owned by mu
}

// atWork is what one source or neighbourhood has at work.
type atWork struct {
	requests int
	bytes    int64 // of their bodies
}

// A tally is what one source did, and may do.
type tally struct {
	Source
	rest allowance
}

func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of them are one
	}
	return p
}

// enter reports whether a request with a body of n bytes may be read and worked on. If so, leave must follow.
func (s *strangers) enter(a netip.Addr, n int64) bool {
	p := sourceOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	of, near := s.at[p], s.at[around(p)]
	if s.all >= maxStrangers || of.requests >= maxFromOne || near.requests >= maxFromNear ||
		s.bytes+n > maxStrangersBodies || of.bytes+n > maxBodiesFromOne || near.bytes+n > maxBodiesFromNear {
		return false
	}
	if s.at == nil {
		s.at = map[netip.Prefix]atWork{}
	}
	s.at[p], s.at[around(p)] = atWork{of.requests + 1, of.bytes + n}, atWork{near.requests + 1, near.bytes + n}
	s.all++
	s.bytes += n
	return true
}

// charge counts a well-formed request and reports whether so many headers may be decided on. If not, it takes nothing.
func (s *strangers) charge(a netip.Addr, headers int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.count(sourceOf(a), now)
	of.Requests++
	of.rest.fill(now, rateFromOne, burstFromOne)
	s.rest.fill(now, rateOfAll, burstOfAll)
	n := float64(headers)
	if of.rest.left < n || s.rest.left < n {
		return false
	}
	of.rest.left -= n
	s.rest.left -= n
	return true
}

func (s *strangers) leave(a netip.Addr, n int64) {
	p := sourceOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range [...]netip.Prefix{p, around(p)} {
		of := s.at[at]
		if s.at[at] = (atWork{of.requests - 1, of.bytes - n}); of.requests == 1 {
			delete(s.at, at)
		}
	}
	s.all--
	s.bytes -= n
}

// released counts keys that went out.
func (s *strangers) released(a netip.Addr, keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.seen[sourceOf(a)]
	if !ok {
		of = s.others()
	}
	of.Released += uint64(keys)
}

// count returns the source's counts. The caller holds mu.
func (s *strangers) count(p netip.Prefix, now time.Time) *tally {
	if of, ok := s.seen[p]; ok {
		return of
	}
	if len(s.seen) >= maxSources {
		s.sweep(now)
	}
	if len(s.seen) >= maxSources {
		return s.others()
	}
	return s.add(p)
}

// sweep forgets who owes nothing: to count them afresh later lets them do no more. The caller holds mu.
func (s *strangers) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery {
		return // a flood of new sources does not pay for a walk each
	}
	s.swept = now
	others := s.others()
	for p, of := range s.seen {
		if of.rest.fill(now, rateFromOne, burstFromOne); of != others && of.rest.left == burstFromOne {
			others.Requests += of.Requests
			others.Released += of.Released
			delete(s.seen, p)
		}
	}
}

// others returns the counts of all that are not counted one by one. The caller holds mu.
func (s *strangers) others() *tally {
	if of, ok := s.seen[netip.Prefix{}]; ok {
		return of
	}
	return s.add(netip.Prefix{})
}

func (s *strangers) add(p netip.Prefix) *tally {
	if s.seen == nil {
		s.seen = map[netip.Prefix]*tally{}
	}
	of := &tally{Source: Source{Prefix: p}}
	s.seen[p] = of
	return of
}

// Sources returns what clients that proved nothing asked for since the start, by source.
func (s *Server) Sources() []Source {
	s.strangers.mu.Lock()
	defer s.strangers.mu.Unlock()
	all := make([]Source, 0, len(s.strangers.seen))
	for _, c := range s.strangers.seen {
		all = append(all, c.Source)
	}
	slices.SortFunc(all, func(a, b Source) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
	})
	return all
}
