package boot

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A screen is the operator's line as process 1 writes on it: one short line for each thing worth knowing.
type screen struct{ tty *os.File }

// maxSaid bounds a line on the screen: a daemon's last words may be long.
const maxSaid = 400

// activeConsole is the kernel's list of its consoles; the last one is /dev/console.
const activeConsole = "/sys/class/tty/console/active"

// findTTY returns the device on which the kernel was told to have its console.
func findTTY(active string) (string, error) {
	b, err := os.ReadFile(active)
	if err != nil {
		return "", fmt.Errorf("find console: %w", err)
	}
	names := strings.Fields(string(b))
	if len(names) == 0 {
		return "", fmt.Errorf("find console: the kernel has none")
	}
	return "/dev/" + names[len(names)-1], nil
}

// quietKernel lets the kernel print nothing on the console but its last words (level 0).
func quietKernel() error {
	const setConsoleLevel = 8 // SYSLOG_ACTION_CONSOLE_LEVEL; the level is the length of the buffer
	if _, err := unix.Klogctl(setConsoleLevel, make([]byte, 1)); err != nil {
		return fmt.Errorf("quiet the kernel: %w", err)
	}
	return nil
}

// say writes one line. The console daemon may be editing below it, so the line begins at the left margin.
func (s *screen) say(line string) {
	if s.tty == nil {
		return
	}
	s.tty.SetWriteDeadline(time.Now().Add(time.Second)) // a stopped terminal does not stop the box
	fmt.Fprintf(s.tty, "\rkra: %s\r\n", plain(line))
}

// plain leaves nothing in a line that could move a terminal's cursor or end the line: it may quote what came from the disk.
func plain(line string) string {
	if len(line) > maxSaid {
		line = line[:maxSaid] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}
