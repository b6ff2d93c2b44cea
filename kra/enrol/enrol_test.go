package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const theRequest, theBundle = "-----REQUEST-----", "-----BUNDLE-----"

// A lab is a box that listens.
type lab struct {
	t    *testing.T
	code Code
	at   string
	end  chan error

	interrupt func() // as somebody at the console does

	mu        sync.Mutex
	said      []string
	asked     int
	installed []string
	refuse    error
	slow      chan struct{} // installs when this is closed; nil: at once
	began     chan struct{} // closed when it begins to
}

func listening(t *testing.T, valid time.Duration) *lab {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &lab{t: t, code: NewCode(), at: "https://" + l.Addr().String(), end: make(chan error, 1), began: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	box := Box{Code: b.code, Valid: valid,
		Request: func(context.Context) ([]byte, error) { b.note(func() { b.asked++ }); return []byte(theRequest), nil },
		Install: func(_ context.Context, bundle []byte) (string, error) {
			close(b.began)
			if b.slow != nil {
				<-b.slow
			}
			b.note(func() { b.installed = append(b.installed, string(bundle)) })
			return "box1", b.refuse
		},
		Say: func(format string, args ...any) {
			b.note(func() { b.said = append(b.said, fmt.Sprintf(format, args...)) })
		}}
	ended := make(chan struct{})
	b.interrupt = cancel
	go func() { defer close(ended); b.end <- box.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

func (b *lab) note(f func()) { b.mu.Lock(); defer b.mu.Unlock(); f() }

// ends wants the meeting to be over, and nobody to answer any more.
func (b *lab) ends(want error) {
	b.t.Helper()
	select {
	case err := <-b.end:
		if !errors.Is(err, want) {
			b.t.Errorf("ended with %v; want %v", err, want)
		}
	case <-time.After(30 * time.Second):
		b.t.Fatal("it goes on")
	}
	if c, err := net.DialTimeout("tcp", strings.TrimPrefix(b.at, "https://"), time.Second); err == nil {
		c.Close()
		b.t.Error("the port is still open")
	}
}

// nothing wants the box to have given and taken nothing.
func (b *lab) nothing() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked > 0 || len(b.installed) > 0 {
		b.t.Errorf("the box made %d requests and installed %q", b.asked, b.installed)
	}
}

func (b *lab) meet(c Code) (*Desk, error) {
	d, err := Meet(b.t.Context(), b.at, c)
	if err == nil {
		b.t.Cleanup(func() { _ = d.Close() })
	}
	return d, err
}

// Who knows the code gets the request and gives the bundle; then the port is closed.
func TestMeeting(t *testing.T) {
	b := listening(t, 0)
	d, err := b.meet(b.code)
	if err != nil || string(d.Request) != theRequest {
		t.Fatalf("Meet() = %+v, %v", d, err)
	}
	if name, err := d.Answer(t.Context(), []byte(theBundle)); err != nil || name != "box1" {
		t.Fatalf("Answer() = %q, %v", name, err)
	}
	b.ends(nil)
	if len(b.installed) != 1 || b.installed[0] != theBundle {
		t.Errorf("installed %q", b.installed)
	}
}

// A bundle that the box refuses is told to the desk, and the code is used.
func TestRefusedBundle(t *testing.T) {
	b := listening(t, 0)
	b.refuse = errors.New("not for this box")
	d, err := b.meet(b.code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Answer(t.Context(), []byte(theBundle)); err == nil || !strings.Contains(err.Error(), "not for this box") {
		t.Errorf("Answer() = %v", err)
	}
	b.ends(b.refuse)
}

// A few wrong codes and the box listens no more; it has told and taken nothing.
func TestWrongCode(t *testing.T) {
	b := listening(t, 0)
	for i := range MaxTries {
		if _, err := b.meet(NewCode()); err == nil {
			t.Fatalf("try %d: met with a wrong code", i)
		} else if i < MaxTries-1 && !errors.Is(err, ErrCode) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	b.ends(ErrTries)
	b.nothing()
	if len(b.said) != MaxTries || !strings.Contains(b.said[0], "1 of 5") {
		t.Errorf("said %q", b.said)
	}
}

// The code is good once: for a second channel, and after the first has gone, it is not.
func TestSecondUse(t *testing.T) {
	b := listening(t, 0)
	first, err := b.meet(b.code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.meet(b.code); !errors.Is(err, ErrCode) {
		t.Errorf("second channel: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	b.ends(ErrUsed)
	if len(b.installed) > 0 || b.asked != 1 {
		t.Errorf("made %d requests, installed %q", b.asked, b.installed)
	}
}

// A code that is too old is none, also for who has proved it and waits.
func TestCodeExpires(t *testing.T) {
	b := listening(t, 4*time.Second)
	d, err := b.meet(b.code)
	if err != nil {
		t.Fatal(err)
	}
	b.ends(ErrExpired)
	if _, err := d.Answer(t.Context(), []byte(theBundle)); err == nil {
		t.Error("answered after the end")
	}
	if len(b.installed) > 0 {
		t.Errorf("installed %q", b.installed)
	}
}

// A bundle that is being installed when the code expires, or when somebody interrupts the console, is installed: the console says what
// became of it, and not that the box is what it was.
func TestEndWhileInstalling(t *testing.T) {
	for name, c := range map[string]struct {
		valid  time.Duration
		end    func(*lab)
		refuse error
	}{
		"expires":                 {valid: 5 * time.Second, end: func(*lab) { time.Sleep(5200 * time.Millisecond) }},
		"interrupted":             {end: func(b *lab) { b.interrupt() }},
		"interrupted, to fail":    {end: func(b *lab) { b.interrupt() }, refuse: errors.New("not for this box")},
		"expires, not to succeed": {valid: 5 * time.Second, end: func(*lab) { time.Sleep(5200 * time.Millisecond) }, refuse: errors.New("not for this box")},
	} {
		t.Run(name, func(t *testing.T) {
			b := listening(t, c.valid)
			b.refuse, b.slow = c.refuse, make(chan struct{})
			d, err := b.meet(b.code)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan error, 1)
			go func() { _, err := d.Answer(t.Context(), []byte(theBundle)); answered <- err }()
			select {
			case <-b.began:
			case err := <-answered:
				t.Fatalf("answered %v before anything was installed", err)
			}
			c.end(b)
			select {
			case err := <-b.end:
				t.Errorf("ended with %v while it installs", err)
			case <-time.After(300 * time.Millisecond):
			}
			close(b.slow)
			b.ends(c.refuse)
			if err := <-answered; (err == nil) != (c.refuse == nil) {
				t.Errorf("the desk hears %v", err)
			}
			if len(b.installed) != 1 {
				t.Errorf("installed %q", b.installed)
			}
		})
	}
}

// Who is still connected when the meeting is over proves and installs nothing, while the listener drains.
func TestTooLate(t *testing.T) {
	b := listening(t, 0)
	m := &meeting{Box: Box{Code: b.code, Say: func(string, ...any) {}, Install: func(context.Context, []byte) (string, error) { t.Error("installed"); return "", nil },
		Request: func(context.Context) ([]byte, error) { t.Error("asked"); return nil, nil }}, end: func(error) {}}
	d, err := b.meet(b.code)
	if err != nil {
		t.Fatal(err)
	}
	state := d.conn.(*tls.Conn).ConnectionState()
	post := func(path string, v any) int {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		q := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		q.TLS, q.RemoteAddr = &state, "192.0.2.1:1"
		w := httptest.NewRecorder()
		m.ServeHTTP(w, q)
		return w.Code
	}
	m.close()
	if got := post(requestPath, hello{b.code.prove(byDesk, d.channel, nil)}); got != http.StatusForbidden {
		t.Errorf("a proof after the end: %d", got)
	}
	m.by, m.proven = "192.0.2.1:1", d.channel
	if got := post(bundlePath, answer{theBundle, b.code.prove(byAnswer, d.channel, []byte(theBundle))}); got != http.StatusForbidden {
		t.Errorf("a bundle after the end: %d", got)
	}
}

// A man in the middle has two channels: what he hears on one proves nothing on the other, in either direction.
func TestManInTheMiddle(t *testing.T) {
	b := listening(t, 0)
	cert, err := passing()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer far.CloseIdleConnections()
	var statuses []int
	relay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a, err := far.Post(b.at+r.URL.Path, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Body.Close()
		statuses = append(statuses, a.StatusCode)
		w.WriteHeader(a.StatusCode)
		_, _ = io.Copy(w, a.Body)
	})
	s := &http.Server{Handler: relay}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	_, err = Meet(t.Context(), "https://"+l.Addr().String(), b.code)
	if !errors.Is(err, ErrCode) || len(statuses) != 1 || statuses[0] != http.StatusForbidden {
		t.Errorf("met through a relay: %v, the box answered %v", err, statuses)
	}
	b.nothing()

	// one who makes up an answer himself does not know the code either
	liar := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var h hello
		_ = read(r.Body, &h)
		_ = json.NewEncoder(w).Encode(asked{theRequest, h.Proof})
	})}
	m, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = liar.Serve(m) }()
	defer liar.Close()
	if _, err := Meet(t.Context(), "https://"+m.Addr().String(), b.code); !errors.Is(err, ErrCode) {
		t.Errorf("believed a box that mirrors the desk's proof: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) != 1 || !strings.Contains(b.said[0], "A wrong code") {
		t.Errorf("said %q", b.said)
	}
}

// A bundle on another channel than the one that proved, or with a wrong proof, is not installed.
func TestBundleOfAnother(t *testing.T) {
	b := listening(t, 0)
	d, err := b.meet(b.code)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer other.CloseIdleConnections()
	body, err := json.Marshal(answer{theBundle, d.code.prove(byAnswer, d.channel, []byte(theBundle))})
	if err != nil {
		t.Fatal(err)
	}
	a, err := other.Post(b.at+bundlePath, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusForbidden {
		t.Errorf("another channel's bundle: %s", a.Status)
	}
	if err := d.post(t.Context(), bundlePath, answer{theBundle, d.code.prove(byAnswer, d.channel, []byte("something else"))}, &done{}); !errors.Is(err, ErrCode) {
		t.Errorf("bundle that the proof is not over: %v", err)
	}
	b.ends(ErrUsed)
	if len(b.installed) > 0 {
		t.Errorf("installed %q", b.installed)
	}
}

// What is no request of the two is refused alike, and costs no try.
func TestNothingElse(t *testing.T) {
	b := listening(t, 0)
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer h.CloseIdleConnections()
	for name, c := range map[string]struct{ method, path, body string }{
		"root":    {"GET", "/", ""},
		"get":     {"GET", requestPath, ""},
		"release": {"POST", "/v1/release", "{}"},
		"empty":   {"POST", requestPath, ""},
		"two":     {"POST", requestPath, `{"proof":""}{}`},
		"unknown": {"POST", requestPath, `{"proof":"","more":1}`},
		"long":    {"POST", requestPath, `{"proof":"` + strings.Repeat("A", maxMessage) + `"}`},
		"bundle":  {"POST", bundlePath, `{"bundle":"x","proof":""}`},
	} {
		q, err := http.NewRequest(c.method, b.at+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := h.Do(q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != http.StatusForbidden || string(text) != "refused\n" {
			t.Errorf("%s: %s %q", name, a.Status, text)
		}
	}
	b.nothing()
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", strings.TrimPrefix(b.at, "https://"), old); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
	if _, err := b.meet(b.code); err != nil {
		t.Errorf("after all that the code is no good: %v", err)
	}
}

func TestCode(t *testing.T) {
	c := NewCode()
	if len(c.Text()) != codeLetters+3 || c == NewCode() {
		t.Errorf("code %q", c.Text())
	}
	for _, typed := range []string{c.Text(), strings.ToUpper(c.Text()), " " + strings.ReplaceAll(c.Text(), "-", " ") + "\n"} {
		if got, err := ParseCode(typed); err != nil || got != c {
			t.Errorf("ParseCode(%q) = %v", typed, err)
		}
	}
	for _, bad := range []string{"", c.Text()[1:], c.Text() + "a", strings.Repeat("l", codeLetters), strings.Repeat("0", codeLetters)} {
		if _, err := ParseCode(bad); err == nil {
			t.Errorf("ParseCode(%q): taken", bad)
		}
	}
	for _, shown := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, c)} {
		if strings.Contains(shown, c.letters) {
			t.Errorf("the code shows: %s", shown)
		}
	}
	if (Code{}).proves((Code{}).prove(byDesk, nil, nil), byDesk, nil, nil) {
		t.Error("the zero code proves itself")
	}
	for _, bad := range []string{"http://box", "https://", "box:443", "https://box/x", "https://a@box"} {
		if _, err := Meet(t.Context(), bad, c); err == nil || !strings.Contains(err.Error(), "want its address") {
			t.Errorf("Meet(%q) = %v", bad, err)
		}
	}
}
