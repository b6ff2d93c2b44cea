package appliance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/appliance/selftest"
	"github.com/keyrelease/krabox/console"
)

// selfTest holds the algorithms to their known answers before anything relies on them.
func (a *agent) selfTest() error {
	r := a.tests.Run()
	if err := errors.Join(r.Failed...); err != nil {
		a.log.Error("self-test", "err", err)
		return err
	}
	a.passed = len(r.Passed)
	a.log.Info("self-test", "passed", len(r.Passed), "took", r.Took)
	return nil
}

// testAgain is selfTest once more, and that the programs of the box are still those that the image lists: process 1, which starts no others,
// reads them all. What could not be asked is no verdict.
func (a *agent) testAgain(ctx context.Context) (selftest.Report, error) {
	if a.machine == nil {
		return a.tests.Run(), nil
	}
	n, faults, err := a.machine.Programs(ctx)
	if err != nil {
		return selftest.Report{}, fmt.Errorf("read the programs of the box: %w", err)
	}
	if n == 0 {
		return a.tests.Run(), nil
	}
	name := fmt.Sprintf("the %d programs of the image (SHA-256)", n)
	if len(faults) > 0 {
		return a.tests.Run(selftest.Part{Name: name, Err: errors.New(strings.Join(faults, "; "))}), nil
	}
	return a.tests.Run(selftest.Part{Name: name}), nil
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
