package hsm_test

import (
	"testing"

	"github.com/keyrelease/krabox/hsm"
)

// TestFlagsHaveBounds: the numbers that hsmd is told have bounds.
func TestFlagsHaveBounds(t *testing.T) {
	for _, flags := range [][]string{{"-loaded", "0"}, {"-loaded", "-1"}, {"-loaded", "65537"}, {"-destroyed", "-1"}, {"-destroyed", "1073741825"},
		{"-life", "-1s"}, {"-life", "25h"}} {
		if err := hsm.CheckFlags(flags...); err == nil {
			t.Errorf("%q is taken", flags)
		}
	}
	if err := hsm.CheckFlags("-loaded", "65536", "-destroyed", "0", "-life", "1m"); err != nil {
		t.Error(err)
	}
}
