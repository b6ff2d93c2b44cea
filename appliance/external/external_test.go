package external

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A prepaid is a service that sells by the piece: a value is a counter, whoever has it.
type prepaid struct {
	t *testing.T

	mu      sync.Mutex
	left    map[string]int
	held    map[string]string // question: value
	settled map[string]string // question: what became of it
	asked   []question
	bytes   atomic.Int64 // of bodies that came in
	before  func(http.ResponseWriter, *http.Request) bool
}

func newPrepaid(t *testing.T, left map[string]int) *prepaid {
	return &prepaid{t: t, left: left, held: map[string]string{}, settled: map[string]string{}}
}

func (p *prepaid) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.bytes.Add(int64(len(body)))
	if p.before != nil && p.before(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var q question
	var done settlement
	if err := json.Unmarshal(body, &q); err != nil {
		p.t.Error(err)
	}
	if err := json.Unmarshal(body, &done); err != nil {
		p.t.Error(err)
	}
	id := r.Header.Get(keyHeader)
	var ok bool
	switch r.URL.Path {
	case "/pay/reserve":
		p.asked = append(p.asked, q)
		if id != idOf(body) {
			p.t.Errorf("ID %s, want %s", id, idOf(body))
		}
		if _, again := p.held[id]; !again && p.settled[id] == "" && p.left[string(q.Value)] > 0 {
			p.left[string(q.Value)]--
			p.held[id] = string(q.Value)
		}
		_, ok = p.held[id]
	case "/pay/capture":
		_, ok = p.held[done.ID]
		p.settled[done.ID] = "captured"
	case "/pay/cancel":
		if v, held := p.held[done.ID]; held {
			p.left[v]++
			delete(p.held, done.ID)
		}
		p.settled[done.ID], ok = "cancelled", true
	default:
		p.t.Errorf("asked %s", r.URL.Path)
	}
	p.reply(w, id, ok, fmt.Sprintf("%d left", p.left[string(q.Value)]))
}

func (p *prepaid) reply(w http.ResponseWriter, id string, ok bool, reason string) {
	w.Header().Set("Content-Type", "application/json")
	a := map[string]string{"id": id, "answer": no, "reason": reason}
	if ok {
		a["answer"] = yes
	}
	_ = json.NewEncoder(w).Encode(a)
}

func (p *prepaid) state(value string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := map[string]int{}
	for _, s := range p.settled {
		n[s]++
	}
	return fmt.Sprintf("%d left, %d captured, %d cancelled", p.left[value], n["captured"], n["cancelled"])
}

// serve starts a service over TLS and returns how a box would reach it.
func serve(t *testing.T, h http.Handler) Service {
	t.Helper()
	s := httptest.NewTLSServer(h)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Service{Alias: "credit", URL: s.URL + "/pay", Roots: roots, Mode: Reserve, Timeout: 5 * time.Second, InFlight: 4, Charge: Platform,
		Value: func() []byte { return []byte("card 1") }}
}

func configured(t *testing.T, s Service) *Services {
	t.Helper()
	x := New("example", "box1")
	if err := x.Configure([]Service{s}); err != nil {
		t.Fatal(err)
	}
	return x
}

// about is a question of alice's, who presents values.
func about(t *testing.T, values ...string) release.Question {
	t.Helper()
	d, err := kra.ParseDecryptor("corp:CN=alice,O=Example")
	if err != nil {
		t.Fatal(err)
	}
	q := release.Question{Decryptor: d, Source: netip.MustParseAddr("10.20.3.4"), Header: receipt.Hash{7}}
	for i := 0; i+1 < len(values); i += 2 {
		v, err := kra.ValueToken(values[i], []byte(values[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		q.Presented.Tokens = append(q.Presented.Tokens, v)
	}
	return q
}

func wants(t *testing.T, a policy.Answer, outcome policy.Outcome, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.Reason, w) {
			t.Errorf("reason %q lacks %q", a.Reason, w)
		}
	}
	if a.Outcome != outcome {
		t.Errorf("outcome %s (%s), want %s", a.Outcome, a.Reason, outcome)
	}
}

// The platform pays from a counter: reserved, captured or given back, and refused when it is empty.
func TestReserveCaptureCancel(t *testing.T) {
	p := newPrepaid(t, map[string]int{"card 1": 2})
	x := configured(t, serve(t, p))
	a, first := x.Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Passed, "platform pays, ", "1 left")
	a, second := x.Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Passed, "0 left")
	if first.(*reservation).id == second.(*reservation).id {
		t.Error("two requests are one question")
	}
	a, none := x.Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Failed, "0 left")
	if none != nil {
		t.Error("a refusal holds something")
	}
	if err := first.Capture(t.Context()); err != nil {
		t.Error(err)
	}
	if err := second.Cancel(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.state("card 1"); got != "1 left, 1 captured, 1 cancelled" {
		t.Error(got)
	}
	if q := p.asked[0]; q.Box != "example/box1" || q.Decryptor != "corp:CN=alice,O=Example" || q.Header != (receipt.Hash{7}).String() || q.Charge != "platform" {
		t.Errorf("asked %+v", q)
	}
	if a, _ := x.Ask(t.Context(), "other", about(t)); a.Outcome != policy.Errored {
		t.Errorf("an unknown service: %+v", a)
	}
}

// Money without a name: the subject's voucher pays, one value for all that is asked, and the service learns of nobody.
func TestSubjectPays(t *testing.T) {
	p := newPrepaid(t, map[string]int{"voucher": 5, "card 1": 5})
	s := serve(t, p)
	s.Charge, s.Value = Subject, nil
	x := configured(t, s)
	a, _ := x.Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Failed, "nothing was presented")
	a, _ = x.Ask(t.Context(), "credit", about(t, "quota", "for another service"))
	wants(t, a, policy.Failed, "nothing was presented")
	if p.bytes.Load() != 0 {
		t.Error("the service was asked without a value")
	}
	for range 2 {
		a, held := x.Ask(t.Context(), "credit", about(t, "credit", "voucher", "quota", "another"))
		wants(t, a, policy.Passed, "subject pays, ")
		if err := held.Capture(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if q := p.asked[0]; q.Decryptor != "" || q.Source != "" || string(q.Value) != "voucher" || q.Charge != "subject" {
		t.Errorf("asked %+v", q)
	}
	if got := p.state("voucher"); got != "3 left, 2 captured, 0 cancelled" {
		t.Error(got)
	}
}

// No byte of a question, and so no value, reaches a server that the pinned authority does not vouch for.
func TestNothingBeforeTheChannel(t *testing.T) {
	p := newPrepaid(t, map[string]int{"card 1": 2})
	s := serve(t, p)
	s.Roots = x509.NewCertPool() // vouches for nobody
	a, held := configured(t, s).Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Errored, "not vouched for")
	if held != nil || p.bytes.Load() != 0 {
		t.Errorf("%d bytes were sent to a stranger", p.bytes.Load())
	}
	plain := httptest.NewServer(p)
	defer plain.Close()
	s.URL = plain.URL
	if err := New("example", "box1").Configure([]Service{s}); err == nil {
		t.Error("a service without TLS is configured")
	}
	s = serve(t, p)
	s.URL = strings.Replace(plain.URL, "http:", "https:", 1)
	a, _ = configured(t, s).Ask(t.Context(), "credit", about(t))
	wants(t, a, policy.Errored, "cannot be reached")
	if p.bytes.Load() != 0 {
		t.Errorf("%d bytes were sent in the clear", p.bytes.Load())
	}
}

// Whatever is not a clear yes denies, and is given back if it may have been reserved.
func TestDoubtDenies(t *testing.T) {
	raw := func(status int, kind, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/pay/reserve" {
				return false
			}
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, strings.ReplaceAll(body, "ID", r.Header.Get(keyHeader)))
			return true
		}
	}
	good := `{"id":"ID","answer":"yes"}`
	for _, c := range []struct {
		name   string
		before func(http.ResponseWriter, *http.Request) bool
		want   string
	}{
		{"5xx", raw(503, "application/json", good), "status 503"},
		{"accepted", raw(202, "application/json", good), "status 202"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/pay/reserve" {
				http.Redirect(w, r, "/pay/elsewhere", http.StatusTemporaryRedirect)
			}
			return r.URL.Path == "/pay/reserve"
		}, "status 307"},
		{"another type", raw(200, "text/html", good), "not JSON"},
		{"another question", raw(200, "application/json", `{"id":"`+strings.Repeat("0", 64)+`","answer":"yes"}`), "another question"},
		{"no id", raw(200, "application/json", `{"answer":"yes"}`), "another question"},
		{"twice", raw(200, "application/json", `{"id":"ID","answer":"no","answer":"yes"}`), "repeated"},
		{"miscased", raw(200, "application/json", `{"id":"ID","Answer":"yes"}`), "unknown"},
		{"true", raw(200, "application/json", `{"id":"ID","answer":true}`), "malformed"},
		{"maybe", raw(200, "application/json", `{"id":"ID","answer":"maybe"}`), "neither"},
		{"more", raw(200, "application/json", good+"{}"), "follows"},
		{"cut", raw(200, "application/json", `{"id":"ID","answer":"yes"`), "malformed"},
		{"list", raw(200, "application/json", `["yes"]`), "no JSON object"},
		{"empty", raw(200, "application/json", ""), "no JSON object"},
		{"long", raw(200, "application/json", good+strings.Repeat(" ", maxAnswer)), "longer"},
		{"long reason", raw(200, "application/json", `{"id":"ID","answer":"yes","reason":"`+strings.Repeat("x", maxReason+1)+`"}`), "reason"},
		{"hangs up", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/pay/reserve" {
				panic(http.ErrAbortHandler)
			}
			return false
		}, "cannot be reached"},
		{"silent", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/pay/reserve" {
				<-r.Context().Done()
			}
			return r.URL.Path == "/pay/reserve"
		}, "no answer in time"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/pay/reserve" {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, "{")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
			return r.URL.Path == "/pay/reserve"
		}, "no answer in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPrepaid(t, map[string]int{"card 1": 2})
			p.before = c.before
			s := serve(t, p)
			s.InFlight = 1
			if strings.Contains(c.want, "in time") {
				s.Timeout = 300 * time.Millisecond
			}
			x := configured(t, s)
			a, held := x.Ask(t.Context(), "credit", about(t))
			wants(t, a, policy.Errored, c.want)
			if held != nil {
				t.Error("doubt holds something")
			}
			cl := x.all["credit"]
			cl.turns <- struct{}{} // once it was given back
			if got := p.state("card 1"); got != "2 left, 0 captured, 1 cancelled" {
				t.Error(got)
			}
		})
	}
}

// A capture in doubt is tried again; one that stays in doubt is an error and given back, whether it was done or not.
func TestCaptureInDoubt(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails int32
		done  bool
		want  string
	}{{"once, not done", 1, false, "1 left, 1 captured, 0 cancelled"}, {"once, but done", 1, true, "1 left, 1 captured, 0 cancelled"},
		{"not done", 2, false, "2 left, 0 captured, 1 cancelled"}, {"but done", 2, true, "2 left, 0 captured, 1 cancelled"}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPrepaid(t, map[string]int{"card 1": 2})
			var n atomic.Int32
			p.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/pay/capture" || n.Add(1) > c.fails {
					return false
				}
				if c.done {
					p.mu.Lock()
					p.settled[r.Header.Get(keyHeader)] = "captured"
					p.mu.Unlock()
				}
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			_, held := configured(t, serve(t, p)).Ask(t.Context(), "credit", about(t))
			if err := held.Capture(t.Context()); (err != nil) != (c.fails > 1) {
				t.Errorf("Capture = %v", err)
			}
			if got := p.state("card 1"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	p := newPrepaid(t, map[string]int{"card 1": 2})
	x := configured(t, serve(t, p))
	_, held := x.Ask(t.Context(), "credit", about(t))
	p.mu.Lock()
	clear(p.held) // too late
	p.mu.Unlock()
	if err := held.Capture(t.Context()); err == nil {
		t.Error("a capture that was refused is none")
	}
}

// No more questions are in flight than allowed, and who waits too long is denied.
func TestInFlight(t *testing.T) {
	p := newPrepaid(t, map[string]int{"card 1": 100})
	var now, most atomic.Int32
	gate := make(chan struct{})
	p.before = func(http.ResponseWriter, *http.Request) bool {
		for n, m := now.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-gate
		now.Add(-1)
		return false
	}
	s := serve(t, p)
	s.InFlight = 2
	x := configured(t, s)
	var all sync.WaitGroup
	var passed atomic.Int32
	for range 6 {
		all.Go(func() {
			if a, _ := x.Ask(context.Background(), "credit", about(t)); a.Outcome == policy.Passed {
				passed.Add(1)
			}
		})
	}
	for now.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a, _ := x.Ask(short, "credit", about(t))
	wants(t, a, policy.Errored, "too many questions")
	close(gate)
	all.Wait()
	if most.Load() != 2 || passed.Load() != 6 {
		t.Errorf("%d at once, %d passed; want 2, 6", most.Load(), passed.Load())
	}
}

// An identification server has the same protocol: it only verifies who asks, and says how long that holds.
type identity struct {
	people map[string]string // decryptor: password
	age    string
	asked  atomic.Int32
}

func (i *identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.asked.Add(1)
	var q question
	_ = json.NewDecoder(r.Body).Decode(&q)
	if i.age != "" {
		w.Header().Set("Cache-Control", i.age)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	a := map[string]string{"id": r.Header.Get(keyHeader), "answer": no}
	if p, ok := i.people[q.Decryptor]; ok && p == string(q.Value) && r.URL.Path == "/pay/verify" {
		a["answer"] = yes
	}
	_ = json.NewEncoder(w).Encode(a)
}

func TestVerifyOnly(t *testing.T) {
	i := &identity{people: map[string]string{"corp:CN=alice,O=Example": "secret"}}
	s := serve(t, i)
	s.Mode, s.Charge, s.Value = Verify, Subject, nil
	x := configured(t, s)
	a, held := x.Ask(t.Context(), "credit", about(t, "credit", "secret"))
	wants(t, a, policy.Passed, "value of subject")
	if held != nil {
		t.Error("a verification holds something")
	}
	a, _ = x.Ask(t.Context(), "credit", about(t, "credit", "guess"))
	wants(t, a, policy.Failed)
}

// An answer is kept as long as the service says, for the same question only.
func TestKeptAnswers(t *testing.T) {
	for _, c := range []struct {
		age   string
		asked int32
	}{{"max-age=60", 1}, {"private, max-age=60", 1}, {"", 3}, {"max-age=0", 3}, {"no-store", 3}, {"no-store, max-age=60", 3}, {"max-age=60, max-age=60", 3},
		{"max-age=-1", 3}, {"max-age=60, must-understand", 3}} {
		i := &identity{people: map[string]string{"corp:CN=alice,O=Example": "secret"}, age: c.age}
		s := serve(t, i)
		s.Mode, s.Charge, s.Value = Verify, Subject, nil
		x := configured(t, s)
		for range 3 {
			a, _ := x.Ask(t.Context(), "credit", about(t, "credit", "secret"))
			wants(t, a, policy.Passed)
		}
		if got := i.asked.Load(); got != c.asked {
			t.Errorf("%q: asked %d times, want %d", c.age, got, c.asked)
		}
		before := i.asked.Load()
		wrong, _ := x.Ask(t.Context(), "credit", about(t, "credit", "guess"))
		wants(t, wrong, policy.Failed)
		other := about(t, "credit", "secret")
		other.Header = receipt.Hash{8}
		x.Ask(t.Context(), "credit", other)
		if i.asked.Load() != before+2 {
			t.Errorf("%q: another question has a kept answer", c.age)
		}
	}
	k := newCache()
	now := time.Now()
	for n := range maxKept + 1 {
		k.put([32]byte{byte(n), byte(n >> 8)}, answer{}, time.Minute, now)
	}
	if len(k.all) > maxKept {
		t.Errorf("%d answers are kept", len(k.all))
	}
	k.put([32]byte{1}, answer{Answer: yes}, 24*time.Hour, now)
	if _, ok := k.get([32]byte{1}, now.Add(maxKeptFor-1)); !ok {
		t.Error("not kept")
	}
	if _, ok := k.get([32]byte{1}, now.Add(maxKeptFor)); ok {
		t.Error("kept too long")
	}
}

// A reservation is never taken from what was kept.
func TestReservationsAreNotKept(t *testing.T) {
	p := newPrepaid(t, map[string]int{"card 1": 5})
	p.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Cache-Control", "max-age=60")
		return false
	}
	x := configured(t, serve(t, p))
	for range 2 {
		_, held := x.Ask(t.Context(), "credit", about(t))
		if held == nil {
			t.Fatal("nothing is held")
		}
	}
	if len(p.asked) != 2 {
		t.Errorf("asked %d times", len(p.asked))
	}
}

// TestProtocolDocument holds PROTOCOL.md to what the program sends.
func TestProtocolDocument(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(question{Protocol: protocol, Box: "b", Nonce: "n", Decryptor: "d", Source: "s", Header: "h", Charge: "c", Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	words := []string{protocol, idContext, pathReserve, pathVerify, pathCapture, pathCancel, keyHeader}
	for _, part := range strings.Split(string(b), `"`) {
		if len(part) > 2 && part != "dg==" && !strings.ContainsAny(part, ":{") && part != protocol {
			words = append(words, `"`+part+`"`)
		}
	}
	for _, w := range words {
		if !bytes.Contains(text, []byte(w)) {
			t.Errorf("PROTOCOL.md does not mention %s", w)
		}
	}
}

// FuzzAnswer: what is taken for an answer has the three texts at most, each once.
func FuzzAnswer(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzAnswer/*"); err != nil || len(seeds) < 3 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer(text)
		if err != nil {
			return
		}
		var all map[string]string
		if err := json.Unmarshal(text, &all); err != nil || all["id"] != a.ID || all["answer"] != a.Answer || all["reason"] != a.Reason || len(all) > 3 {
			t.Errorf("%q is taken for %+v, and is %v, %v", text, a, all, err)
		}
		if len(a.Reason) > maxReason || a.Answer != yes && a.Answer != no {
			t.Errorf("%+v", a)
		}
	})
}
