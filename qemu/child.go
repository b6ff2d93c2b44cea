package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A child is a process that dies with this one.
type child struct {
	process interface{ Kill() error }
	done    chan struct{} // closed when it has ended
	err     error         // how it ended; read after done
	stderr  *tail
}

// start runs a program from an operating-system thread that does nothing else until it has ended: Pdeathsig fires when the thread that started
// the child ends, not the process. That thread goes back to the others then. If it ended, it would take with it what was started from it
// before it was this child's: somebody else's servers.
func start(name string, args ...string) (*child, error) {
	c := &child{done: make(chan struct{}), stderr: new(tail)}
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = c.stderr, c.stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.process = cmd.Process
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// kill ends the child without warning, as a power cut does, and waits for it.
func (c *child) kill() {
	_ = c.process.Kill() // it may have ended already
	<-c.done
}

func (c *child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

const (
	awaitTime  = 10 * time.Second
	awaitPause = 10 * time.Millisecond
)

// await repeats ready until it succeeds, the child ends or time runs out.
func await(c *child, limit time.Duration, ready func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(awaitPause) {
		err := ready()
		if err == nil {
			return nil
		}
		if !c.running() {
			return errors.Join(err, c.err)
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// A tail keeps the last words of a program for error messages.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	if extra := t.text.Len() - tailSize; extra > 0 {
		t.text.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text.Bytes()))
}
