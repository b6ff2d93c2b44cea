package appliance

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/selftest"
	"github.com/keyrelease/krabox/boot/machine"
)

// A box that was not tested, or failed, cannot release, whatever else it is.
func TestUntestedIsNotAble(t *testing.T) {
	h := &health{tests: selftest.New()}
	for name, ask := range map[string]func() error{"port": h.port, "able": h.able} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "no self-test was run") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// body is process 1 of a box of two programs, of which the second has this fault.
type body struct {
	machine.Handler
	fault  string
	refuse error
}

func (b body) Program(at int) (machine.Program, error) {
	return machine.Program{Path: "/bin/krad", Of: 2, Fault: []string{"", b.fault}[at]}, b.refuse
}
func (b body) Status() machine.Status { return machine.Status{} }

// TestProgramsAreTested: the test on command is one of the programs too; one that is not as listed ends release for good, and one that could not be
// asked about is no verdict, neither way.
func TestProgramsAreTested(t *testing.T) {
	agentOf := func(b body) *agent {
		near, far := net.Pipe()
		go machine.Serve(context.WithoutCancel(t.Context()), far, b)
		a := &agent{tests: selftest.New(), machine: machine.NewClient(near)}
		t.Cleanup(func() { a.machine.Close() })
		a.tests.Run()
		return a
	}
	a := agentOf(body{})
	r, err := a.testAgain(t.Context())
	if err != nil || len(r.Failed) > 0 || !slices.Contains(r.Passed, "the 2 programs of the image (SHA-256)") || a.tests.Health() != nil {
		t.Errorf("as listed: %+v, %v, %v", r, err, a.tests.Health())
	}
	a = agentOf(body{fault: "/bin/krad is not the program that the manifest lists"})
	r, err = a.testAgain(t.Context())
	if err != nil || len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error(), "/bin/krad is not the program") {
		t.Errorf("another program: %+v, %v", r, err)
	}
	if err := a.tests.Health(); err == nil || !strings.Contains(err.Error(), "state error") || !strings.Contains(err.Error(), "/bin/krad") {
		t.Errorf("health of a box with another program: %v", err)
	}
	a = agentOf(body{refuse: errors.New("busy")})
	if r, err := a.testAgain(t.Context()); err == nil || r.Passed != nil || a.tests.Health() != nil {
		t.Errorf("not asked: %+v, %v, %v", r, err, a.tests.Health())
	}
	a = &agent{tests: selftest.New()}
	if r, err := a.testAgain(t.Context()); err != nil || len(r.Passed) < 17 || a.tests.Health() != nil {
		t.Errorf("an ordinary host: %+v, %v", r, err)
	}
}
