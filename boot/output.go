package boot

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// maxOutputLine is the most bytes kept of one line that a daemon writes to its standard error.
const maxOutputLine = 1024

// output passes a daemon's lines on under its name and remembers the last one: when the daemon ends, that is mostly why.
type output struct {
	name string
	to   io.Writer // shared by all daemons; one Write per line

	mu   sync.Mutex // guards all below
	part []byte     // of the line that is not complete
	last string
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range bytes.SplitAfter(p, []byte("\n")) {
		o.add(line)
	}
	return len(p), nil
}

func (o *output) add(piece []byte) {
	line, whole := bytes.CutSuffix(piece, []byte("\n"))
	o.part = append(o.part, line[:min(len(line), maxOutputLine-len(o.part))]...)
	if !whole {
		return
	}
	said := string(o.part)
	o.part = o.part[:0]
	if strings.TrimSpace(said) == "" {
		return
	}
	if !fatal(o.last) {
		o.last = said
	}
	if o.to != nil {
		fmt.Fprintf(o.to, "%s: %s\n", o.name, said) // a log that cannot be written must not stop the daemon
	}
}

// fatal says whether a line begins the farewell of a Go program: what follows it are stacks.
func fatal(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// lastWords is why the daemon ended as far as it said: its farewell, or its last line, complete or not.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.part) > 0 && !fatal(o.last) {
		return string(o.part)
	}
	return o.last
}
