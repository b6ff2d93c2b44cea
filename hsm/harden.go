package hsm

// #include <malloc.h>
// static int perturb(void) { return mallopt(M_PERTURB, 0xA5); }
import "C"

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps the process's memory to itself: no core dumps, no debugger of the same user, no swap, and memory that C
// code frees is overwritten, for neither the module nor its Go binding clears what it copies.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	if C.perturb() == 0 {
		return errors.New("overwrite freed memory: the C library cannot")
	}
	lockMemory()
	return nil
}

// lockMemory keeps memory out of swap where the process may lock all that it will ever have. Under a limit, locking what
// comes would make an allocation fail one day; the box has no swap.
func lockMemory() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY && os.Geteuid() != 0 {
		return
	}
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
