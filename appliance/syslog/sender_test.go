package syslog

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/appliance/syslog/syslogtest"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

const soon = time.Minute

// A world is a log and a server to forward it to.
type world struct {
	t      *testing.T
	dir    string
	domain receipttest.Domain
	log    *audit.Log
	server *syslogtest.Server
	stop   func()
	ahead  atomic.Int64 // nanoseconds, of the box's clock
	host   atomic.Pointer[string]
	*Sender
}

// origin is box1, also where its network calls it otherwise.
func (w *world) origin() Origin {
	o := Origin{Host: "box1", Box: "box1"}
	if h := w.host.Load(); h != nil {
		o.Host = *h
	}
	return o
}

func newWorld(t *testing.T, driver string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), domain: receipttest.New(t, "example"), server: syslogtest.New(t, driver)}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

// open opens the log as a start of the agent does.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.log, err = audit.Open(w.dir, audit.Options{Key: [32]byte{1}, Box: "box1", Now: time.Now, SegmentSize: 64 << 10})
	if err != nil {
		w.t.Fatal(err)
	}
	key, path := w.domain.Key(w.t, "box1", time.Now().Add(-time.Minute))
	if _, err := w.log.Rekey(w.t.Context(), key, path); err != nil {
		w.t.Fatal(err)
	}
	w.Sender = New(w.log, w.origin, (&net.Dialer{}).DialContext, func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	w.stop = func() { cancel(); <-ended }
}

func (w *world) close() {
	w.t.Helper()
	w.stop()
	if err := w.log.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) target(roots *x509.CertPool) Target {
	return Target{Host: "127.0.0.1", Port: w.server.Port, Roots: roots, Name: receipt.Hash{7}}
}

// write appends records of commands.
func (w *world) write(lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		if _, err := w.log.Append(w.t.Context(), audit.Entry{Kind: receipt.Command, Private: map[string]string{"officer": "alice", "line": line}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// wait waits until something holds.
func (w *world) wait(what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(soon); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %s: %s; status %+v\n%s", soon, what, w.Status(), w.server.Said())
		}
	}
}

func (w *world) even() bool { st := w.Status(); return st.Target.Host != "" && st.Behind == 0 }

// has checks that the server has every record of the log, in order, some perhaps twice.
func (w *world) has() {
	w.t.Helper()
	want := int64(0)
	size := w.log.Head().Size
	for _, m := range w.server.Received() {
		var n int64
		if _, err := fmt.Sscan(m.Of(element, "index"), &n); err != nil {
			w.t.Fatalf("%v in %+v", err, m)
		}
		if n > want {
			w.t.Fatalf("record %d comes after %d", n, want-1)
		}
		want = max(want, n+1)
		var got receipt.Hash
		err := w.log.Records(n, n+1, func(_ int64, r receipt.Record) error { got = receipt.Hash(r.Leaf()); return nil })
		if err != nil || m.Of(element, "leaf") != fmt.Sprintf("%x", got[:]) {
			w.t.Fatalf("record %d: leaf %s, want %x, %v", n, m.Of(element, "leaf"), got[:], err)
		}
	}
	if want != size {
		w.t.Fatalf("the server has the first %d records of %d", want, size)
	}
}

// Every record of the log comes to a real server, in order, whatever segment it is in, and the place is kept.
func TestForwarded(t *testing.T) {
	for _, driver := range []string{"gtls", "ossl"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, driver)
			w.Configure(w.target(w.server.Roots()))
			for i := range 400 { // 3 segments
				w.write(fmt.Sprintf("line %d %s", i, strings.Repeat("x", 300)))
			}
			w.wait("all are forwarded", w.even)
			w.has()
			w.write("one more")
			w.wait("one more", func() bool { return w.even() && len(w.server.Received()) >= 402 })
			w.has()
			if n := len(w.server.Received()); int64(n) != w.log.Head().Size {
				t.Errorf("%d messages of %d records", n, w.log.Head().Size)
			}
			if err := w.Status().Err; err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that goes away in the middle, and an agent that is started anew, lose nothing.
func TestForwardedAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ossl")
	w.Configure(w.target(w.server.Roots()))
	w.write("a", "b")
	w.wait("two records", w.even)
	for i := range 50 {
		w.write(fmt.Sprint("while it goes ", i))
	}
	w.wait("some of them", func() bool { return len(w.server.Received()) > 5 })
	w.server.Stop()
	w.write("while it is away")
	w.wait("the outage is seen", func() bool { return w.Status().Err != nil })
	if st := w.Status(); st.Behind == 0 {
		t.Errorf("not behind: %+v", st)
	}
	w.close()
	w.open()
	w.Configure(w.target(w.server.Roots()))
	w.write("after a restart")
	w.server.Start()
	w.wait("all are forwarded", w.even)
	w.has()
	before := len(w.server.Received())
	w.close()
	w.open()
	w.Configure(w.target(w.server.Roots()))
	w.wait("the new receipt key is forwarded", w.even)
	w.has()
	if n := len(w.server.Received()) - before; n != 1 {
		t.Errorf("%d records came again after a restart, want one that is new", n)
	}
}

// A server that is frozen, and then killed with what it had not read, gets that again.
func TestForwardedToAFrozenServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gtls")
	w.Configure(w.target(w.server.Roots()))
	w.write("a")
	w.wait("the first records", w.even)
	w.write("b") // a connection is open
	w.wait("b is there", func() bool { return len(w.server.Received()) == 3 })
	w.server.Signal(syscall.SIGSTOP)
	began := time.Now()
	for i := range 300 {
		w.write(fmt.Sprint("while it is frozen ", i))
	}
	if d := time.Since(began); d > soon/2 {
		t.Errorf("300 appends took %s beside a frozen server", d)
	}
	w.wait("it is behind", func() bool { return w.Status().Behind >= 300 })
	time.Sleep(restAfter + 2*lookEvery) // what it did not read is in the kernel's buffers, and the burst is over
	w.server.Stop()
	w.server.Start()
	w.wait("all are forwarded", w.even)
	w.has()
}

// Nothing goes to a server whose certificate is not of the authority that was named, or not of its name.
func TestForwardedToTheRightServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gtls")
	wrong := x509.NewCertPool()
	wrong.AddCert(peertest.NewAuthority(t).Root)
	w.Configure(w.target(wrong))
	w.write("secret of the log")
	w.wait("it is refused", func() bool { return w.Status().Err != nil })
	if err := w.Status().Err.Error(); !strings.Contains(err, "certificate signed by unknown authority") {
		t.Error(err)
	}
	named := w.target(w.server.Roots())
	named.Host, named.Name = "localhost", receipt.Hash{8}
	w.Configure(named)
	w.wait("the name is refused", func() bool {
		err := w.Status().Err
		return err != nil && strings.Contains(err.Error(), "certificate is")
	})
	if got := w.server.Received(); len(got) > 0 {
		t.Errorf("it got %+v", got)
	}
	if st := w.Status(); st.Next != 0 || st.Behind != w.log.Head().Size {
		t.Errorf("status %+v", st)
	}
	w.ahead.Store(int64(20 * 365 * 24 * time.Hour))
	late := w.target(w.server.Roots())
	late.Name = receipt.Hash{10}
	w.Configure(late)
	w.wait("it is judged by the box's clock", func() bool {
		err := w.Status().Err
		return err != nil && strings.Contains(err.Error(), "expired")
	})
	w.ahead.Store(0)
	right := w.target(w.server.Roots())
	right.Name = receipt.Hash{9}
	w.Configure(right)
	w.wait("all are forwarded", w.even)
	w.has()
}

// What people write cannot end a message, forge another, or steer a reader's terminal.
func TestForwardedAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ossl")
	forged := "x\n<104>1 2026-11-22T00:00:00Z box1 krad - release [kra@32473 index=\"9\"] forged"
	lines := []string{forged, `quote " bracket ] backslash \ end`, `"] [other@1 officer="mallory"`, "\x1b[2Jcleared", "right\u202eto left", "Zo\u00eb", "\x00nul\x7f", `\`, `\"`,
		strings.Repeat("]", 2000), "no\xffutf"}
	w.write(lines...)
	w.Configure(w.target(w.server.Roots()))
	w.wait("all are forwarded", w.even)
	w.has()
	got := w.server.Received()
	if len(got) != len(lines)+1 {
		t.Fatalf("%d messages of %d records", len(got), len(lines)+1)
	}
	plain := strings.NewReplacer("\n", `\u000a`, "\x1b", `\u001b`, "\u202e", `\u202e`, "\x00", `\u0000`, "\x7f", `\u007f`, "\xff", "\ufffd")
	for i, m := range got[1:] {
		want := plain.Replace(lines[i])
		want = want[:min(len(want), maxValue)]
		if m.Of(element, "line") != want || m.Of(element, "officer") != "alice" || len(m.Variables.Data) != 1 {
			t.Errorf("line %q came as %q in %s", lines[i], m.Of(element, "line"), m.Structured)
		}
		if m.Host != "box1" || m.App != appName || m.ID != "command" || m.Priority != "109" || strings.ContainsFunc(m.Raw, func(r rune) bool { return r < ' ' }) {
			t.Errorf("line %q came as %+v", lines[i], m)
		}
	}
}

// A release says who had what, when, why and by which rule.
func TestForwardedRelease(t *testing.T) {
	p := receipt.Public{Kind: receipt.Release, Time: receipt.NewStamp(time.Date(2026, 11, 22, 9, 30, 0, 5e6, time.UTC)), Book: 3, Access: "legal-team",
		Header: &receipt.Hash{1}, Item: &receipt.Item{Instance: receipt.Instance{2}, N: 17}}
	pub, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := receipt.Record{Public: pub, Private: json.RawMessage(`{"decision":{"book":3,"decryptor":"corp:CN=bob","channel":"authenticated","source":"10.20.1.7","time":"2026-11-22T09:30:00Z",` +
		`"clock":"trusted","keys":["ab"],"rules":[{"rule":"office","outcome":"pass"},{"rule":"legal","outcome":"pass"}],"lists":[{"access":"legal-team","list":1,"outcome":"pass"}],"granted":"legal-team","key":1}}`)}
	got, err := Message(Origin{Host: "box1", Box: "box1"}, 42, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<110>1 2026-11-22T09:30:00.005Z box1 krad - release [kra@32473 index="42" leaf="`, ` access="legal-team" book="3" header="01`, ` key="00`,
		` decryptor="corp:CN=bob"`, ` source="10.20.1.7"`, ` granted="legal-team"`, ` lists="legal-team/1=pass" rules="office=pass legal=pass"]`, `] record 42: release of legal-team`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("message lacks %s:\n%s", want, got)
		}
	}
	r.Private = json.RawMessage(`{"officer":"` + strings.Repeat("]", 600) + `","line":"` + strings.Repeat("]", 100<<10) + `","detail":"` + strings.Repeat("\\u001b", 600) + `","reason":"` + strings.Repeat(`\\`, 4000) +
		`","outcome":"` + strings.Repeat("\u202e", 600) + `","stage":"` + strings.Repeat("\u202e", 600) + `"}`)
	if got, err = Message(Origin{Host: "box1", Box: "box1"}, 42, r); err != nil || len(got) > maxMessage || !strings.Contains(string(got), ` cut="1"] record 42`) {
		t.Errorf("%d bytes, %v: %s", len(got), err, got)
	}
}

// A message bears the host name of when it was sent, and where that is not the box's own name, that too.
func TestForwardedAs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ossl")
	w.write("a")
	w.Configure(w.target(w.server.Roots()))
	w.wait("the first records", w.even)
	name := "kra-1.example.org"
	w.host.Store(&name)
	w.write("b")
	w.wait("the next", w.even)
	w.has()
	all := w.server.Received()
	if first := all[0]; first.Host != "box1" || first.Of(element, "box") != "" {
		t.Errorf("by its own name: %+v", first)
	}
	if last := all[len(all)-1]; last.Host != name || last.Of(element, "box") != "box1" || last.Of(element, "line") != "b" {
		t.Errorf("as %s: %+v", name, last)
	}
}

// A server that is behind for long is told of.
func TestForwardedLate(t *testing.T) {
	w := newWorld(t, "gtls")
	w.server.Stop()
	w.Configure(w.target(w.server.Roots()))
	w.wait("the outage is seen", func() bool { return w.Status().Err != nil })
	if err := w.Health(); err != nil {
		t.Errorf("at once: %v", err)
	}
	w.mu.Lock()
	w.Sender.even = w.Sender.even.Add(-alarmAfter)
	w.mu.Unlock()
	if err := w.Health(); err == nil || !strings.Contains(err.Error(), "1 records behind") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("after %s: %v", alarmAfter, err)
	}
	slow := Status{Target: w.target(nil), Behind: 1, Late: true} // it takes what it is sent, and too slowly
	if err := slow.health(); err == nil || !strings.HasSuffix(err.Error(), "(syslog show)") {
		t.Errorf("slow: %v", err)
	}
	w.server.Start()
	w.wait("all are forwarded", w.even)
	if err := w.Health(); err != nil {
		t.Error(err)
	}
}
