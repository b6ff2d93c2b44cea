package admin

import (
	"context"
	"errors"
	"time"
)

// What a wrong passphrase costs: a second, doubled by each one that follows, and at most half a minute. Waiting is in the
// door, not in the answer: who hangs up and comes again waits all the same.
const (
	firstDelay = time.Second
	lastDelay  = 30 * time.Second
	maxWaiting = 4
)

var errCrowd = errors.New("too many log-ins at once; try again in a minute")

// A door lets one log-in through at a time.
type door struct {
	queue chan struct{} // a place for each who waits or is inside
	turn  chan struct{} // held by the one inside, who owns the rest
	first time.Duration // what the first failure costs

	failures int
	opens    time.Time
}

func newDoor() *door {
	return &door{queue: make(chan struct{}, maxWaiting), turn: make(chan struct{}, 1), first: firstDelay}
}

// pass runs try alone, after what earlier failures cost. An error of try is a failure, and its cost is waited for before
// pass returns.
func (d *door) pass(ctx context.Context, try func() error) error {
	select {
	case d.queue <- struct{}{}:
		defer func() { <-d.queue }()
	default:
		return errCrowd
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.wait(ctx); err != nil {
		return err
	}
	err := try()
	if err == nil {
		d.failures = 0
		return nil
	}
	d.opens = time.Now().Add(min(d.first<<min(d.failures, 10), lastDelay))
	d.failures++
	return errors.Join(err, d.wait(ctx))
}

func (d *door) wait(ctx context.Context) error {
	select {
	case <-time.After(time.Until(d.opens)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
