package appliance

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A clock is the box's clock with what is known about it. It starts untrusted at every boot: the chip may have been set
// while the box was off. The floor only rises.
type clock struct {
	trusted atomic.Bool
	floor   atomic.Int64 // Unix seconds
	word    atomic.Int64 // Unix seconds
}

func newClock(floor time.Time) *clock {
	c := &clock{}
	c.word.Store(floor.Unix())
	c.raise(floor)
	return c
}

// now returns the time, never before the floor, and whether somebody vouched for it in this boot.
func (c *clock) now() (time.Time, bool) {
	t := time.Now()
	if f := time.Unix(c.floor.Load(), 0); t.Before(f) {
		return f, false
	}
	return t, c.trusted.Load()
}

func (c *clock) time() time.Time { t, _ := c.now(); return t }

// trust says that the clock was right when the word of t was committed.
func (c *clock) trust(t time.Time) {
	c.word.Store(t.Unix())
	c.raise(t)
	c.trusted.Store(true)
}

// committed returns the time of the last word about the clock, as the sealed state has it.
func (c *clock) committed() time.Time { return time.Unix(c.word.Load(), 0) }

// note says that t, a trusted time, is about to be committed: no new word.
func (c *clock) note(t time.Time) {
	c.word.Store(t.Unix())
	c.raise(t)
}

// raiseToLabel believes no time before the domain certified this box: chain is a leaf's, with the label certificate above it.
func (c *clock) raiseToLabel(chain [][]byte) error {
	if len(chain) < 2 {
		return errors.New("raise clock floor: no label certificate in the chain")
	}
	label, err := x509.ParseCertificate(chain[1])
	if err != nil {
		return fmt.Errorf("raise clock floor: %w", err)
	}
	c.raise(label.NotBefore)
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
