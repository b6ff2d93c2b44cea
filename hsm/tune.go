package hsm

import (
	"os"
	"slices"
	"strings"
	"syscall"
)

// SoftHSM spends a tenth of an ECDH in malloc, on blocks above the size that glibc's caches of a thread take by default.
// The C library reads this before main, and from nowhere else.
const (
	tunables = "GLIBC_TUNABLES"
	tuned    = "glibc.malloc.tcache_max=16384:glibc.malloc.tcache_count=200"
)

// retune replaces the process by itself with malloc tuned, once. Descriptors, process number and confinement stay.
// Where that is forbidden, it goes on as it is.
func retune() {
	set := func(v string) bool { return strings.HasPrefix(v, tunables+"=") }
	if env := os.Environ(); !slices.ContainsFunc(env, set) {
		_ = syscall.Exec("/proc/self/exe", os.Args, append(env, tunables+"="+tuned))
	}
}
