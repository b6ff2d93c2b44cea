package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// farEnd opens a line whose other end the test holds, as a guest's UART would.
func farEnd(t *testing.T) (*Line, *os.File, string) {
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
	log := filepath.Join(t.TempDir(), "serial.log")
	l, err := openLine(fmt.Sprintf("/dev/pts/%d", n), log, func(d time.Duration) time.Duration { return d })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		master.Close() // first: a reader would hold the line open
		l.close()
	})
	return l, master, log
}

func say(t *testing.T, w *os.File, text string) {
	t.Helper()
	if _, err := w.WriteString(text); err != nil {
		t.Error(err)
	}
}

func TestExpectConsumes(t *testing.T) {
	l, guest, log := farEnd(t)
	say(t, guest, "login: first\r\nlog")
	go say(t, guest, "in: second\r\n")
	for _, want := range []string{"first", "second"} {
		m, err := l.Expect(`login: (\w+)\r`, 5*time.Second)
		if err != nil || m[1] != want {
			t.Fatalf("Expect = %q, %v; want %q", m, err, want)
		}
	}
	if _, err := l.Expect(`login`, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "nothing in 50ms") {
		t.Errorf("Expect of what was consumed: %v", err)
	}
	if _, err := l.Expect(`(`, time.Second); err == nil {
		t.Error("a broken pattern was taken")
	}
	text, err := os.ReadFile(log)
	if err != nil || string(text) != "login: first\r\nlogin: second\r\n" {
		t.Errorf("log: %q, %v", text, err)
	}
}

func TestExpectEnds(t *testing.T) {
	l, guest, _ := farEnd(t)
	say(t, guest, "panic")
	if _, err := l.Expect("panic", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	guest.Close()
	if _, err := l.Expect("never", time.Minute); !errors.Is(err, ErrEnded) {
		t.Errorf("Expect on a dead line: %v", err)
	}
	if err := l.Paste("x\n"); err == nil {
		t.Error("pasted to a dead line")
	}
}

// TestPasteWaits pastes more than any buffer holds to a guest that reads slowly, echoes and now and then says XOFF.
func TestPasteWaits(t *testing.T) {
	l, guest, _ := farEnd(t)
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "line %d %s\n", i, strings.Repeat("x", i%90))
	}
	want := strings.ReplaceAll(text.String(), "\n", "\r")
	var got strings.Builder
	var done sync.WaitGroup
	done.Go(func() {
		buffer := make([]byte, 4096)
		for got.Len() < len(want) {
			n, err := guest.Read(buffer)
			if err != nil {
				t.Error(err)
				return
			}
			got.Write(buffer[:n])
			say(t, guest, string(buffer[:n]))
			if got.Len()%37 == 0 {
				say(t, guest, string(rune(xoff)))
				time.Sleep(5 * time.Millisecond)
				say(t, guest, string(rune(xon)))
			}
		}
	})
	if err := l.Paste(text.String()); err != nil {
		t.Fatal(err)
	}
	done.Wait()
	if got.String() != want {
		t.Errorf("%d bytes arrived, want %d", got.Len(), len(want))
	}
}
