package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// TestValueIsAskedFor: who names a service without a file is told what the value is for and types it unseen; it reaches the
// agent. Nothing typed means that nothing is asked of the agent.
func TestValueIsAskedFor(t *testing.T) {
	w := newWorld(t)
	plain := w.write("note", make([]byte, 10))
	if err := w.command([]string{"kra", "encrypt", "-to", "legal-team", "-o", plain + ".age", plain}).Run(); err != nil {
		t.Fatal(err)
	}
	const question = "Value for shop (not shown, nothing to stop): "
	for name, c := range map[string]struct {
		typed  string
		signal os.Signal
		done   bool
	}{
		"a value":     {typed: "12-34-56\n", done: true},
		"nothing":     {typed: "\n"},
		"white space": {typed: "  \n"},
		"interrupted": {signal: syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := pty(t)
			shown := watch(master)
			out := filepath.Join(t.TempDir(), "out")
			before := w.agent.Requests()
			k := w.command([]string{"kra", "decrypt", "-value", "shop", "-o", out, plain + ".age"})
			k.Stdin, k.Stderr = slave, slave
			if err := k.Start(); err != nil {
				t.Fatal(err)
			}
			shown.await(t, question)
			for end := time.Now().Add(10 * time.Second); echoes(t, slave); time.Sleep(time.Millisecond) { // until right after the question
				if time.Now().After(end) {
					_ = k.Process.Kill()
					t.Fatal("the terminal shows what is typed")
				}
			}
			if c.signal != nil {
				if err := k.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			} else if _, err := master.WriteString(c.typed); err != nil {
				t.Fatal(err)
			}
			if err := k.Wait(); (err == nil) != c.done {
				t.Errorf("kra decrypt: %v; want done: %v", err, c.done)
			}
			if all := shown.await(t, question+"\r\n"); strings.Contains(all, "12-34") || !strings.Contains(all, "may ask the service shop before it releases keys") {
				t.Errorf("the terminal shows %q", all)
			}
			if !echoes(t, slave) {
				t.Error("the terminal does not show what is typed any more")
			}
			got, _ := os.ReadFile(out)
			if asked := w.agent.Requests() > before; asked != c.done || bytes.Equal(got, make([]byte, 10)) != c.done {
				t.Errorf("asked the agent: %v; decrypted to %q", asked, got)
			}
			if !c.done {
				return
			}
			if v, ok := w.agent.Last().Presented().Value("shop"); !ok || string(v) != "12-34-56" {
				t.Errorf("the agent got %q, %v", v, ok)
			}
		})
	}
}
