package inform

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// Pace of background work.
const (
	firstRetry = 15 * time.Second // after a failure; doubled each time, up to the source's own pace
	syncWithin = 10 * time.Minute // one look at a directory
	jitter     = 10               // waits differ by up to one part in this many: boxes of a fleet do not come together
)

// A feed keeps one source's last good answer:
//
//	(nothing) -> good -> good, last try failed -> too old (nothing)
//	                ^________|                          |
//	                ^___________________________________|
//
// While there is nothing, the source is unavailable, and rules that want its word err.
type feed struct {
	alias  kra.Anchor
	stamp  string
	every  time.Duration                               // zero: there is nothing to fetch
	maxAge time.Duration                               // zero: the answer itself says
	get    func(context.Context, found) (found, error) // given the last good answer
	until  func(found) time.Time                       // when an answer ends by itself; zero: never
	stop   context.CancelFunc

	// Guarded by the keeper's lock.
	last    found
	fetched time.Time // of last; zero: there is none
	err     error     // of the last try
	expiry  *time.Timer
	ended   bool
}

// run fetches until ctx is done. done takes each outcome, and when the try began.
func (f *feed) run(ctx context.Context, last found, done func(time.Time, found, error)) {
	retry := firstRetry
	for {
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, syncWithin)
		got, err := f.get(within, last)
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait := f.every
		if err == nil {
			last, retry = got, firstRetry
		} else {
			wait, retry = min(retry, f.every), min(2*retry, f.every)
		}
		done(began, got, err)
		t := time.NewTimer(jittered(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// jittered shortens a wait by chance.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/jitter+1) }
