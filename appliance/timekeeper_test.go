package appliance

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/nts"
	"github.com/keyrelease/krabox/appliance/nts/ntstest"
	"github.com/keyrelease/krabox/appliance/store"
)

// A watch is a timekeeper with what it did. Process 1 is not asked: it would set this machine's clock.
type watch struct {
	*timekeeper
	t               *testing.T
	is              *store.State
	steps           []time.Duration // ahead of this machine's clock
	slews           []time.Duration
	noted           int
	failLog, failNV bool
	full            error
}

func (w *watch) SetClock(_ context.Context, t time.Time) error {
	if t.Nanosecond() != 0 {
		w.t.Errorf("the clock is set to %s, which is no whole second", t)
	}
	w.steps = append(w.steps, time.Until(t))
	return nil
}

func (w *watch) AdjustClock(_ context.Context, by time.Duration) error {
	w.slews = append(w.slews, by)
	return nil
}

// newWatch is on a box whose clock was last trusted at floor, with these sources.
func newWatch(t *testing.T, floor time.Time, a *ntstest.Authority, addresses ...string) *watch {
	t.Helper()
	w := &watch{t: t}
	var changes []store.Change
	for _, s := range addresses {
		changes = append(changes, store.TimeSourceAdd{Source: store.TimeSource{Address: s, CA: a.DER}})
	}
	w.is = firstState(t, append(changes, store.ClockSet{Time: floor, Source: store.Manual})...)
	w.timekeeper = &timekeeper{clock: newClock(floor), state: func() *store.State { return w.is }, set: w, dial: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		log: slog.New(slog.DiscardHandler), again: timing{time.Hour, time.Millisecond, time.Minute},
		room: func() error { return w.full },
		note: func(_ context.Context, e ...audit.Entry) (audit.Committed, error) {
			if w.failLog {
				return audit.Committed{}, errors.New("the log is full")
			}
			w.noted += len(e)
			return audit.Committed{}, nil
		},
		keep: func(_ context.Context, c ...store.Change) (*store.State, error) {
			if w.failNV {
				return nil, errors.New("no NV")
			}
			next, err := store.Apply(w.is, c...)
			if err == nil {
				w.is = next
			}
			return w.is, err
		}}
	return w
}

// ask asks all sources once, and reports whether the clock is trusted then.
func (w *watch) ask() bool {
	w.t.Helper()
	w.renew(w.is.TimeSources())
	err := w.round(w.t.Context())
	_, fault := w.view()
	if err != fault {
		w.t.Errorf("round %v; fault %v", err, fault)
	}
	_, trusted := w.clock.now()
	return trusted
}

func (w *watch) faulted(want string) {
	w.t.Helper()
	if _, err := w.view(); err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("fault = %v; want %q", err, want)
	}
}

func lately() time.Time { return time.Now().Add(-2 * time.Hour) }

// TestClockFollowsNTS: chronyd's word makes the clock trusted, in the log and in the state, once; the clock is slewed, not set.
func TestClockFollowsNTS(t *testing.T) {
	a := ntstest.NewAuthority(t)
	w := newWatch(t, lately(), a, ntstest.Chronyd(t, a).Address)
	if _, trusted := w.clock.now(); trusted {
		t.Error("trusted before anybody was asked")
	}
	for range 3 {
		if !w.ask() {
			_, err := w.view()
			t.Fatal("not trusted: ", err)
		}
	}
	if c := w.is.Clock(); c.Source != store.NTS || time.Since(c.Time) > time.Minute || w.noted != 1 || len(w.steps) > 0 || len(w.slews) != 3 {
		t.Errorf("clock %+v, %d records, steps %v, slews %v", c, w.noted, w.steps, w.slews)
	}
	if v, _ := w.view(); len(v) != 1 || v[0].State != "agrees" || v[0].Uncertainty <= 0 || w.clock.words() != "NTS" {
		t.Errorf("view = %+v, %q", v, w.clock.words())
	}
	w.renew(nil)
	w.is = firstState(t, store.TimeSourceAdd{Source: store.TimeSource{Address: w.is.TimeSources()[0].Address, CA: ntstest.NewAuthority(t).DER}})
	w.clock = newClock(lately())
	if w.ask() {
		t.Error("trusted on the word of a server of another authority")
	}
}

// TestSourcesOutOfReachAtFirst: a box that starts has no address yet. It asks again soon, and then less and less often; an answer, or other
// sources, and it begins anew.
func TestSourcesOutOfReachAtFirst(t *testing.T) {
	a := ntstest.NewAuthority(t)
	w := newWatch(t, lately(), a, ntstest.Chronyd(t, a).Address)
	w.again = timing{time.Hour, timeSoon, timeRetry}
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 64} {
		if got := w.pause(errNotAsked); got != want*time.Second {
			t.Errorf("asked again after %s; want %s", got, want*time.Second)
		}
	}
	if got := []time.Duration{w.pause(nil), w.pause(errNotAsked)}; got[0] != time.Hour || got[1] != timeSoon {
		t.Errorf("after an answer, and then none, asked again after %s", got)
	}
	w.failed = 0
	w.again = timing{time.Hour, time.Millisecond, time.Hour}
	direct, tries := w.dial, 0
	w.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if tries++; tries <= 3 {
			return nil, errors.New("network is unreachable")
		}
		return direct(ctx, network, address)
	}
	if w.ask() {
		t.Error("trusted, and nobody was asked")
	}
	w.faulted("0 of 1 sources answer, and more than half of all do not agree; " + w.is.TimeSources()[0].Address + ": network is unreachable")
	w.renew(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	for end := time.Now().Add(time.Minute); w.clock.source() != store.NTS; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			_, err := w.view()
			t.Fatalf("after a minute: %v", err)
		}
	}
	cancel()
	<-ended
}

// TestMostSourcesAgree: two right ones outvote a liar; a liar and a right one cancel each other; a right one that is gone counts.
// Then the clock is held over, and not trusted any more in the end.
func TestMostSourcesAgree(t *testing.T) {
	a := ntstest.NewAuthority(t)
	one, two, liar := ntstest.Chronyd(t, a), ntstest.Chronyd(t, a), a.Liar(t)
	liar.Tell(time.Hour)
	w := newWatch(t, lately(), a, one.Address, liar.Address)
	if w.ask() || len(w.steps)+len(w.slews) > 0 {
		t.Error("one of two suffices")
	}
	w.faulted("more than half of all do not agree")
	w = newWatch(t, lately(), a, one.Address, two.Address, liar.Address)
	if !w.ask() || len(w.steps) > 0 {
		t.Errorf("two of three do not suffice, or the clock was set: %v", w.steps)
	}
	states := map[string]string{}
	v, _ := w.view()
	for _, s := range v {
		states[s.Address] = s.State
	}
	if states[one.Address] != "agrees" || states[two.Address] != "agrees" || states[liar.Address] != "not agreed with" {
		t.Errorf("states = %v", states)
	}
	two.Stop()
	w.clock.fresh, w.clock.held = 0, time.Hour
	if !w.ask() || !strings.HasPrefix(w.clock.words(), "NTS, in holdover") {
		t.Errorf("not held over: %q", w.clock.words())
	}
	w.faulted("2 of 3 sources answer")
	one.Stop()
	liar.Stop()
	if !w.ask() {
		t.Error("not held over when all are gone")
	}
	if err := w.health(); err != nil {
		t.Errorf("held over, and health says %v", err)
	}
	w.clock.held = time.Millisecond
	if w.ask() || w.clock.source() != "" {
		t.Error("held over for good")
	}
	if err := w.health(); err == nil || !strings.Contains(err.Error(), "not trusted: 0 of 3 sources answer") {
		t.Errorf("not trusted, and health says %v", err)
	}
}

// TestClockSteps: a clock that is off is set on a whole second, which is logged; never below the floor.
func TestClockSteps(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	l.Tell(10 * time.Minute)
	if !w.ask() {
		t.Error("not trusted after a step")
	}
	near(t, w.steps, 1, 10*time.Minute)
	l.Tell(-time.Minute)
	w.clock.floor.Store(lately().Unix())
	w.ask()
	near(t, w.steps, 2, -time.Minute)
	if w.noted != 2 {
		t.Errorf("%d records of two steps", w.noted)
	}
	w = newWatch(t, lately(), a, l.Address)
	l.Tell(-3 * time.Hour)
	if w.ask() || len(w.steps) > 0 || w.noted > 0 {
		t.Errorf("trusted, or set, below the floor: %v", w.steps)
	}
	w.faulted("does not go back behind that")
}

func near(t *testing.T, got []time.Duration, n int, want time.Duration) {
	t.Helper()
	if len(got) != n || (got[n-1]-want).Abs() > time.Second {
		t.Errorf("steps = %v; want %d, the last %s", got, n, want)
	}
}

// waits wants the sources not to be followed before an officer says so.
func (w *watch) waits(what, want string) {
	w.t.Helper()
	noted := w.noted
	if w.ask() || len(w.steps) > 0 || w.noted != noted {
		w.t.Errorf("%s: trusted, set or logged: %v", what, w.steps)
	}
	w.faulted(want)
	w.faulted("time set 2")
	if err := w.health(); err == nil || !strings.HasPrefix(err.Error(), "clock: the sources agree on") {
		w.t.Errorf("%s: health says %v", what, err)
	}
}

// TestClockOffByYears: what the clock of a box that starts cannot be off by itself waits for an officer's word, forward and back, and
// the floor stays where it was. With that word the sources are followed.
func TestClockOffByYears(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := ntstest.NewLiar(t, a.Certify(t, time.Now().AddDate(-5, 0, 0), time.Now().AddDate(5, 0, 0)))
	const year = 365 * 24 * time.Hour
	for _, off := range []time.Duration{3 * year, time.Hour, -time.Hour, -3 * year} {
		floor := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
		if off < -2*time.Hour {
			floor = floor.Add(off) // else that is the reason
		}
		w := newWatch(t, floor, a, l.Address)
		l.Tell(off)
		where := "ahead of the clock"
		if off < 0 {
			where = "behind the clock"
		}
		w.waits(off.String(), where)
		if !w.clock.lowest().Equal(floor) || !w.is.Clock().Time.Equal(floor) {
			t.Errorf("%s: the floor is %s, the state has %+v", off, w.clock.lowest(), w.is.Clock())
		}
		l.Tell(time.Minute) // an officer has set it, and was a minute late
		w.clock.trust(store.Clock{Time: time.Now(), Source: store.Manual})
		if !w.ask() || w.clock.words() != "NTS" || w.health() != nil {
			t.Errorf("%s: after an officer's word the sources are not followed: %q, %v", off, w.clock.words(), w.health())
		}
	}
}

// TestSmallStepsAddUp: many steps are no longer way than one; what a crystal goes wrong in the meantime is no part of it.
func TestSmallStepsAddUp(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	step := func(ahead time.Duration) bool {
		t.Helper()
		l.Tell(ahead)
		w.clock.standing.Store(nil)
		return w.ask()
	}
	for i, ahead := range []time.Duration{400 * time.Second, -100 * time.Second, 400 * time.Second} {
		if w.clock.floor.Store(lately().Unix()); !step(ahead) || len(w.steps) != i+1 {
			_, err := w.view()
			t.Fatalf("step %d: %v, %v", i, w.steps, err)
		}
	}
	if step(400*time.Second) || len(w.steps) != 3 {
		t.Errorf("more than %s in all: %v", stepMost, w.steps)
	}
	w.faulted("time set 2")
	month := store.Clock{Time: time.Now().AddDate(0, -1, 0).UTC().Truncate(time.Second), Source: store.NTS, Stepped: w.is.Clock().Stepped}
	if month.Stepped < 890*time.Second {
		t.Errorf("%s of steps are known", month.Stepped)
	}
	w.is = firstState(t, store.TimeSourceAdd{Source: store.TimeSource{Address: l.Address, CA: a.DER}}, store.ClockSet(month))
	w.clock = newClock(month.Time)
	if !step(300 * time.Second) {
		_, err := w.view()
		t.Errorf("a month later: %v", err)
	}
}

// TestSlewsAddUp: what is made up for slowly counts like a step, before it is sealed too.
func TestSlewsAddUp(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	now := time.Now().Add(-10 * time.Second).UTC().Truncate(time.Second)
	w.is = firstState(t, store.TimeSourceAdd{Source: store.TimeSource{Address: l.Address, CA: a.DER}},
		store.ClockSet{Time: now, Source: store.NTS, Stepped: stepMost - 600*time.Millisecond})
	w.clock = newClock(now)
	w.clock.vouch(store.NTS)
	for i, ahead := range []time.Duration{250, -250} {
		l.Tell(ahead * time.Millisecond)
		if !w.ask() || len(w.slews) != i+1 {
			_, err := w.view()
			t.Fatalf("slew %d: %v, %v", i, w.slews, err)
		}
	}
	l.Tell(250 * time.Millisecond)
	if w.ask(); len(w.slews) != 2 {
		t.Errorf("slewed by more than %s in all: %v", stepMost, w.slews)
	}
	w.faulted("they have set it by 16m40s already")
}

// TestClockJumps: a clock that somebody else sets while the box runs, by years, is trusted no more: the time is what has passed, the floor
// stays, and nothing sealed knows of it. When it is right again it is trusted again, and the sources set it right.
func TestClockJumps(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := ntstest.NewLiar(t, a.Certify(t, time.Now().AddDate(0, -1, 0), time.Now().AddDate(0, 1, 0)))
	w := newWatch(t, lately(), a, l.Address)
	for _, by := range []time.Duration{3 * 365 * 24 * time.Hour, -3 * 365 * 24 * time.Hour, 3 * time.Minute, -3 * time.Minute} {
		for _, word := range []store.ClockSource{store.Manual, store.NTS} {
			w.clock.vouch(word)
			right := w.clock.standing.Load()
			jumped := *right
			jumped.shown = jumped.shown.Add(-by)
			w.clock.standing.Store(&jumped)
			now, trusted := w.clock.now()
			if want := later(time.Now().Add(-by), w.clock.lowest()); trusted || now.Sub(want).Abs() > time.Minute || w.clock.source() != "" {
				t.Errorf("%s, %s: it is %s, %v; want %s", by, word, now, trusted, want)
			}
			if got := w.clock.words(); !strings.HasPrefix(got, "it jumped by "+span(by)) {
				t.Errorf("%s: %q", by, got)
			}
			w.clock.standing.Store(right)
			if _, trusted := w.clock.now(); !trusted {
				t.Errorf("%s: back, and not trusted", by)
			}
		}
	}
	day := 24 * time.Hour
	w.clock.standing.Store(&standing{store.NTS, time.Now(), time.Now().Round(0).Add(day)}) // it fell back a day
	l.Tell(day)
	if !w.ask() {
		_, err := w.view()
		t.Error("not set right: ", err)
	}
	near(t, w.steps, 1, day)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestSetMeanwhile: what sources said of a clock that was set since is not done.
func TestSetMeanwhile(t *testing.T) {
	a := ntstest.NewAuthority(t)
	w := newWatch(t, lately(), a)
	then := newStanding("")
	then.shown = then.shown.Add(-time.Hour)
	for _, off := range []time.Duration{time.Millisecond, 5 * time.Second} {
		if err := w.take(t.Context(), nts.Reading{Offset: off}, then); !errors.Is(err, errMoved) || len(w.steps)+len(w.slews) > 0 {
			t.Errorf("%s: %v; steps %v, slews %v", off, err, w.steps, w.slews)
		}
	}
}

// TestClockWithinTheLabel: no source takes the clock out of the time of the box's label certificate, behind which it would lock itself.
func TestClockWithinTheLabel(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	w.clock.label = validity{lately(), time.Now().Add(time.Minute)}
	l.Tell(2 * time.Minute)
	if w.ask() || len(w.steps) > 0 {
		t.Errorf("set: %v", w.steps)
	}
	w.faulted("not within the label certificate")
	l.Tell(30 * time.Second)
	if !w.ask() {
		t.Error("not followed within it")
	}
}

// TestClockFailsClosed: what cannot be logged is not done, and what cannot be remembered is not trusted.
func TestClockFailsClosed(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	l.Tell(10 * time.Minute)
	w.full = errors.New("the disk is full")
	if w.ask() || len(w.steps) > 0 || w.noted > 0 {
		t.Errorf("set, or %d records on a full disk", w.noted)
	}
	w.faulted("the disk is full")
	w.full, w.failLog = nil, true
	if w.ask() || len(w.steps) > 0 {
		t.Error("set without a record")
	}
	w.faulted("the log is full")
	w.failLog, w.failNV = false, true
	if w.ask() {
		t.Error("trusted, and the state does not know")
	}
	w.faulted("no NV")
	w.failNV, w.set = false, nil
	if w.ask() {
		t.Error("the clock of a host is trusted though it is off")
	}
	w.faulted("host's clock differs by 10m0s")
	l.Tell(time.Second)
	if !w.ask() {
		t.Error("the clock of a host is not trusted")
	}
}

// TestOfficersWord stays for as long as the agent runs, and the sources' word follows it. It alone may lower the floor, to the label certificate.
func TestOfficersWord(t *testing.T) {
	a := ntstest.NewAuthority(t)
	l := a.Liar(t)
	w := newWatch(t, lately(), a, l.Address)
	w.clock.trust(store.Clock{Time: time.Now(), Source: store.Manual})
	w.clock.held = 0
	l.Spoil(func(b []byte) []byte { b[40] ^= 1; return b })
	if !w.ask() || w.clock.words() != "manual" {
		t.Errorf("an officer's word is gone: %q", w.clock.words())
	}
	w.clock.held = time.Hour
	l.Spoil(nil)
	if !w.ask() || w.clock.words() != "NTS" {
		t.Errorf("the sources are not followed: %q", w.clock.words())
	}
	w.clock.raise(time.Now().AddDate(9, 0, 0))
	w.clock.label.from = lately()
	w.clock.trust(store.Clock{Time: time.Now(), Source: store.NTS})
	if _, trusted := w.clock.now(); trusted {
		t.Error("the sources took the clock behind its floor")
	}
	w.clock.trust(store.Clock{Time: time.Now(), Source: store.Manual})
	if _, trusted := w.clock.now(); !trusted {
		t.Error("officers did not take the clock back")
	}
	w.clock.trust(store.Clock{Time: lately().AddDate(-1, 0, 0), Source: store.Manual})
	if w.clock.lowest().Before(w.clock.label.from.Truncate(time.Second)) {
		t.Errorf("the floor is %s, before the label certificate", w.clock.lowest())
	}
}
