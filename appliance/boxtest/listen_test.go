package boxtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/enrol"
)

// A screen is what a console shows while a command runs.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *screen) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// A listening box has said "enrol listen" at its console.
type listening struct {
	t        *testing.T
	at, code string
	shows    *screen
	end      chan wire.Outcome
	stop     context.CancelFunc
}

var codeLine = regexp.MustCompile(`address +(https://\S+)\ncode +(\S+)\n`)

func listen(t *testing.T, b *Box) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listening{t: t, shows: &screen{}, end: make(chan wire.Outcome, 1), stop: cancel}
	t.Cleanup(cancel)
	go func() {
		o, err := b.admin.Do(ctx, wire.Request{Line: "enrol listen"}, l.shows)
		if err != nil {
			o.Error = err.Error()
		}
		l.end <- o
	}()
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if m := codeLine.FindStringSubmatch(l.shows.String()); m != nil {
			l.at, l.code = m[1], m[2]
			return l
		}
		select {
		case o := <-l.end:
			t.Fatalf("enrol listen ended: %+v; the console shows %q", o, l.shows)
		default:
		}
		if time.Now().After(until) {
			t.Fatalf("the console shows %q", l.shows)
		}
	}
}

func (l *listening) ends() wire.Outcome {
	l.t.Helper()
	select {
	case o := <-l.end:
		return o
	case <-time.After(patience):
		l.t.Fatalf("enrol listen does not end: %s", l.shows)
		return wire.Outcome{}
	}
}

// over the port nobody answers.
func silent(t *testing.T, at string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(at, "https://"), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("somebody answers on the port")
	}
}

// TestEnrolOverThePort: a factory box answers nobody; told to listen, it shows a code, and the desk that has the code takes it into
// service. With a wrong code, through somebody between, or a second time it does not; it stays a factory box then, and silent.
func TestEnrolOverThePort(t *testing.T) {
	b := New(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	doc, err := json.Marshal(desk.Manifest{Version: "v0.0.1", Epoch: 1, Commit: "test"})
	if err != nil {
		t.Fatal(err)
	}
	manifest, pass := write("kra.json", doc), write("pass", []byte(Passphrase))
	enrols := func(at, code string, more ...string) (string, string) {
		var out, talk bytes.Buffer
		args := append([]string{"enrol", "-dir", b.Domain, "-manifest", manifest, "-officer", Officer, "-passphrase-file", pass, "-name", "box1",
			"-ip", "127.0.0.1", "-as-observed", "-at", at, "-code", code}, more...)
		if err := desk.Command(args, &out, &talk); err != nil {
			return out.String(), talk.String() + err.Error()
		}
		return out.String(), talk.String()
	}

	l := listen(t, b)
	for range enrol.MaxTries {
		if out, said := enrols(l.at, enrol.NewCode().Text(), "-first-seen", "code"); out != "" || !strings.Contains(said, "meet box: ") {
			t.Fatalf("with a wrong code: %q %s", out, said)
		}
	}
	if o := l.ends(); !strings.Contains(o.Error, "too many wrong codes") || o.End {
		t.Errorf("after wrong codes: %+v", o)
	}
	if !strings.Contains(l.shows.String(), "A wrong code came from 127.0.0.1:") {
		t.Errorf("the console shows %s", l.shows)
	}
	silent(t, l.at)

	l = listen(t, b)
	if out, said := enrols(between(t, l.at), l.code, "-first-seen", "code"); out != "" || !strings.Contains(said, enrol.ErrCode.Error()) {
		t.Errorf("through somebody between: %q %s", out, said)
	}
	if out, said := enrols(l.at, l.code); out != "" || !strings.Contains(said, "-first-seen FINGERPRINT") {
		t.Errorf("on no word for the TPM: %q %s", out, said)
	}
	if o := l.ends(); !strings.Contains(o.Error, "the code was used") { // for that look
		t.Errorf("after a desk that went away: %+v", o)
	}
	if out, said := enrols(l.at, l.code, "-first-seen", "code"); out != "" || strings.Contains(said, "has installed") {
		t.Errorf("a second time: %q %s", out, said)
	}
	silent(t, l.at)

	l = listen(t, b)
	if _, failure := b.Try("enrol listen"); !strings.Contains(failure, "nother console listens already") {
		t.Errorf("a second console: %s", failure)
	}
	l.stop() // an interrupt at the console
	l.ends()
	silent(t, l.at)
	if up := b.Up(); up.Mode != "factory" {
		t.Fatalf("the box is %s", up.Mode)
	}

	l = listen(t, b)
	out, said := enrols(l.at, l.code, "-first-seen", "code")
	for _, w := range []string{"WARNING: no maker vouches", "first seen, on your word: fingerprint", "box1 has installed its bundle and restarts"} {
		if out != "" || !strings.Contains(said, w) {
			t.Fatalf("enrol: %q; lacks %q: %s", out, w, said)
		}
	}
	if o := l.ends(); o.Error != "" || !strings.Contains(l.shows.String(), "The box is enrolled as box1. Its first officer is alice.") {
		t.Errorf("console: %+v\n%s", o, l.shows)
	}
	if up := b.Wait(); up.Mode != "enrolled" {
		t.Fatalf("after enrolment the box is %s: %s", up.Mode, up.Reason)
	}
	b.Login()
	b.Trust("people")
	if _, failure := b.Try("enrol listen"); !strings.Contains(failure, "cannot be enrolled") {
		t.Errorf("an enrolled box listens: %s", failure)
	}
	if strings.Contains(b.Output(), l.code) || strings.Contains(b.Output(), strings.ReplaceAll(l.code, "-", "")) {
		t.Error("the code is in the daemons' output")
	}
}

// between is somebody who has a channel to each end and passes on what he hears.
func between(t *testing.T, at string) string {
	t.Helper()
	far := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := far.Post(at+r.URL.Path, "application/json", r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Body.Close()
		w.WriteHeader(a.StatusCode)
		_, _ = io.Copy(w, a.Body)
	}))
	t.Cleanup(func() { s.Close(); far.CloseIdleConnections() })
	return s.URL
}
