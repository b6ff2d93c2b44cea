package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProgressLine(t *testing.T) {
	start := time.Unix(1000, 0)
	for want, p := range map[string]*progress{
		"a.bin [############            ]  50%  50 MiB  10 MiB/s  0:05":     {name: "a.bin", total: 100 << 20, done: 50 << 20},
		"a.bin [                        ]   0%  0 B  0 B/s  1666:40":        {name: "a.bin", total: 100_000},
		"a.bin [########################] 100%  100 KiB  20 KiB/s  0:00":    {name: "a.bin", total: 100 << 10, done: 100 << 10},
		"standard input  1.5 GiB  307 MiB/s":                                {name: "standard input", done: 3 << 29},
		"grows.log [########################] 100%  2.0 KiB  409 B/s  0:00": {name: "grows.log", total: 1 << 10, done: 2 << 10},
	} {
		p.start = start
		if got := p.line(start.Add(5 * time.Second)); got != want {
			t.Errorf("line = %q; want %q", got, want)
		}
	}
}

// pty opens a pseudo-terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
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
	t.Cleanup(func() { _ = master.Close(); _ = slave.Close() })
	return master, slave
}

// A screen keeps what is written to a terminal.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func watch(master io.Reader) *screen {
	s := &screen{}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until text is on the screen, and returns all of it.
func (s *screen) await(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if all := s.all(); strings.Contains(all, text) {
			return all
		}
	}
	t.Fatalf("the terminal never showed %q", text)
	return ""
}

func TestProgressOnATerminal(t *testing.T) {
	w := newWorld(t)
	master, slave := pty(t)
	shown := watch(master)
	c := w.command([]string{"kra", "encrypt", "-to", w.to, "-o", filepath.Join(w.dir, "out.age")})
	c.Stderr = slave
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// Somebody types slowly, until a line appears.
	for end := time.Now().Add(time.Minute); !strings.Contains(shown.all(), "standard input  ") && time.Now().Before(end); time.Sleep(progressEvery) {
		if _, err := in.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if all := shown.await(t, "MiB/s"); !strings.HasPrefix(all, "\r\x1b[K") {
		t.Errorf("the terminal shows %q", all)
	}
}

// TestBinaryStaysOffTheTerminal also covers that no progress is drawn into data.
func TestBinaryStaysOffTheTerminal(t *testing.T) {
	w := newWorld(t)
	master, slave := pty(t)
	shown := watch(master)
	c := w.command([]string{"kra", "encrypt", "-to", w.to})
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader("x"), slave, slave
	if err := c.Run(); err == nil {
		t.Error("binary output goes to a terminal")
	}
	if all := shown.await(t, "give -o FILE, or -a for text"); strings.Contains(all, "age-encryption") {
		t.Errorf("the terminal shows %q", all)
	}
}

// TestInterruptedLeavesNoFile interrupts a program that waits for its input.
func TestInterruptedLeavesNoFile(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		w := newWorld(t)
		folder := filepath.Join(w.dir, "out")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		c := w.command([]string{"kra", "encrypt", "-to", w.to, "-o", filepath.Join(folder, "out.age")})
		c.Stderr = nil
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if n := entries(t, folder); n != 1 {
			t.Fatalf("%d files while it runs; want the one that is being written", n)
		}
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != exitInterrupted {
			t.Errorf("after %v: %v; want exit code %d", s, err, exitInterrupted)
		}
		if n := entries(t, folder); n != 0 {
			t.Errorf("after %v: %d files are left", s, n)
		}
	}
}

// TestReaderGoes ends when nobody reads the output any more, and leaves no receipts half-written.
func TestReaderGoes(t *testing.T) {
	w := newWorld(t)
	big := w.file("big", 8<<20)
	c := exec.CommandContext(t.Context(), "sh", "-c", `kra encrypt -to legal-team <"$1" >"$1.age" && kra decrypt -receipt "$2/r" -o - "$1.age" | head -c 10 >/dev/null`, "sh", big, w.dir)
	c.Env, c.Stderr = w.env, os.Stderr
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, ".r.kra-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func entries(t *testing.T, folder string) int {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
