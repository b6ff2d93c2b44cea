package boot

import (
	"errors"
	"os/exec"
	"runtime"
)

// A forge starts all processes on one operating-system thread that lives as long as it: the kernel's parent-death signal follows the
// thread that forked, not the process, and goroutines wander between threads.
type forge struct{ work chan func() }

func newForge() *forge {
	f := &forge{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for do := range f.work {
			do()
		}
	}()
	return f
}

func (f *forge) start(c *exec.Cmd) error {
	done := make(chan error, 1)
	f.work <- func() { done <- c.Start() }
	return <-done
}

// close ends the thread. All processes must have ended.
func (f *forge) close() { close(f.work) }

// exitWords says how a process ended.
func exitWords(err error) string {
	var e *exec.ExitError
	switch {
	case err == nil:
		return "ended by itself"
	case errors.As(err, &e):
		return e.ProcessState.String()
	}
	return err.Error()
}
