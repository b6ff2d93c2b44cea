package appliance

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/selftest"
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
