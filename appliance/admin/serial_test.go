package admin

import (
	"bytes"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/label"
)

// A person sits at a console of the real agent.
type person struct {
	t  *testing.T
	in io.Writer

	mu   sync.Mutex
	seen bytes.Buffer // guarded by mu
	at   int
}

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

// expect waits for want and returns what was shown up to its end.
func (p *person) expect(want string) string {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		p.mu.Lock()
		rest := p.seen.String()[p.at:]
		p.mu.Unlock()
		if i := strings.Index(rest, want); i >= 0 {
			p.at += i + len(want)
			return rest[:i+len(want)]
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the console did not show %q but\n%s", want, rest)
		}
	}
}

func (p *person) types(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.t.Fatal(err)
	}
}

// asks types a line and waits for what is shown last.
func (p *person) asks(line, want string) string {
	p.t.Helper()
	p.types(line + "\r")
	return p.expect(want)
}

// socket serves the agent of the moment, until after what was begun later has ended.
func (w *world) socket() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { wire.Handler(w.current.Load()).ServeHTTP(rw, r) })}
	go s.Serve(l)
	w.t.Cleanup(func() { s.Close() })
	return path
}

// sit runs a console for the agent of the moment.
func (w *world) sit() *person {
	w.t.Helper()
	path := w.socket()
	line, keys := io.Pipe()
	p := &person{t: w.t, in: keys}
	ended := make(chan error)
	go func() {
		ended <- console.New(struct {
			io.Reader
			io.Writer
		}{line, p}, wire.NewClient(path), time.Minute).Run(w.t.Context())
	}()
	w.t.Cleanup(func() {
		keys.Close()
		if err := <-ended; err != nil {
			w.t.Errorf("console: %v", err)
		}
	})
	return p
}

// TestFromCrateToKey types what MANUAL.md says, at a console, into a real agent.
func TestFromCrateToKey(t *testing.T) {
	w := factory(t)
	p := w.sit()
	p.expect("mode     factory")
	p.expect("factory> ")
	shown := p.asks("enrol request", "factory> ")
	b, _ := pem.Decode([]byte(strings.ReplaceAll(shown[strings.Index(shown, "-----BEGIN"):], "\r", "")))
	if b == nil {
		t.Fatalf("no request in %q", shown)
	}
	first, err := desk.NewOfficer(officer, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := w.desk.Enrol(desk.Admission{Request: pem.EncodeToMemory(b), Release: desk.Release{Manifest: desk.Manifest{Version: "v1", Epoch: 1}, Trust: desk.AsObserved},
		Box:     label.Box{Name: "box1", DNS: []string{"box1.example"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Officer: first, Seen: fingerprint(t, shown)})
	if err != nil {
		t.Fatal(err)
	}
	p.asks("enrol install", "It is not shown.")
	w.body.restart = w.serve // what process 1 does when it is asked to restart the box
	p.types(string(bundle))
	p.expect("The box is enrolled as box1. Its first officer is olga.")
	p.expect("box1")
	p.asks("olga", "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.asks("time set 2030-11-25T10:00:00Z", "Type yes to go on: ")
	p.asks("yes", "manual, on the word of olga")
	p.asks("trust add corp", "It is not shown.")
	p.types(people(t, "Example People"))
	p.expect("Compare the SHA-256")
	p.asks(`access add legal-team "Legal team"`, "was made")
	p.asks("key generate p256 for leg\t", "It is the current key of legal-team.")
	p.asks("group add legal "+alice, "is in group legal now.")
	p.asks("rule add legal group legal", "Rule legal was made.")
	p.asks(`rule add office when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16`, "Rule office was made.")
	p.asks("access lists legal-team is legal && ofice", "unknown rule")
	p.asks("access lists legal-team is legal && off\t", "1 rule list now.")
	p.asks("access test legal-team as corp:CN=Al\t from 10.20.1.7 at 2030-11-25T10:00:00Z", "Allowed: corp:CN=Alice Smith,O=Example belongs to legal-team.")
	p.asks("key list", "replicable  generated  current")
	p.asks("log verify", "The log is whole.")
	p.asks("logout", "officer: ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.seen.String(); strings.Contains(s, passphrase) || strings.Contains(s, "BEGIN KRA BUNDLE") {
		t.Error("a passphrase or a paste was shown")
	}
	t.Logf("the whole session:\n%s", strings.ReplaceAll(p.seen.String(), "\r", ""))
}
