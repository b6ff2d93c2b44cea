package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/wire"
)

// A listener is the other side of the socket: it notes what came and answers by rote.
type listener struct {
	mode Mode

	mu    sync.Mutex
	lines []string // guarded by mu
	ill   string   // guarded by mu; what is wrong with the box
	asked int      // guarded by mu; how often for the banner
	wide  []int    // guarded by mu; columns of the requests that did something
	long  chan struct{}
}

func (l *listener) Banner(context.Context) wire.Banner {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	b := wire.Banner{Box: "box1", Mode: string(l.mode), Health: cmp.Or(l.ill, "good")}
	if l.mode == Locked {
		b.Reason = "PCR 4 is not what the approval of release 3 expects"
	}
	return b
}

func (l *listener) Login(_ context.Context, c wire.Credentials) (wire.Session, error) {
	if c.Officer != "olga" || c.Passphrase != "correct horse battery" {
		return "", errors.New("that is not an officer with that passphrase")
	}
	return "s1", nil
}

func (l *listener) Names(_ context.Context, s wire.Session, list string) []string {
	if s != "s1" {
		return nil
	}
	return names(list)
}

func (l *listener) note(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *listener) noted() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "|")
}

// width is the columns that came with the last request.
func (l *listener) width() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wide[len(l.wide)-1]
}

func (l *listener) Do(ctx context.Context, r wire.Request, out io.Writer) wire.Outcome {
	cmd, err := Parse(r.Line)
	if err != nil {
		return wire.Outcome{Error: err.(*SyntaxError).Caret()}
	}
	switch {
	case cmd.Ask() == AskPaste && len(r.Answers) == 0:
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Paste, Prompt: "Paste."}}
	case cmd.Ask() == AskPaste && len(r.Answers) == 1 && strings.HasSuffix(r.Line, " twice"):
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Paste, Prompt: "Paste the other."}}
	case cmd.Ask() == AskPaste && len(r.Answers) == 1 && strings.HasSuffix(r.Line, " surely"):
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Confirm, Prompt: "Really?"}}
	case cmd.Ask() == AskConfirm && len(r.Answers) == 0:
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Confirm, Prompt: "Really?"}}
	case cmd.Ask() == AskSecret && len(r.Answers) == 0:
		return wire.Outcome{Ask: &wire.Question{Kind: wire.Secret, Prompt: "New passphrase:"}}
	}
	l.note(strings.Join(append([]string{r.Line}, r.Answers...), "+"))
	l.mu.Lock()
	l.wide = append(l.wide, r.Columns)
	l.mu.Unlock()
	switch cmd.(type) {
	case Logout:
		return wire.Outcome{End: true}
	case LogExport:
		close(l.long)
		for ctx.Err() == nil {
			if _, err := io.WriteString(out, strings.Repeat("x", 1000)+"\n"); err != nil {
				break
			}
		}
		l.note("stopped")
		return wire.Outcome{}
	}
	fmt.Fprintf(out, "did %s\n", r.Line)
	if _, ok := cmd.(KeyList); ok {
		for i := range 50 {
			fmt.Fprintf(out, "Key %d of fifty\n", i)
		}
	}
	return wire.Outcome{}
}

// serve starts the agent's side on a socket and returns its path.
func (l *listener) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: wire.Handler(l)}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return path
}

// A typist sits at the other end of a line.
type typist struct {
	t   *testing.T
	in  io.Writer
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
	at  int
}

func (p *typist) listen(r io.Reader) {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		p.mu.Lock()
		p.all.Write(b[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *typist) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.String()
}

// expect waits until want was shown after what was expected last.
func (p *typist) expect(want string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if i := strings.Index(p.text()[p.at:], want); i >= 0 {
			p.at += i + len(want)
			return
		}
	}
	p.t.Fatalf("the console did not show %q; since the last it showed %q", want, tail(p.text()[p.at:]))
}

func tail(s string) string { return s[max(0, len(s)-3000):] }

func (p *typist) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.t.Fatal(err)
	}
}

// sit runs a console over pipes.
func sit(t *testing.T, l *listener, idle time.Duration) (*typist, <-chan error) {
	t.Helper()
	return sitFor(t, l.serve(t), idle, usualPace)
}

// sitFor is sit for the agent at a socket, at a pace.
func sitFor(t *testing.T, path string, idle time.Duration, at pace) (*typist, <-chan error) {
	t.Helper()
	fromUser, toConsole := io.Pipe()
	fromConsole, toUser := io.Pipe()
	p := &typist{t: t, in: toConsole}
	go p.listen(fromConsole)
	c := New(struct {
		io.Reader
		io.Writer
	}{fromUser, toUser}, wire.NewClient(path), idle)
	c.pace = at
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	t.Cleanup(func() { toConsole.Close(); fromConsole.Close() })
	return p, ended
}

func (p *typist) login() {
	p.t.Helper()
	p.expect("officer: ")
	p.send("olga\r")
	p.expect("passphrase: ")
	p.send("correct horse battery\r")
	p.expect("box1> ")
}
