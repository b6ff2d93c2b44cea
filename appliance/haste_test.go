package appliance

import (
	"runtime/debug"
	"testing"
)

// TestHaste: the garbage collector works less often during a start, and as before when it has ended, however often the end is told.
func TestHaste(t *testing.T) {
	collector := func() (percent int, limit int64) {
		percent = debug.SetGCPercent(-1)
		debug.SetGCPercent(percent)
		return percent, debug.SetMemoryLimit(-1)
	}
	percent, limit := collector()
	for range 2 {
		end := inHaste()
		if p, l := collector(); p != hastePercent || l >= limit || l < 64<<20 {
			t.Errorf("during a start: %d%%, %d bytes", p, l)
		}
		end()
		end()
		if p, l := collector(); p != percent || l != limit {
			t.Errorf("after it: %d%%, %d bytes; before: %d%%, %d bytes", p, l, percent, limit)
		}
	}
}
