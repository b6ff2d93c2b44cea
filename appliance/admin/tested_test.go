package admin

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/selftest"
)

// A failed test ends what the console does for good, and is in the log: only what mends a box goes on.
func TestErrorInhibits(t *testing.T) {
	w := enrolled(t)
	suite := selftest.New()
	w.c.SelfTest = func(context.Context) (selftest.Report, error) { return suite.Run(), nil }
	w.c.Failed = suite.Health
	if _, o := w.try("access add legal-team"); !strings.Contains(o.Error, "no self-test was run") {
		t.Errorf("untested: %+v", o)
	}
	suite.Run()
	w.has("system test", "RSA-OAEP", "Argon2id", "self-tests passed in")
	w.has("status", "FIPS 140 mode")
	w.do("access add legal-team")
	w.c.SelfTest = func(context.Context) (selftest.Report, error) {
		return selftest.Report{Failed: []error{errors.New("self-test of AES-256-GCM: the answer is not the known one")}}, nil
	}
	w.c.Failed = func() error { return errors.New("state error, nothing is released: self-test of AES-256-GCM") }
	before := w.store.State().Root()
	for _, line := range []string{"system test", "access add r-d", "key generate p256 for legal-team", "log export", "group add g corp:CN=a", "replica request"} {
		if out, o := w.try(line); !strings.Contains(o.Error, "tate error") || out != "" || w.store.State().Root() != before {
			t.Errorf("%s in the state error: %q %+v", line, out, o)
		}
	}
	w.has("status", "enrolled")
	w.c.Failed = nil
	w.has("log show 40", "failed access add r-d Nothing")
}
