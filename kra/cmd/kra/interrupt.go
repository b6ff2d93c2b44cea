package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// watchSignals makes an interrupted program leave no half-written file, wherever it is
// waiting: a read from a terminal or pipe cannot be cancelled, so the program ends here.
func (t *tool) watchSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		s := <-signals
		t.mu.Lock() // and never unlocked: no file gets its name from now on
		for path := range t.temps {
			_ = os.Remove(path)
		}
		if t.undo != nil {
			t.undo()
		}
		if s != syscall.SIGPIPE { // whoever read the output has gone, and knows
			fmt.Fprintln(t.stderr, "kra: interrupted")
		}
		os.Exit(exitInterrupted)
	}()
}

// atEnd says what an interruption from now on has to undo.
func (t *tool) atEnd(undo func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undo = undo
}

// begin creates a file that an interruption removes.
func (t *tool) begin(path string, mode os.FileMode) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err == nil {
		t.temps[path] = true
	}
	return f, err
}

// finish calls f, which names the file or removes it.
func (t *tool) finish(path string, f func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.temps, path)
	return f()
}
