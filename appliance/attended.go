package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
)

// openAttended is open, and where the TPM alone does not open the state, open after somebody at the console has typed what else it takes.
func (a *agent) openAttended(ctx context.Context) (opened, error) {
	o, err := a.open(ctx)
	var waits *store.Attended
	for errors.As(err, &waits) {
		if a.machine == nil {
			return o, fmt.Errorf("%w, which process 1 of a box would keep; there is none", err)
		}
		if a.unlocked, err = a.wait(ctx, waits); err != nil {
			return o, err
		}
		o, err = a.open(ctx)
	}
	return o, err
}

// wait serves the console of a box that waits, and nothing else, until the store's key is there. The network is off, and who comes by another way is
// hung up on.
func (a *agent) wait(ctx context.Context, waits *store.Attended) (by admin.Typed, err error) {
	var refused *machine.Refused
	if err := a.machine.SetNetwork(ctx, machine.Network{Mode: machine.Off}); err != nil && !errors.As(err, &refused) { // a host's network is not the agent's
		return by, err
	}
	c := a.adminConfig()
	c.Mode, c.Reason, c.Waits = console.Attended, waits.Error(), waits.Locks
	c.Health = func() []string { return []string{c.Reason} }
	outer := ctx
	ctx, opened := context.WithCancelCause(ctx)
	defer opened(nil)
	c.Unlock = func(ctx context.Context, secret [32]byte, typed admin.Typed) error {
		key, err := a.machine.Unlock(ctx, secret)
		if err != nil {
			return err
		}
		a.in.store, by = key, typed
		opened(errUnlocked)
		return nil
	}
	agent, err := admin.New(c)
	if err != nil {
		return by, err
	}
	desk, err := another(a.in.admin)
	if err != nil {
		return by, err
	}
	defer desk.Close()
	a.log.Info("attended", "waits", waits.Error())
	ready(outer, a.log) // and a sign of life also between this and the agent's own
	parts := []func() error{func() error { return a.serveAdminOn(ctx, desk, agent) }}
	for _, l := range []net.Listener{a.in.release, a.in.health} {
		if l == nil {
			continue
		}
		port, err := another(l)
		if err != nil {
			return by, err
		}
		defer port.Close()
		if l == a.in.release {
			parts = append(parts, func() error { hangUp(ctx, port); return nil })
		} else {
			parts = append(parts, func() error {
				return serveHealthOn(ctx, port, release.HealthServer(func() error { return waits }))
			})
		}
	}
	err = together(ctx, opened, parts...)
	if errors.Is(err, errUnlocked) {
		return by, nil
	}
	return by, errors.Join(err, ctx.Err())
}

var errUnlocked = errors.New("unlocked")

// another is a second listener on a socket, to be closed without the first.
func another(l net.Listener) (net.Listener, error) {
	has, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("listen again: %T is no socket", l)
	}
	f, err := has.File()
	if err != nil {
		return nil, fmt.Errorf("listen again: %w", err)
	}
	defer f.Close()
	return net.FileListener(f)
}

// hangUp ends every connection at once.
func hangUp(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.Close()
		}
	}
}

// renewer has the state's key renewed together with the TPM's half of it; nil without a process 1.
func (a *agent) renewer(o opened) func(context.Context, machine.Opening, [32]byte, *store.Lock) error {
	if a.machine == nil {
		return nil
	}
	return func(ctx context.Context, how machine.Opening, secret [32]byte, lock *store.Lock) error {
		ctx = context.WithoutCancel(ctx)
		next, err := a.machine.Renew(ctx, how, secret)
		if err != nil {
			return err
		}
		defer clear(next[:])
		return o.store.Rekey(next, lock, func() error { return a.machine.Turn(ctx) })
	}
}
