package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/machine"
)

// A pace is how patient the supervisor is.
type pace struct {
	startup  time.Duration // from the start to READY=1
	watchdog time.Duration // from READY=1 or WATCHDOG=1 to the next WATCHDOG=1
	grace    time.Duration // from SIGTERM to SIGKILL
	least    time.Duration // before the first restart; doubles with each
	most     time.Duration // before any restart
	steady   time.Duration // a daemon that ran this long starts again at the least wait
	tries    int           // failed starts before the first READY=1 until awaiting it gives up
	tpmd     time.Duration // for a tpmd that is being started again
	courtesy time.Duration // from krad's wish to stop to the stop, so that the answer reaches the person who asked
}

// boxPace suits an emulated machine on a busy host, where a start took half a minute.
var boxPace = pace{
	startup: 2 * time.Minute, watchdog: time.Minute, grace: 10 * time.Second,
	least: 100 * time.Millisecond, most: 10 * time.Second, steady: time.Minute, tries: 3,
	tpmd: 20 * time.Second, courtesy: 200 * time.Millisecond,
}

// patience is the pace that the options ask for.
func (o Options) patience() pace {
	p := cmp.Or(o.pace, boxPace)
	if o.Restart > 0 {
		p.most = o.Restart
	}
	return p
}

// wait is how long to wait before restart number n, from 0.
func (p pace) wait(n int) time.Duration { return min(p.most, p.least<<min(n, 20)) }

// A spec says what a daemon is and what it gets.
type spec struct {
	name    string
	confine compartment.Policy
	shares  uintptr               // of process 1's namespaces, as flags of clone
	watched bool                  // has to say READY=1 and WATCHDOG=1; another one is ready once it runs
	gives   func() (*gift, error) // what it inherits, made anew for each start
}

// A ground is what all daemons of one boot stand on.
type ground struct {
	forge  *forge
	pace   pace
	stage1 string    // path of the program
	run    string    // folder of the sockets
	listed *roster   // that may be started; nil: any
	out    io.Writer // daemons' lines; may be nil
	say    func(format string, args ...any)
}

// A unit keeps one daemon alive:
//
//	         start            READY=1
//	waiting -------> starting --------> ready
//	   ^                |                 |
//	   |  back-off      | ended, or       | ended, or
//	   +----------------+ too slow        | missed the watchdog
//	   +----------------------------------+
//	 any --> stopped      when its context ends; SIGTERM, then SIGKILL
type unit struct {
	spec   spec
	ground *ground
	cancel context.CancelCauseFunc
	gone   chan struct{} // closed when stopped
	first  chan error    // gets one value: nil at the first READY, or why there is none
	told   sync.Once     // of first

	mu sync.Mutex // guards is
	is machine.Service
}

// Causes of a stop: errKill is SIGKILL at once.
var (
	errStop = errors.New("stop")
	errKill = errors.New("kill")
)

// keep starts the daemon and keeps it alive until stop is called; stop must be called.
func (g *ground) keep(s spec) *unit {
	u := &unit{spec: s, ground: g, gone: make(chan struct{}), first: make(chan error, 1)}
	u.is = machine.Service{Name: s.name, State: machine.Waiting}
	ctx, cancel := context.WithCancelCause(context.Background())
	u.cancel = cancel
	go u.live(ctx)
	return u
}

// stop ends the daemon and returns when it is gone.
func (u *unit) stop(cause error) {
	u.cancel(cause)
	<-u.gone
}

// await returns nil when the daemon has said READY=1 once, or why it did not after some tries. It takes the one value of first.
func (u *unit) await(ctx context.Context) error {
	select {
	case err := <-u.first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *unit) status() machine.Service {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.is
}

func (u *unit) set(change func(*machine.Service)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.is)
}

func (u *unit) live(ctx context.Context) {
	defer close(u.gone)
	for short, tries := 0, 1; ; short, tries = short+1, tries+1 {
		began := time.Now()
		err := u.once(ctx)
		if ctx.Err() != nil {
			u.set(func(s *machine.Service) { s.State, s.PID = machine.Stopped, 0 })
			u.tellFirst(fmt.Errorf("%s was stopped", u.spec.name))
			return
		}
		if time.Since(began) >= u.ground.pace.steady {
			short = 0
		}
		if tries >= u.ground.pace.tries {
			u.tellFirst(fmt.Errorf("%s: %w", u.spec.name, err))
		}
		u.rest(ctx, err, u.ground.pace.wait(short))
	}
}

// rest says why the daemon ended and waits before the next start.
func (u *unit) rest(ctx context.Context, err error, wait time.Duration) {
	u.set(func(s *machine.Service) {
		s.State, s.PID, s.Ended, s.Restarts = machine.Waiting, 0, err.Error(), s.Restarts+1
	})
	u.ground.say("%s: %v; again in %v", u.spec.name, err, wait)
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// tellFirst answers who waits for the first READY, once.
func (u *unit) tellFirst(err error) { u.told.Do(func() { u.first <- err }) }

// hear takes one assignment of sd_notify and reports whether it is a sign of life.
func (u *unit) hear(line string) bool {
	key, value, _ := strings.Cut(line, "=")
	switch {
	case line == "READY=1":
		u.set(func(s *machine.Service) { s.State = machine.Ready })
		u.tellFirst(nil)
		return true
	case line == "WATCHDOG=1":
		return u.status().State == machine.Ready
	case key == "STATUS":
		u.set(func(s *machine.Service) { s.Said = value[:min(len(value), maxOutputLine)] })
	}
	return false
}

// noticePath is where the daemon finds its sd_notify socket.
func (u *unit) noticePath() string { return filepath.Join(u.ground.run, u.spec.name+".notify") }
