package hsm

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SoftHSM spends a tenth of an ECDH in malloc, on blocks above the size that glibc's caches of a thread take by default.
// The C library reads this before main, and from nowhere else.
const (
	tunables = "GLIBC_TUNABLES"
	tuned    = "glibc.malloc.tcache_max=16384:glibc.malloc.tcache_count=200"
)

// slack is how late a sleep may end. Go's monitor sleeps for 20 µs at a time while a call into the module lasts, and would
// cost two switches of threads for each.
const slack = time.Millisecond

// keepProcessors lets each session keep its Go processor while it is inside the module, and leaves enough for the rest.
// With fewer, the runtime takes them away and back, with two hand-overs between threads for each call.
func keepProcessors() { runtime.GOMAXPROCS((sessionsPerCore + 1) * runtime.NumCPU()) }

// retune replaces the process by itself with malloc and sleeps tuned, once. Descriptors, process number and confinement stay.
// Where that is forbidden, it goes on as it is.
func retune() {
	set := func(v string) bool { return strings.HasPrefix(v, tunables+"=") }
	if env := os.Environ(); !slices.ContainsFunc(env, set) {
		runtime.LockOSThread() // whose slack is passed on
		defer runtime.UnlockOSThread()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0)
		_ = syscall.Exec("/proc/self/exe", os.Args, append(env, tunables+"="+tuned))
	}
}
