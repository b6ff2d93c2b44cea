package appliance

import (
	"context"
	"errors"

	"github.com/keyrelease/krabox/console"
)

// selfTest holds the algorithms to their known answers before anything relies on them.
func (a *agent) selfTest() error {
	r := a.tests.Run()
	if err := errors.Join(r.Failed...); err != nil {
		a.log.Error("self-test", "err", err)
		return err
	}
	a.log.Info("self-test", "passed", len(r.Passed), "took", r.Took)
	return nil
}

// serveError is the state error: nothing is opened, the port is not served, and the console says why.
func (a *agent) serveError(ctx context.Context, reason error) error {
	clear(a.in.store[:])
	if a.in.release != nil {
		a.in.release.Close()
	}
	a.o.mode, a.o.reason = console.Locked, "state error: "+reason.Error()+"; restart the box, and replace it if that does not help"
	return a.serveRestricted(ctx)
}
