package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// An echo answers with what it was asked.
type echo struct{ stopped chan struct{} }

func (echo) Banner(context.Context) Banner {
	return Banner{Box: "box1", Mode: "enrolled", Health: "good"}
}

func (echo) Login(_ context.Context, c Credentials) (Session, error) {
	if c.Passphrase != "right" {
		return "", errors.New("that is wrong")
	}
	return Session("of " + c.Officer), nil
}

func (echo) Names(_ context.Context, s Session, list string) []string {
	if s == "many" {
		return make([]string, 10*MaxNames)
	}
	return []string{string(s), list}
}

func (e echo) Do(ctx context.Context, r Request, out io.Writer) Outcome {
	switch r.Line {
	case "forever":
		for {
			if _, err := io.WriteString(out, "again\n"); err != nil || ctx.Err() != nil {
				close(e.stopped)
				return Outcome{}
			}
		}
	case "slow":
		select {
		case <-ctx.Done():
			return Outcome{Error: "stopped"}
		case <-time.After(2 * time.Second):
			return Outcome{}
		}
	case "ask":
		return Outcome{Ask: &Question{Kind: Paste, Prompt: "Paste"}}
	case "long":
		io.WriteString(out, strings.Repeat("ü€\n", 100_000))
		return Outcome{Error: "at last", End: true}
	}
	fmt.Fprintf(out, "%q %q %q", r.Session, r.Line, r.Answers)
	return Outcome{}
}

func serve(t *testing.T) (*Client, string, echo) {
	t.Helper()
	return serveWithin(t, 0)
}

// serveWithin serves with a deadline for reading a request; 0 is none.
func serveWithin(t *testing.T, d time.Duration) (*Client, string, echo) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	e := echo{make(chan struct{})}
	s := &http.Server{Handler: Handler(e), ReadTimeout: d}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return NewClient(path), path, e
}

func TestExchange(t *testing.T) {
	c, _, _ := serve(t)
	ctx := t.Context()
	if b, err := c.Banner(ctx); err != nil || b.Box != "box1" {
		t.Errorf("Banner = %+v, %v", b, err)
	}
	if s, err := c.Login(ctx, Credentials{"olga", "right", ""}); err != nil || s != "of olga" {
		t.Errorf("Login = %q, %v", s, err)
	}
	if s, err := c.Login(ctx, Credentials{"olga", "other", ""}); err == nil || err.Error() != "that is wrong" || s != "" {
		t.Errorf("Login = %q, %v", s, err)
	}
	if n, err := c.Names(ctx, "s", "rule"); err != nil || strings.Join(n, " ") != "s rule" {
		t.Errorf("Names = %q, %v", n, err)
	}
	if n, err := c.Names(ctx, "many", "rule"); err != nil || len(n) != MaxNames {
		t.Errorf("Names gives %d, %v", len(n), err)
	}
	var out bytes.Buffer
	o, err := c.Do(ctx, Request{"s", "status", []string{"a", strings.Repeat("b", MaxPaste)}, 132}, &out)
	if err != nil || o != (Outcome{}) || out.Len() != len(`"s" "status" ["a" ""]`)+MaxPaste {
		t.Errorf("Do = %+v, %v, %d bytes", o, err, out.Len())
	}
	o, err = c.Do(ctx, Request{Line: "ask"}, &out)
	if err != nil || o.Ask == nil || *o.Ask != (Question{Paste, "Paste"}) {
		t.Errorf("Do = %+v, %v", o, err)
	}
	out.Reset()
	o, err = c.Do(ctx, Request{Line: "long"}, &out)
	if err != nil || o.Error != "at last" || !o.End || out.String() != strings.Repeat("ü€\n", 100_000) {
		t.Errorf("Do = %+v, %v, %d bytes", o, err, out.Len())
	}
}

// readWithin is short beside the slow command.
const readWithin = time.Second

// TestSlow: the server's deadline for reading a request does not end the command.
func TestSlow(t *testing.T) {
	c, _, _ := serveWithin(t, readWithin)
	if o, err := c.Do(t.Context(), Request{Line: "slow"}, io.Discard); err != nil || o != (Outcome{}) {
		t.Errorf("Do = %+v, %v", o, err)
	}
}

// TestInterrupt: who hangs up stops the command.
func TestInterrupt(t *testing.T) {
	c, _, e := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	var shown int
	_, err := c.Do(ctx, Request{Line: "forever"}, writer(func(p []byte) { shown += len(p); cancel() }))
	if !errors.Is(err, context.Canceled) || shown == 0 {
		t.Errorf("Do = %v after %d bytes", err, shown)
	}
	select {
	case <-e.stopped:
	case <-time.After(20 * time.Second):
		t.Error("the command goes on")
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestAway(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "nobody"))
	if _, err := c.Banner(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("Banner = %v", err)
	}
}

// TestRefuses: what is not exactly a message is refused, and the handler goes on.
func TestRefuses(t *testing.T) {
	c, path, _ := serve(t)
	raw := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, body := range []string{"", "{", "[]", "null x", `{"line":"a"}{"line":"b"}`, `{"line":"a","more":1}`, `{"line":1}`,
		`{"line":"a","answers":["1","2","3","4","5","6","7","8","9"]}`,
		`{"line":"` + strings.Repeat("a", maxRequest) + `"}`, strings.Repeat("[", 100_000)} {
		for _, p := range []string{"/v1/do", "/v1/login", "/v1/names"} {
			if status := post(t, path, p, body); status != http.StatusBadRequest {
				t.Errorf("POST %s %.40q: %d", p, body, status)
			}
		}
	}
	for _, p := range []string{"GET /v1/do", "POST /v1/banner", "GET /", "GET /v1/other"} {
		method, path, _ := strings.Cut(p, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://krad"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := raw.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Errorf("%s: %s", p, resp.Status)
		}
	}
	if _, err := c.Banner(t.Context()); err != nil {
		t.Errorf("Banner afterwards: %v", err)
	}
}

// post sends body to p and returns the status of the answer, even when the server answers and hangs up before it has read all
// of the body: then the rest cannot be written, which is no error.
func post(t *testing.T, path, p, body string) int {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: krad\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", p, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("POST %s %.40q: %v", p, body, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestClientRefuses: an agent that sends nonsense does not take the console with it.
func TestClientRefuses(t *testing.T) {
	for _, answer := range []string{"", "nonsense\n", `{"text":"a"}` + "\n", `{"text":"` + strings.Repeat("a", 2*maxFrame) + `"}` + "\n",
		`{"done":true,"outcome":{"more":1}}` + "\n", `{"done":true}{"done":true}` + "\n"} {
		path := filepath.Join(t.TempDir(), "admin.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })}
		go s.Serve(l)
		if o, err := NewClient(path).Do(t.Context(), Request{Line: "status"}, io.Discard); err == nil {
			t.Errorf("Do takes %.40q for %+v", answer, o)
		}
		s.Close()
	}
}

func TestRuneEnd(t *testing.T) {
	for _, s := range []string{"", "a", "ü", "aü", "€", "a€", "😀"} {
		for n := range len(s) + 1 {
			if got := runeEnd([]byte(s[:n])); !utf8.ValidString(s[:got]) || n-got >= utf8.UTFMax {
				t.Errorf("runeEnd(%q) = %d", s[:n], got)
			}
		}
	}
	if got := runeEnd([]byte{0xff, 0xff, 0xff, 0xff, 0xff}); got == 0 {
		t.Error("runeEnd of garbage is 0: the writer would never end")
	}
}
