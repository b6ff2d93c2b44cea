package appliance

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/nts"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A timekeeper has the clock follow the sources of time that officers named.
//
//	all are asked --most agree--> the clock is set --> that is in the log and the state --> trusted
//	   ^  |
//	   |  |-- they do not, or on a time below the floor: nothing is done, and trust runs out by itself (see clock)
//	   |  '-- on a time that is farther from the clock than that goes wrong by itself: nothing is done before an officer's word
//	   '----- after a while, or at once when the sources are others
type timekeeper struct {
	clock *clock
	state func() *store.State
	keep  func(context.Context, ...store.Change) (*store.State, error) // returns when it is durable
	note  func(context.Context, ...audit.Entry) (audit.Committed, error)
	room  func() error
	set   setter // nil: the clock is a host's, and only vouched for
	dial  dial
	log   *slog.Logger
	again timing

	failed time.Duration // pause after the last round, if that failed; only run has it

	mu      sync.Mutex // guards all below
	clients []*timeClient
	fault   error // of the last round
}

// A setter is process 1.
type setter interface {
	SetClock(ctx context.Context, t time.Time) error
	AdjustClock(ctx context.Context, by time.Duration) error
}

// timing is how often the sources are asked: when all is well, and when it is not: soon, then after twice as long each time, retry at most.
type timing struct{ every, soon, retry time.Duration }

const (
	timeEvery    = 1024 * time.Second // as NTP has it
	timeSoon     = 2 * time.Second    // a box that starts has no address yet
	timeRetry    = 64 * time.Second
	timeLook     = time.Second            // whether the sources are others
	askTime      = 20 * time.Second       // all sources, at once
	stepFrom     = 500 * time.Millisecond // what is less, is made up for slowly
	hostMayBeOff = 2 * time.Minute        // the clock of a host, which is not the agent's to set
)

// stepMost is how far the sources alone may set the clock, all together, at once or slowly, either way (RFC 5905 appendix A.1.1: PANICT). It is
// had again as a crystal goes wrong, by a part in drift. Most that there is to agree with may be one, and what it steps over is over for good: keys
// are destroyed when their time has come, and certificates have ended.
const (
	stepMost = 1000 * time.Second
	drift    = 10_000
)

// stepped is what a step makes of the steps since the last word, of which the clock was at from.
func stepped(last store.Clock, step time.Duration, from, now time.Time) time.Duration {
	return max(0, last.Stepped+step.Abs()-now.Sub(from)/drift)
}

// A distance is what the sources agree on and an officer has to say.
type distance struct {
	right    time.Time
	off, all time.Duration // of the clock now; with what the sources have set it by
}

func (d distance) Error() string {
	where := "ahead of"
	if d.off < 0 {
		where = "behind"
	}
	by := "more than it goes"
	if d.off.Abs() < stepMost {
		by = fmt.Sprintf("they have set it by %s already, and all is more than it goes", span(d.all-d.off.Abs()))
	}
	return fmt.Sprintf("the sources agree on %s, which is %s %s the clock: %s wrong by itself. Compare that with a clock of your own, and say what time it is: time set %[1]s",
		utc(d.right), span(d.off.Abs()), where, by)
}

// A timeClient is a source and what came of asking it last.
type timeClient struct {
	source store.TimeSource
	client *nts.Client

	reading nts.Reading
	err     error // nil: reading is what it said
	at      time.Time
	agrees  bool
}

var errNotAsked = errors.New("not asked yet")

// run asks until ctx ends.
func (k *timekeeper) run(ctx context.Context) {
	var next time.Time
	for t := time.NewTicker(timeLook); ; {
		if k.renew(k.state().TimeSources()) {
			next, k.failed = time.Time{}, 0
		}
		if len(k.clients) > 0 && !time.Now().Before(next) {
			err := k.round(ctx)
			next = time.Now().Add(k.pause(err))
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// pause is how long to wait after a round.
func (k *timekeeper) pause(err error) time.Duration {
	if err == nil {
		k.failed = 0
		return k.again.every
	}
	k.failed = min(max(2*k.failed, k.again.soon), k.again.retry)
	return k.failed
}

// renew follows the sources of the state, and reports whether they are others.
func (k *timekeeper) renew(sources []store.TimeSource) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.EqualFunc(sources, k.clients, func(s store.TimeSource, c *timeClient) bool { return s.Same(c.source) }) {
		return false
	}
	k.clients, k.fault = nil, nil
	for _, s := range sources {
		c := &timeClient{source: s, err: errNotAsked}
		roots := x509.NewCertPool()
		if ca, err := x509.ParseCertificate(s.CA); err == nil { // else the state has no such source
			roots.AddCert(ca)
		}
		c.client = nts.NewClient(nts.Server{Address: s.Address, Roots: roots, Dial: k.dial, Now: k.clock.time})
		k.clients = append(k.clients, c)
	}
	return true
}

// round asks all sources once, and has the clock follow what most agree on. An error is in the log.
func (k *timekeeper) round(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answers := make([]timeClient, len(k.clients))
	began := newStanding("")
	var all sync.WaitGroup
	for i, c := range k.clients {
		all.Go(func() {
			answers[i].reading, answers[i].err = c.client.Ask(limit)
			answers[i].at = time.Now()
		})
	}
	all.Wait()
	var readings []nts.Reading
	silent := ""
	for i, a := range answers {
		switch {
		case a.err == nil:
			readings = append(readings, a.reading)
		case silent == "":
			silent = fmt.Sprintf("; %s: %v", k.clients[i].source.Address, a.err)
		}
	}
	agreed, ok := nts.Agree(len(answers), readings)
	err := fmt.Errorf("%d of %d sources answer, and more than half of all do not agree%s", len(readings), len(answers), silent)
	if ok {
		err = k.take(ctx, agreed, began)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, a := range answers {
		c := k.clients[i]
		c.reading, c.err, c.at, c.agrees = a.reading, a.err, a.at, ok && a.err == nil && a.reading.With(agreed)
	}
	if k.fault = err; err != nil {
		k.log.Warn("follow sources of time", "err", err)
	}
	return err
}

// take has the clock follow what was agreed on about the clock of then. What it is trusted with is in the log and in the state before.
func (k *timekeeper) take(ctx context.Context, r nts.Reading, then *standing) error {
	right := time.Now().Add(r.Offset)
	if floor := k.clock.lowest(); right.Before(floor) {
		return fmt.Errorf("the sources agree on %s, and the clock was trusted at %s and does not go back behind that", utc(right), utc(floor))
	}
	if err := k.clock.label.check(right); err != nil {
		return fmt.Errorf("the sources agree on a time at which this box cannot be: %w", err)
	}
	step := r.Offset.Abs() >= stepFrom
	if k.set == nil && r.Offset.Abs() > hostMayBeOff {
		return fmt.Errorf("the host's clock differs by %s: set it on the host", r.Offset.Round(time.Second))
	}
	k.clock.sealing.Lock()
	defer k.clock.sealing.Unlock()
	shown, off := k.clock.time(), r.Offset
	switch {
	case k.set == nil:
		off = 0
	case step:
		off = right.Sub(shown)
	}
	all := stepped(k.state().Clock(), k.clock.slewed+off.Abs(), k.clock.lowest(), shown)
	if all > stepMost {
		return distance{right, off, all}
	}
	first := k.clock.source() != store.NTS
	if first || step {
		if err := k.room(); err != nil { // else each round takes some of what a full disk has left
			return err
		}
		if err := k.tell(ctx, r, step); err != nil {
			return err
		}
	}
	if err := k.move(ctx, r.Offset, step, then); err != nil {
		return err
	}
	k.clock.slewed += off.Abs() // until it is sealed
	now := time.Now()
	if !first && !step && now.Sub(k.state().Clock().Time) < clockEvery {
		k.clock.vouch(store.NTS)
		return nil
	}
	c := store.Clock{Time: now.UTC().Truncate(time.Second), Source: store.NTS, Stepped: all}
	if _, err := k.keep(ctx, store.ClockSet(c)); err != nil {
		return fmt.Errorf("seal trusted time: %w", err)
	}
	k.clock.slewed = 0
	k.clock.trust(c)
	return nil
}

var errMoved = errors.New("the clock was set while the sources were asked")

// move sets the clock: at once, on a whole second, or slowly. A host sets its own. What was said about a clock that somebody has set since
// is nothing.
func (k *timekeeper) move(ctx context.Context, by time.Duration, step bool, then *standing) error {
	if then.jumped(time.Now()).Abs() >= stepFrom {
		return errMoved
	}
	if k.set == nil {
		return nil
	}
	if !step {
		return k.set.AdjustClock(ctx, by)
	}
	right := time.Now().Add(by)
	whole := right.Truncate(time.Second).Add(time.Second)
	select {
	case <-time.After(whole.Sub(right)):
	case <-ctx.Done():
		return ctx.Err()
	}
	if then.jumped(time.Now()).Abs() >= stepFrom {
		return errMoved
	}
	return k.set.SetClock(ctx, whole)
}

// A timeRecord is the private part of the record that the clock follows the sources, or takes a step.
type timeRecord struct {
	Officer     string        `json:"officer"`
	Detail      string        `json:"detail"`
	Offset      time.Duration `json:"offset"`      // nanoseconds that the truth is ahead of the clock
	Uncertainty time.Duration `json:"uncertainty"` // likewise
}

// tell logs it before it happens.
func (k *timekeeper) tell(ctx context.Context, r nts.Reading, step bool) error {
	what := "the clock follows the sources of time"
	if step && k.set != nil {
		what = fmt.Sprintf("the clock is set by %s", r.Offset.Round(time.Millisecond))
	}
	_, err := k.note(ctx, audit.Entry{Kind: receipt.Time, Private: timeRecord{"(sources of time)", what, r.Offset, r.Uncertainty}})
	return err
}

// health says what waits for an officer, or why the clock is not trusted though there are sources of time.
func (k *timekeeper) health() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var far distance
	if errors.As(k.fault, &far) {
		return fmt.Errorf("clock: %w", far)
	}
	if k.fault != nil && k.clock.source() == "" {
		return fmt.Errorf("clock: not trusted: %w", k.fault)
	}
	return nil
}

// view is what the console shows of the sources.
func (k *timekeeper) view() (out []admin.TimeSource, fault error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.clients {
		v := admin.TimeSource{Address: c.source.Address, At: c.at, Offset: c.reading.Offset, Uncertainty: c.reading.Uncertainty, State: "agrees"}
		switch {
		case c.err != nil:
			v.State, v.Offset, v.Uncertainty = c.err.Error(), 0, 0
		case c.reading.Uncertainty > nts.MaxUncertainty:
			v.State = "too uncertain"
		case !c.agrees:
			v.State = "not agreed with"
		}
		out = append(out, v)
	}
	return out, k.fault
}
