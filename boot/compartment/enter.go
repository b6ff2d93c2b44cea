package compartment

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Limits that every daemon gets.
const (
	maxThreads = 1024
	maxGiven   = 64       // descriptors
	maxLocked  = 64 << 20 // bytes of memory that a daemon may keep from being swapped
)

// Become enters the compartment and turns this process into the daemon. It returns only an error; the caller must then exit, for
// it may be half confined.
//
// The order matters: mounts and the bounding set need root, landlock must come after the last file that stage1 needs itself,
// and changing the user forgets the parent-death signal.
func Become(p Policy) error {
	runtime.LockOSThread()
	steps := []struct {
		what string
		do   func(Policy) error
	}{
		{"tell the process id", tellPID},
		{"close what was not given", closeOthers},
		{"set limits", limit},
		{"mount own /proc", mountProc},
		{"drop capabilities", dropCapabilities},
		{"become user", becomeUser},
		{"follow the parent", func(Policy) error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) }},
		{"forbid core dumps", func(Policy) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
		{"forbid new privileges", func(Policy) error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"restrict files", restrictFiles},
	}
	for _, s := range steps {
		if err := s.do(p); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	err := unix.Exec(p.Program, append([]string{p.Program}, p.Args...), os.Environ())
	return fmt.Errorf("execute %s: %w", p.Program, err)
}

// tellPID fills in the process ids that a supervisor without pid namespaces cannot know before the fork.
func tellPID(Policy) error {
	pid := strconv.Itoa(os.Getpid())
	for _, name := range []string{"LISTEN_PID", "WATCHDOG_PID"} {
		if _, set := os.LookupEnv(name); !set {
			continue
		}
		if err := os.Setenv(name, pid); err != nil {
			return err
		}
	}
	return nil
}

// closeOthers lets execve close every descriptor but the standard ones and those of LISTEN_FDS, which follow them.
func closeOthers(Policy) error {
	given := 0
	if s := os.Getenv("LISTEN_FDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > maxGiven {
			return fmt.Errorf("LISTEN_FDS is %q", s)
		}
		given = n
	}
	return unix.CloseRange(uint(3+given), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}

func limit(p Policy) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: uint64(p.OpenFiles)}
	if p.Kind == Sealed {
		limits[unix.RLIMIT_NPROC] = maxThreads
		limits[unix.RLIMIT_MEMLOCK] = maxLocked
	}
	for which, n := range limits {
		var had unix.Rlimit
		if err := unix.Getrlimit(which, &had); err != nil {
			return err
		}
		err := unix.Setrlimit(which, &unix.Rlimit{Cur: n, Max: n})
		if errors.Is(err, unix.EPERM) && n > had.Max { // not allowed to raise it: less is as safe
			err = unix.Setrlimit(which, &had)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mountProc cuts the mounts loose from the outer ones and shows the new pid namespace in /proc, so that no other process is seen.
func mountProc(p Policy) error {
	if p.Kind != Sealed {
		return nil
	}
	if os.Getpid() != 1 {
		return errors.New("not the first process of a pid namespace")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}
