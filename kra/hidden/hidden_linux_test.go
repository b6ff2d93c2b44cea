package hidden

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo-terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func echoes(t *testing.T, slave *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// A quick is who answers as soon as the prompt is there.
type quick struct {
	strings.Builder
	answer func()
}

func (q *quick) Write(p []byte) (int, error) {
	n, err := q.Builder.Write(p)
	if q.answer != nil {
		q.answer()
		q.answer = nil
	}
	return n, err
}

func (q *quick) WriteString(s string) (int, error) { return q.Write([]byte(s)) }

// The terminal shows nothing from before the prompt appears until the line is read, and shows again afterwards.
func TestAsk(t *testing.T) {
	master, slave := pty(t)
	if !echoes(t, slave) {
		t.Fatal("the terminal of this test shows nothing in any case")
	}
	out := &quick{answer: func() {
		if echoes(t, slave) {
			t.Error("the terminal still shows what is typed when the prompt is there")
		}
		if _, err := master.WriteString("correct horse\r"); err != nil {
			t.Error(err)
		}
	}}
	line, err := Ask(slave, out, "Passphrase: ")
	if err != nil || string(line) != "correct horse" {
		t.Errorf("Ask = %q, %v", line, err)
	}
	if out.String() != "Passphrase: \n" {
		t.Errorf("shown %q", out.String())
	}
	if !echoes(t, slave) {
		t.Error("the terminal shows nothing afterwards")
	}
}

func TestAskWithoutTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if line, err := Ask(r, w, "Passphrase: "); err == nil {
		t.Errorf("a pipe answered %q", line)
	}
}
