package appliance

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/external"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/selftest"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/appliance/syslog"
	"github.com/keyrelease/krabox/appliance/usage"
	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// How often the log's position is written to NV when nothing else writes it, and the token is asked whether it is there.
// NV parts endure some 100,000 writes: one in ten minutes lasts two years of full load, and a change writes at once anyway.
const (
	anchorEvery  = 10 * time.Minute
	clockEvery   = time.Hour // how often a trusted time is sealed
	tokenEvery   = time.Second
	sensorsEvery = 5 * time.Second
	tendEvery    = 30 * time.Second // keys whose time has come
)

var errZeroized = errors.New("the box was zeroized")

// serveEnrolled opens the box and serves until ctx ends. What contradicts the TPM's record locks the box instead.
func (a *agent) serveEnrolled(ctx context.Context) error {
	o, err := a.openAttended(ctx)
	clear(a.in.store[:]) // store and log have what they need of it
	var evidence contradiction
	if errors.As(err, &evidence) {
		return a.lock(ctx, evidence.reason)
	}
	if err != nil {
		return err
	}
	defer o.started()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	err = a.serveOpened(ctx, o, fail)
	// ctx has ended: what follows is the last thing that the agent does.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if o.store.Health() == nil {
		err = errors.Join(err, a.remember(end, o))
	}
	return errors.Join(err, o.log.Close(), o.store.Close())
}

// lock has process 1 lock the box. Without a process 1 the agent only refuses to serve.
func (a *agent) lock(ctx context.Context, reason string) error {
	if a.machine == nil {
		return errors.New("locked: " + reason)
	}
	if err := a.machine.Lock(ctx, reason); err != nil {
		return fmt.Errorf("lock box (%s): %w", reason, err)
	}
	<-ctx.Done() // process 1 stops us
	return nil
}

// serveOpened serves port, health and console until ctx ends or one of them fails.
func (a *agent) serveOpened(ctx context.Context, o opened, fail context.CancelCauseFunc) error {
	token, err := hsm.Dial(a.o.hsm)
	if err != nil {
		return err
	}
	defer token.Close()
	keys, err := a.followLabels(o, token)
	if err != nil {
		return err
	}
	defer keys.close()
	b := &board{domain: a.domain, dial: a.o.outward(), time: o.clock.time, outside: external.New(a.domain.Name, o.store.State().Box().Name),
		sources: inform.NewKeeper(o.clock.time, a.log)}
	defer b.sources.Close()
	st := o.store.State()
	build := sync.OnceValues(func() (*posted, error) { return b.build(st, st.Generation()) })
	go build() // while hsmd opens its token
	keeper, err := openToken(ctx, token, o, fail, keys.changed)
	if err != nil {
		return err
	}
	keys.Follow(ctx)
	b.forward = syslog.New(o.log, func() syslog.Origin { return originOf(o.store.State()) }, b.dial, b.time, a.log)
	first, err := build()
	if err != nil {
		return fmt.Errorf("compile rules: %w", err)
	}
	b.first = first
	if err := b.tell(ctx, o.log); err != nil && !errors.Is(err, audit.ErrFull) {
		return err
	}
	b.use(first)
	o.started()
	l, err := newLeaf(ctx, a.tpm, time.Now, a.log)
	if err != nil {
		return err
	}
	times := a.timekeeper(o)
	h := &health{tests: a.tests, open: o, token: token, board: b, leaf: l, times: times, meter: usage.NewMeter(o.log), unanswered: keeper.unanswered}
	advertised, err := tpm.Dial(a.o.tpm)
	if err != nil {
		return err
	}
	defer advertised.Close()
	if b.page, err = a.page(o, b, h, advertised); err != nil {
		return err
	}
	c, err := a.enrolledAdmin(ctx, o, b, h, token)
	if err != nil {
		return err
	}
	c.Erase = func() error {
		if a.machine == nil { // who restarts the box ends us; a host does not
			defer fail(errZeroized)
		}
		return a.erase()
	}
	c.Lock, c.Renew, c.Owed = o.store.Lock, a.renewer(o), o.store.Owed
	standby := release.NewStandby(o.idle)
	c.Times = times.view
	c.Unlogged, c.Labels, c.There, c.TLS = keeper.unlogged, keys.labelled, standby.There, l.there
	agent, err := admin.New(c)
	if err != nil {
		return err
	}
	challenged, err := tpm.Dial(a.o.tpm)
	if err != nil {
		return err
	}
	defer challenged.Close()
	port, err := release.New(release.Options{Custody: custody{token, keeper.unanswered, keys.Usable}, Journal: h.meter, Snapshot: b.snapshot, Clock: o.clock.now,
		Health: h.port, Certificate: l.get, World: b.world, Groups: agent.NewMaintenance(), Prover: prover{challenged},
		Services: b.outside, Permits: a.permits(b.page), Documents: b.page.Documents, Standby: standby, Unlogged: keeper.unlogged, Log: a.log})
	if err != nil {
		return err
	}
	a.network(ctx, o.store.State())
	return a.run(ctx, fail,
		func() error { return port.Serve(ctx, a.in.release) },
		func() error { return a.serveHealth(ctx, h) },
		func() error { return a.serveAdmin(ctx, agent) },
		func() error { l.keep(ctx, time.Tick(leafEvery)); return nil },
		func() error { b.page.Run(ctx); return nil },
		func() error { b.forward.Run(ctx); return nil },
		func() error { keys.keep(ctx); return nil },
		func() error { times.run(ctx); return nil },
		func() error { a.tend(ctx, agent, h); return nil },
		func() error { return b.keepTelling(ctx, o.log) },
		func() error { _ = first.Book.Warm(ctx); return nil },
		func() error { return h.watch(ctx) },
		func() error { a.feel(ctx, h); return nil },
		func() error { a.anchor(ctx, o); return nil })
}

// run runs all parts and ends all of them when one fails.
func (a *agent) run(ctx context.Context, fail context.CancelCauseFunc, parts ...func() error) error {
	stop := context.AfterFunc(ctx, func() {
		if _, err := daemon.SdNotify(false, daemon.SdNotifyStopping); err != nil {
			a.log.Error("notify supervisor", "err", err)
		}
	})
	defer stop()
	return together(ctx, fail, parts...)
}

// together is run for parts whose end is not the agent's.
func together(ctx context.Context, fail context.CancelCauseFunc, parts ...func() error) error {
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() {
			if err := part(); err != nil {
				fail(err)
			}
		})
	}
	<-ctx.Done()
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// enrolledAdmin is what the console works with.
func (a *agent) enrolledAdmin(ctx context.Context, o opened, b *board, h *health, token *hsm.Client) (admin.Config, error) {
	root, err := a.domain.Certificate()
	if err != nil {
		return admin.Config{}, err
	}
	c := a.adminConfig()
	c.Roots = x509.NewCertPool()
	c.Roots.AddCert(root)
	c.Store, c.HSM, c.Log, c.Book, c.Health = o.store, token, o.log, b.book, h.words
	c.Feed, c.Standing, c.Forwarded, c.Delivered = b.feed, b.page.Lines, b.forwarded, b.delivered
	c.Now = o.clock.time
	c.Clock = func() (bool, string) {
		_, trusted := o.clock.now()
		return trusted, o.clock.words()
	}
	c.Trust, c.Possible = o.clock.trust, o.clock.label.check
	c.Try = func(next *store.State) error {
		if _, err := next.Permissions(); err != nil {
			return err
		}
		_, err := b.build(next, o.store.State().Generation()+1)
		return err
	}
	c.Prepare = func(next *store.State) (func(), error) {
		if _, err := next.Permissions(); err != nil {
			return nil, err
		}
		s, err := b.build(next, o.store.State().Generation()+1)
		if err != nil {
			return nil, err
		}
		if err := b.tell(ctx, o.log); err != nil && (s.decides() || !errors.Is(err, audit.ErrFull)) {
			return nil, err
		}
		if err := s.log(ctx, o.log); err != nil {
			return nil, err
		}
		return func() { o.use(b, s, next) }, nil
	}
	return c, nil
}

// use puts a snapshot to work once its state is committed.
func (o opened) use(b *board, s *posted, next *store.State) {
	b.use(s)
	if permitted, err := next.Permissions(); err == nil { // else the change was not prepared
		b.page.Configure(settingsOf(next), permitted)
	}
	o.log.SetState(o.store.State().Generation(), o.resets)
}

// timekeeper is who has the clock follow the sources of time.
func (a *agent) timekeeper(o opened) *timekeeper {
	k := &timekeeper{clock: o.clock, state: o.store.State, keep: o.store.Commit, note: o.log.Append, room: o.room, dial: a.o.outward(), log: a.log, again: timing{timeEvery, timeSoon, timeRetry}}
	if a.machine != nil {
		k.set = a.machine
	}
	return k
}

// room returns nil while disk and log take a change.
func (o opened) room() error {
	if err := o.log.Health(); err != nil {
		return err
	}
	return o.store.Room()
}

// idle is after how long without a request the service is only potentially there; 0: never.
func (o opened) idle() time.Duration {
	return time.Duration(o.store.State().Standby().Minutes) * time.Minute
}

// network puts the configuration of the sealed state on the port, whatever was on trial there before this agent. A box that has none
// gets what process 1 does by itself.
func (a *agent) network(ctx context.Context, st *store.State) {
	if a.machine == nil {
		return
	}
	n := st.Network()
	if n.Mode == "" {
		n.Mode = machine.DHCP
	}
	err := a.machine.SetNetwork(ctx, st.OnPort(n))
	var refused *machine.Refused
	if errors.As(err, &refused) && st.Network().Mode == "" {
		return // the network is a host's, and nobody has set it here
	}
	if err != nil {
		a.log.Error("set network", "err", err)
	}
}

// tend does what time brings about for keys.
func (a *agent) tend(ctx context.Context, agent *admin.Agent, h *health) {
	for t := time.NewTicker(tendEvery); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			if a.tests.Health() != nil {
				continue // no key is made or destroyed in the state error
			}
			if err := agent.Tend(context.WithoutCancel(ctx)); err != nil {
				a.log.Error("tend keys", "err", err)
			}
			if err := agent.Certificates(); err != nil {
				h.ends.Store(&err)
			} else {
				h.ends.Store(nil)
			}
		}
	}
}

// anchor writes the log's position to NV now and then: what lies before it can no longer be cut off unseen.
func (a *agent) anchor(ctx context.Context, o opened) {
	for t := time.NewTicker(anchorEvery); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := a.remember(ctx, o); err != nil {
				a.log.Error("anchor log", "err", err)
			}
		}
	}
}

// remember writes what the next boot must know: a trusted time, below which the clock will never be believed again, and the
// log's position, which every change writes too.
func (a *agent) remember(ctx context.Context, o opened) error {
	now, trusted := o.clock.now()
	if !trusted || now.Sub(o.store.State().Clock().Time) < clockEvery {
		return o.store.Anchor(ctx)
	}
	o.clock.sealing.Lock()
	defer o.clock.sealing.Unlock()
	last := o.store.State().Clock()
	c := store.ClockSet{Time: now, Source: last.Source, Stepped: stepped(last, o.clock.slewed, last.Time, now)}
	o.clock.raise(now)
	_, err := o.store.Commit(ctx, c)
	if err == nil {
		o.clock.slewed = 0
	}
	if errors.Is(err, store.ErrFull) {
		return o.store.Anchor(ctx) // the TPM's record has room, and the disk is not needed for it
	}
	return err
}

// health is what keeps the box from releasing keys.
type health struct {
	tests *selftest.Suite
	open  opened
	token *hsm.Client
	board *board
	leaf  *leaf
	times *timekeeper
	meter *usage.Meter
	ends  atomic.Pointer[error]    // a key's certificate that was not renewed
	hot   atomic.Pointer[[]string] // what the machine's sensors say is wrong
	gone  atomic.Pointer[error]    // why the token does not answer
	full  atomic.Pointer[error]    // why the disk takes no change

	unanswered func() // writes down what the module did while the log took nothing
}

// port returns nil while keys can be released. It waits for nothing.
func (h *health) port() error {
	if err := h.able(); err != nil {
		return err
	}
	return h.board.page.Health()
}

// able is port apart from what the domain permits.
func (h *health) able() error {
	if err := h.tests.Health(); err != nil {
		return err
	}
	if err := h.gone.Load(); err != nil {
		return *err
	}
	if err := cmp.Or(h.open.log.Health(), h.board.health()); err != nil {
		return err
	}
	if err := h.full.Load(); err != nil {
		return *err
	}
	return h.open.store.Health() // what cannot be revoked must not be released
}

// words says all that is wrong, for the console and the health port.
func (h *health) words() (bad []string) {
	for _, err := range []error{h.tests.Health(), h.open.log.Health(), h.open.store.Health(), h.board.health(), h.board.page.Health(), h.leaf.health(), h.times.health(), h.board.forward.Health()} {
		if err != nil {
			bad = append(bad, err.Error())
		}
	}
	if err := h.full.Load(); err != nil {
		bad = append(bad, (*err).Error())
	}
	if hot := h.hot.Load(); hot != nil { // a warning: keys are released all the same
		bad = append(bad, *hot...)
	}
	if err := h.ends.Load(); err != nil { // nor does this
		bad = append(bad, (*err).Error())
	}
	if err := h.gone.Load(); err != nil {
		bad = append(bad, "token: "+(*err).Error())
	}
	return bad
}

// watch asks the token whether it is there. A store that closed itself ends the agent: what disk and TPM then hold, the next
// start finds out.
func (h *health) watch(ctx context.Context) error {
	wasFull := false
	for t := time.NewTicker(tokenEvery); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := h.open.store.Health(); err != nil {
				return err
			}
			wasFull = h.room(wasFull)
			limit, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := h.token.Status(limit)
			cancel()
			if err != nil {
				h.gone.Store(&err)
			} else {
				h.gone.Store(nil)
			}
		}
	}
}

// room asks the disk for room, and returns whether the log has none. What the module did meanwhile is written down when it has.
func (h *health) room(wasFull bool) (full bool) {
	if err := h.open.store.Room(); err != nil {
		h.full.Store(&err)
	} else {
		h.full.Store(nil)
	}
	full = errors.Is(h.open.log.Health(), audit.ErrFull)
	if wasFull && !full {
		h.unanswered()
	}
	return full
}

func (a *agent) serveHealth(ctx context.Context, h *health) error {
	if a.in.health == nil {
		return nil
	}
	s := release.HealthServer(h.port)
	s.Handler = h.monitor(s.Handler)
	return serveHealthOn(ctx, a.in.health, s)
}

func serveHealthOn(ctx context.Context, l net.Listener, s *http.Server) error {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
