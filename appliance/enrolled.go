package appliance

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/external"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/appliance/usage"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// How often the log's position is written to NV when nothing else writes it, and the token is asked whether it is there.
// NV parts endure some 100,000 writes: one in ten minutes lasts two years of full load, and a change writes at once anyway.
const (
	anchorEvery = 10 * time.Minute
	clockEvery  = time.Hour // how often a trusted time is sealed
	tokenEvery  = time.Second
)

// serveEnrolled opens the box and serves until ctx ends. What contradicts the TPM's record locks the box instead.
func (a *agent) serveEnrolled(ctx context.Context) error {
	o, err := a.open(ctx)
	clear(a.in.store[:]) // store and log have what they need of it
	var evidence contradiction
	if errors.As(err, &evidence) {
		return a.lock(ctx, evidence.reason)
	}
	if err != nil {
		return err
	}
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
	keeper, err := openToken(ctx, token, o, fail)
	if err != nil {
		return err
	}
	b := &board{domain: a.domain, dial: a.o.outward(), outside: external.New(a.domain.Name, o.store.State().Box().Name),
		sources: inform.NewKeeper(func() time.Time { now, _ := o.clock.now(); return now }, a.log)}
	defer b.sources.Close()
	first, err := b.build(o.store.State(), o.store.State().Generation())
	if err != nil {
		return fmt.Errorf("compile rules: %w", err)
	}
	if err := first.log(ctx, o.log); err != nil {
		return err
	}
	b.use(first)
	l, err := newLeaf(ctx, a.tpm, a.log)
	if err != nil {
		return err
	}
	h := &health{open: o, token: token, board: b, meter: usage.NewMeter(o.log)}
	c, err := a.enrolledAdmin(ctx, o, b, h, token)
	if err != nil {
		return err
	}
	c.Unlogged = keeper.unlogged
	agent, err := admin.New(c)
	if err != nil {
		return err
	}
	challenged, err := tpm.Dial(a.o.tpm)
	if err != nil {
		return err
	}
	defer challenged.Close()
	port, err := release.New(release.Options{Custody: custody{token, keeper.unanswered}, Journal: h.meter, Snapshot: b.snapshot, Clock: o.clock.now,
		Health: h.port, Certificate: l.get, World: b.world, Groups: agent.NewMaintenance(), Prover: prover{challenged},
		Services: b.outside, Unlogged: keeper.unlogged, Log: a.log})
	if err != nil {
		return err
	}
	a.network(ctx, o.store.State())
	return a.run(ctx, fail,
		func() error { return port.Serve(ctx, a.in.release) },
		func() error { return a.serveHealth(ctx, h) },
		func() error { return a.serveAdmin(ctx, agent) },
		func() error { l.keep(ctx); return nil },
		func() error { _ = first.Book.Warm(ctx); return nil },
		func() error { return h.watch(ctx) },
		func() error { a.anchor(ctx, o); return nil })
}

// run runs all parts and ends all of them when one fails.
func (a *agent) run(ctx context.Context, fail context.CancelCauseFunc, parts ...func() error) error {
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() {
			if err := part(); err != nil {
				fail(err)
			}
		})
	}
	<-ctx.Done()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyStopping); err != nil {
		a.log.Error("notify supervisor", "err", err)
	}
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
	c.Feed = b.feed
	c.Clock = func() (bool, string) {
		_, trusted := o.clock.now()
		return trusted, string(o.store.State().Clock().Source)
	}
	c.Prepare = func(next *store.State) (func(), error) {
		s, err := b.build(next, o.store.State().Generation()+1)
		if err != nil {
			return nil, err
		}
		if err := s.log(ctx, o.log); err != nil {
			return nil, err
		}
		return func() { o.use(b, s, next) }, nil
	}
	return c, nil
}

// use puts a snapshot to work once its state is committed. A committed clock is an officer's word of this moment.
func (o opened) use(b *board, s *posted, next *store.State) {
	b.use(s)
	o.log.SetState(o.store.State().Generation(), o.resets)
	if !next.Clock().Time.Equal(o.clock.committed()) {
		o.clock.trust(next.Clock().Time)
	}
}

// network puts the configuration of the sealed state on the port. A box that has none keeps what process 1 does by itself.
func (a *agent) network(ctx context.Context, st *store.State) {
	n := st.Network()
	if a.machine == nil || n.Mode == "" {
		return
	}
	if err := a.machine.SetNetwork(ctx, n); err != nil {
		a.log.Error("set network", "err", err)
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
	c := store.ClockSet{Time: now, Source: o.store.State().Clock().Source}
	o.clock.note(now)
	_, err := o.store.Commit(ctx, c)
	return err
}

// health is what keeps the box from releasing keys.
type health struct {
	open  opened
	token *hsm.Client
	board *board
	meter *usage.Meter
	gone  atomic.Pointer[error] // why the token does not answer
}

// port returns nil while keys can be released. It waits for nothing.
func (h *health) port() error {
	if err := h.gone.Load(); err != nil {
		return *err
	}
	if err := cmp.Or(h.open.log.Health(), h.board.health()); err != nil {
		return err
	}
	return h.open.store.Health() // what cannot be revoked must not be released
}

// words says all that is wrong, for the console and the health port.
func (h *health) words() (bad []string) {
	for _, err := range []error{h.open.log.Health(), h.open.store.Health(), h.board.health()} {
		if err != nil {
			bad = append(bad, err.Error())
		}
	}
	if err := h.gone.Load(); err != nil {
		bad = append(bad, "token: "+(*err).Error())
	}
	return bad
}

// watch asks the token whether it is there. A store that closed itself ends the agent: what disk and TPM then hold, the next
// start finds out.
func (h *health) watch(ctx context.Context) error {
	for t := time.NewTicker(tokenEvery); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := h.open.store.Health(); err != nil {
				return err
			}
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

func (a *agent) serveHealth(ctx context.Context, h *health) error {
	if a.in.health == nil {
		return nil
	}
	s := release.HealthServer(h.port)
	s.Handler = h.monitor(s.Handler)
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(a.in.health); ctx.Err() == nil {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
