package appliance

import (
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// hasteShare is the part of the machine's memory, one in so many, that a start may fill before the garbage collector works.
const hasteShare = 4

// inHaste has the garbage collector wait until end is called, at most until a part of memory is full: a start makes much and drops little,
// and a third of the time of a large one was spent looking for it.
func inHaste() (end func()) {
	var m unix.Sysinfo_t
	if unix.Sysinfo(&m) != nil {
		return func() {}
	}
	limit := debug.SetMemoryLimit(int64(uint64(m.Totalram) * uint64(m.Unit) / hasteShare))
	percent := debug.SetGCPercent(-1)
	return sync.OnceFunc(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}
