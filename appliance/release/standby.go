package release

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

var errStandby = errors.New("the service is not instantiated: it starts on a challenge, and ends when nobody asks for keys any more")

// A Standby is whether the key-release service is there, or only potentially: its box could be what the label says, and becomes it when
// a challenge asks for that.
//
//	         Instantiate                     always, while the officers have not set an idle time
//	standby ------------> instantiated
//	   ^                       |  ^ |
//	   +---- idle time over ---+  +-+ asked for a key
type Standby struct {
	idle  func() time.Duration
	began time.Time
	last  atomic.Int64 // when it was instantiated or last asked for a key, in nanoseconds since began; 0: standby
}

// NewStandby returns a service whose idle time is what idle says at the moment, which must not wait; 0: it is always there.
func NewStandby(idle func() time.Duration) *Standby {
	return &Standby{idle: idle, began: time.Now().Add(-time.Nanosecond)}
}

// Instantiate has the service be there from now on.
func (s *Standby) Instantiate() { s.last.Store(int64(time.Since(s.began))) }

// There reports whether it is.
func (s *Standby) There() bool {
	idle, last := s.idle(), s.last.Load()
	return idle == 0 || last != 0 && time.Since(s.began)-time.Duration(last) < idle
}

// enter notes that keys are asked for, and says why there are none, or nothing.
func (s *Standby) enter() error {
	if !s.There() {
		return errStandby
	}
	s.Instantiate()
	return nil
}

// shown leaves out of what a box can be the label of a service that is not there: what it could be, only a challenge that starts it
// makes it be.
func (s *Standby) shown(all label.Confirmations) label.Confirmations {
	if s.There() {
		return all
	}
	all.Confirmations = slices.DeleteFunc(all.Confirmations, func(c label.Confirmation) bool { return c.Statement.Label == label.KeyRelease })
	return all
}
