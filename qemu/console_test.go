package qemu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/ptytest"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/qemu"
	"github.com/keyrelease/krabox/qemu/operator"
)

// A rote is an agent that says what it was asked.
type rote struct{}

func (rote) Banner(context.Context) wire.Banner {
	return wire.Banner{Box: "box1", Mode: "enrolled", Health: "good"}
}

func (rote) Login(_ context.Context, c wire.Credentials) (wire.Session, error) {
	if c.Passphrase != "correct horse battery" {
		return "", errors.New("that is wrong")
	}
	return "s", nil
}

func (rote) Names(context.Context, wire.Session, string) []string { return nil }

func (rote) Do(_ context.Context, r wire.Request, out io.Writer) wire.Outcome {
	switch {
	case r.Line == "logout":
		return wire.Outcome{End: true}
	case strings.HasPrefix(r.Line, "trust") && len(r.Answers) == 0:
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Paste, Prompt: "Paste."}}
	}
	fmt.Fprintf(out, "%s: %d columns %q\n", r.Line, r.Columns, r.Answers)
	return wire.Outcome{}
}

// TestOperatorReadsTheConsole: who reads the console of a machine as the end-to-end tests do, and answers no question about a terminal, sees
// what is shown, and nothing of that question.
func TestOperatorReadsTheConsole(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: wire.Handler(rote{})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	guest, inside := ptytest.Open(t) // the box's UART
	host, outside := ptytest.Open(t) // what QEMU makes of it
	line, err := qemu.OpenLine(outside, filepath.Join(t.TempDir(), "serial.log"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() { ended <- console.Main([]string{"-admin", socket, "-tty", inside}, nil, nil, os.Stderr) }()
	go io.Copy(host, guest)
	go io.Copy(guest, host)
	t.Cleanup(func() { guest.Close(); <-ended; host.Close(); line.Close() })

	o := operator.At(&qemu.Machine{Line: line}, nil)
	if g, err := o.Up(); err != nil || g.Mode != "enrolled" {
		t.Fatalf("Up = %+v, %v", g, err)
	}
	if err := o.Login("olga", "wrong"); err == nil || !strings.Contains(err.Error(), "That is wrong.") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("Login = %v", err)
	}
	for range 2 {
		if err := o.Login("olga", "correct horse battery"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if shown, err := o.Do("status"); err != nil || shown != "status: 80 columns []\n" {
				t.Errorf("status shows %q, %v", shown, err)
			}
		}
		pem := "-----BEGIN X-----\nAA\n-----END X-----\n"
		if shown, err := o.Do("trust add corp", pem); err != nil || !strings.HasSuffix(shown, fmt.Sprintf("trust add corp: 80 columns %q\n", []string{pem})) {
			t.Errorf("trust add shows %q, %v", shown, err)
		}
		if err := o.Leave("logout"); err != nil {
			t.Fatal(err)
		}
		if g, err := o.Up(); err != nil || g.Mode != "enrolled" || strings.Contains(g.Text, "\x1b") {
			t.Fatalf("Up = %+v, %v", g, err)
		}
	}
}
