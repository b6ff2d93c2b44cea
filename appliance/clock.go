package appliance

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
)

// A clock is the box's clock with what is known about it. It starts untrusted at every boot: the chip may have been set
// while the box was off. The floor only rises, but by two officers' word.
//
//	untrusted --officers' word--> manual -------.
//	    |  '-------sources agree--> trusted <---'
//	    |                           |     ^
//	    |                 fresh is over   they agree again
//	    |                           v     |
//	    '-----all of held is over-- holdover
//
// A clock that jumps while somebody vouches for it, and nobody that the agent knows set it, is not trusted for as long as it is off: then
// it is as late as the time that has passed says.
type clock struct {
	standing atomic.Pointer[standing] // nil: nobody vouches for it
	floor    atomic.Int64             // Unix seconds
	label    validity                 // of the box's label certificate
	fresh    time.Duration            // how long the sources' word needs no other
	held     time.Duration            // how long it counts at all

	sealing sync.Mutex    // held from reading the sealed clock until the next is sealed
	slewed  time.Duration // guarded by it: what was made up for slowly since then, either way
}

// A validity is that of a certificate; the zero one has no bounds.
type validity struct{ from, to time.Time }

// A standing is who vouched for the clock, when by a clock that nobody sets, and what the box's clock showed.
type standing struct {
	by    store.ClockSource
	since time.Time // with its monotonic part
	shown time.Time
}

// newStanding is of this moment.
func newStanding(by store.ClockSource) *standing {
	now := time.Now()
	return &standing{by, now, now.Round(0)}
}

// reckon is what the clock shows at t if nobody but the agent has set it since.
func (s *standing) reckon(t time.Time) time.Time { return s.shown.Add(t.Sub(s.since)) }

// jumped is by how far somebody else has.
func (s *standing) jumped(t time.Time) time.Duration { return t.Round(0).Sub(s.reckon(t)) }

const (
	wordFresh = time.Hour
	wordHeld  = 24 * time.Hour  // a poor crystal is off by some 10 s then
	jumpFrom  = 2 * time.Minute // what is less, a host's own administration does
)

func newClock(floor time.Time) *clock {
	c := &clock{fresh: wordFresh, held: wordHeld}
	c.raise(floor)
	return c
}

// now returns the time, never before the floor, and whether somebody vouches for it: an officer for as long as the agent runs, the
// sources of time for as long as their word is held, nobody while it has jumped.
func (c *clock) now() (time.Time, bool) {
	t, s := time.Now(), c.standing.Load()
	jumped := s != nil && s.jumped(t).Abs() > jumpFrom
	if jumped {
		t = s.reckon(t)
	}
	if f := c.lowest(); t.Before(f) {
		return f, false
	}
	return t, s != nil && !jumped && (s.by == store.Manual || t.Sub(s.since) < c.held)
}

func (c *clock) time() time.Time { t, _ := c.now(); return t }

// lowest is the floor.
func (c *clock) lowest() time.Time { return time.Unix(c.floor.Load(), 0) }

// source says who vouches for the clock, or nothing.
func (c *clock) source() store.ClockSource {
	if _, trusted := c.now(); !trusted {
		return ""
	}
	return c.standing.Load().by
}

// words says who vouches for a trusted clock, and how, or why it is not trusted any more.
func (c *clock) words() string {
	s, now := c.standing.Load(), time.Now()
	if s == nil {
		return ""
	}
	age := now.Sub(s.since)
	switch by := s.jumped(now); {
	case by.Abs() > jumpFrom:
		return fmt.Sprintf("it jumped by %s since it was trusted, and the box did not set it", span(by))
	case s.by == store.NTS && age >= c.held:
		return fmt.Sprintf("the sources agreed %s ago, and that counts for %s", age.Round(time.Second), c.held)
	case s.by == store.NTS && age >= c.fresh:
		return fmt.Sprintf("NTS, in holdover: the sources agreed %s ago, and that counts for %s", age.Round(time.Second), c.held)
	case s.by == store.NTS:
		return "NTS"
	}
	return string(s.by)
}

// trust says that the clock was right when the word of k was committed, at this moment. An officer's word may be below the floor: it took
// two of them.
func (c *clock) trust(k store.Clock) {
	if k.Source == store.Manual {
		c.floor.Store(max(k.Time.Unix(), c.label.from.Unix()))
	}
	c.raise(k.Time)
	c.vouch(k.Source)
}

// vouch says that the clock is right now.
func (c *clock) vouch(by store.ClockSource) { c.standing.Store(newStanding(by)) }

// within believes no time at which the box's label certificate is not valid: chain is a leaf's, with that above it.
func (c *clock) within(chain [][]byte) error {
	if len(chain) < 2 {
		return errors.New("bound clock: no label certificate in the chain")
	}
	label, err := x509.ParseCertificate(chain[1])
	if err != nil {
		return fmt.Errorf("bound clock: %w", err)
	}
	c.label = validity{label.NotBefore, label.NotAfter}
	c.raise(label.NotBefore)
	return nil
}

// check refuses a time at which the box could not be: it would lock itself at its next start.
func (v validity) check(t time.Time) error {
	if t.Before(v.from) || !v.to.IsZero() && t.After(v.to) {
		return fmt.Errorf("%s is not within the label certificate of this box, which is valid from %s to %s", utc(t), utc(v.from), utc(v.to))
	}
	return nil
}

func (c *clock) raise(t time.Time) {
	for {
		old := c.floor.Load()
		if t.Unix() <= old || c.floor.CompareAndSwap(old, t.Unix()) {
			return
		}
	}
}

// span says how far apart two times are.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d.Abs() < 2*day {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", d.Round(day)/day)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
