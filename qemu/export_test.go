package qemu

import "time"

// OpenLine opens a line that no machine has.
func OpenLine(tty, log string) (*Line, error) {
	return openLine(tty, log, func(d time.Duration) time.Duration { return d })
}

// Close closes such a line.
func (l *Line) Close() { l.close() }
