package boxtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/appliance/nts/ntstest"
)

// TestTimeOverNTS: a box that starts with an untrusted clock follows a source as soon as it has one, and rules that ask for the time decide.
func TestTimeOverNTS(t *testing.T) {
	b := boxtest.Start(t)
	a := ntstest.NewAuthority(t)
	if got := b.Do("time show"); !strings.Contains(got, "not trusted") || !strings.Contains(got, "There are no sources of time") {
		t.Errorf("before: %s", got)
	}
	b.Do("time source add "+ntstest.Chronyd(t, a).Address, a.PEM())
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		got := b.Do("time show")
		if strings.Contains(got, "trusted, NTS") && strings.Contains(got, "agrees") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not trusted:\n%s", got)
		}
	}
	if got := b.Do("log show 200"); !strings.Contains(got, "(sources of time) the clock follows") {
		t.Errorf("the log does not tell:\n%s", got)
	}
}
