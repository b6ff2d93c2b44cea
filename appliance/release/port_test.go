package release

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
)

// states put a box into each state that the description knows, and out of it.
func states(w *world) map[string]func() (undo func()) {
	fault := errors.New("a fault")
	return map[string]func() func(){
		"ready": func() func() { return func() {} },
		"clock-untrusted": func() func() {
			old := w.clock.Swap(&moment{time.Now(), false})
			return func() { w.clock.Store(old) }
		},
		"no-hsm": func() func() {
			w.hsm.before = fault
			return func() { w.hsm.before = nil }
		},
		"no-log": func() func() {
			w.jour.before.Store(true)
			return func() { w.jour.before.Store(false) }
		},
		"unhealthy": func() func() {
			w.health.Store(&fault)
			return func() { w.health.Store(nil) }
		},
		"no-rules": func() func() {
			old, empty := w.snap.Load(), *w.snap.Load()
			empty.Book, _ = policy.Compile(99, policy.Definition{}, nil)
			w.snap.Store(&empty)
			return func() { w.snap.Store(old) }
		},
		"no-anchors": func() func() {
			old, none := w.snap.Load(), *w.snap.Load()
			none.Anchors, _ = NewAnchors(nil)
			w.snap.Store(&none)
			return func() { w.snap.Store(old) }
		},
		"busy": func() func() {
			w.server.count.inFlight.Add(maxInFlight)
			return func() { w.server.count.inFlight.Add(-maxInFlight) }
		},
	}
}

// certificates are the clients that the description tells apart, several of a kind.
func certificates(w *world) map[string][]*http.Client {
	past := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	alice := pkix.Name{CommonName: "alice", Organization: []string{"Example"}}
	return map[string][]*http.Client{
		"none": {w.client()},
		"wrong": {
			w.client(w.stranger.person(w.t, "alice", "Example")),
			w.client(w.corp.issue(w.t, alice, x509.ExtKeyUsageServerAuth)),
			w.client(w.corp.issue(w.t, alice, x509.ExtKeyUsageClientAuth, past)),
			w.client(w.corp.issue(w.t, alice, x509.ExtKeyUsageClientAuth, future)),
			w.client(w.corp.issue(w.t, pkix.Name{}, x509.ExtKeyUsageClientAuth)),
		},
		"refused": {w.mallory()},
		"right":   {w.alice()},
	}
}

// call sends a request and holds the answer to the description of its operation.
func (d *description) call(t *testing.T, w *world, c *http.Client, method, target string, body []byte, change ...func(*http.Request)) int {
	t.Helper()
	at := strings.Replace(target, "{hash}", w.document, 1)
	req, err := http.NewRequestWithContext(context.Background(), method, "https://"+w.addr+at, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", kra.ContentType)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(target, "?")
	described, ok := d.Paths[path][strings.ToLower(method)].Responses[fmt.Sprint(resp.StatusCode)]
	kind := kra.ContentType
	for k := range described.Content { // there is one
		kind = k
	}
	want := described.Content[kind].Schema
	if !ok && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed) {
		want, ok = d.Components.Schemas["Error"], true
	}
	if !ok || want == nil {
		t.Fatalf("%s %s: %d is not described: %s", method, target, resp.StatusCode, got)
	}
	if method != http.MethodHead {
		if kind != kra.ContentType {
			if got, err = json.Marshal(string(got)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.check(want, got); err != nil {
			t.Errorf("%s %s: %d: %v\n%s", method, target, resp.StatusCode, err, got)
		}
	}
	if h := resp.Header; h.Get("Content-Type") != kind || h.Get("Cache-Control") != "no-store" || h.Get("Server") != "" {
		t.Errorf("%s %s: headers %v", method, target, h)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s: 503 without Retry-After", method, target)
	}
	return resp.StatusCode
}

// TestPortKeepsItsDescription asks every operation of kra/openapi.yaml, with every kind of certificate, in every state
// of the box, and then in every way in which a request can be wrong. Every status that is described must be seen.
func TestPortKeepsItsDescription(t *testing.T) {
	w, d := newWorld(t), readDescription(t)
	w.server.delay = time.Millisecond
	w.def.Rules = append(w.def.Rules, policy.RuleDef{Name: "example", Expr: `id.under("corp:O=Example")`})
	w.def.Access = append(w.def.Access, policy.AccessDef{ID: "lobby", Keys: []block.KeyID{w.hsm.add("lobby")}, Lists: []string{"example"}, Delivery: policy.ToAnyone})
	w.publish()
	certs, all := certificates(w), states(w)
	seen := map[string]bool{}
	asked := 0
	for path, methods := range d.Paths {
		for method, op := range methods {
			for _, v := range op.variants(w) {
				if v.body != nil {
					if err := d.check(d.Components.Schemas["Request"], v.body); err != nil {
						t.Errorf("%s request: %v", v.name, err)
					}
				}
				if !slices.Equal(slices.Sorted(maps.Keys(v.answers)), slices.Sorted(maps.Keys(all))) {
					t.Fatalf("%s %s, %s: described states %v", method, path, v.name, slices.Sorted(maps.Keys(v.answers)))
				}
				for state, answers := range v.answers {
					undo := all[state]()
					for kind, clients := range certs {
						for i, c := range clients {
							got := d.call(t, w, c, strings.ToUpper(method), path, v.body)
							if got != answers[kind] {
								t.Errorf("%s %s, %s, %s certificate %d, %s: %d; described is %d", method, path, v.name, kind, i, state, got, answers[kind])
							}
							if needs := len(op.Security) == 1; needs && (kind == "none" || kind == "wrong") && got == http.StatusOK {
								t.Errorf("%s %s answers without a certificate", method, path)
							}
							seen[method+path+fmt.Sprint(got)] = true
							asked++
						}
					}
					undo()
				}
			}
		}
	}
	for _, bad := range badRequests(t, w, certs["right"][0]) {
		if got := d.call(t, w, certs["right"][0], bad.method, bad.target, bad.body, bad.change); got != bad.want {
			t.Errorf("%s: %d; want %d", bad.name, got, bad.want)
		}
		seen[strings.ToLower(bad.method)+bad.target+fmt.Sprint(bad.want)] = true
		seen[strings.ToLower(bad.method)+strings.Split(bad.target, "?")[0]+fmt.Sprint(bad.want)] = true
		asked++
	}
	f := newFleet(t, "fleet.example")
	w.trusts(f, "analysis", false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	for _, bad := range platformRequests(m) {
		c := w.client(m.leaf(nil))
		if bad.name == "crowd" {
			w.server.showers.all = maxChallengers
		}
		if got := d.call(t, w, c, bad.method, bad.target, bad.body, bad.change); got != bad.want {
			t.Errorf("%s: %d; want %d", bad.name, got, bad.want)
		}
		w.server.showers.all = 0
		seen[strings.ToLower(bad.method)+bad.target+fmt.Sprint(bad.want)] = true
		asked++
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			for code := range op.Responses {
				if !seen[method+path+code] {
					t.Errorf("%s %s: described %s was never seen", method, path, code)
				}
			}
		}
	}
	t.Logf("%d requests", asked)
}

// platformRequests are what a platform may send.
func platformRequests(m *machine) []badRequest {
	show := func(name, body string, want int) badRequest {
		return badRequest{name, "POST", kra.PathPlatform, []byte(body), func(*http.Request) {}, want}
	}
	n := make([]byte, label.NonceSize)
	whole := string(label.Showing{Confirmation: m.confirms(n, n), Interpretation: m.means(m.f.document, n, n)}.Bytes())
	chunked, form := show("chunked", whole, 411), show("form", whole, 415)
	chunked.change = func(r *http.Request) { r.ContentLength = -1 }
	form.change = func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
	return []badRequest{show("nonce", "{}", 200), show("no nonce", whole, 403), show("space", "{ }", 400), show("more", `{"label":"x"}`, 400), show("null", `{"confirmation":null}`, 400),
		show("long", "{"+strings.Repeat(" ", label.MaxShowing)+"}", 413), show("crowd", whole, 503), chunked, form}
}

// A variant is one form of the request of an operation.
type variant struct {
	name    string
	body    []byte
	answers map[string]map[string]int
}

// variants are the forms that the description tells apart.
func (op operation) variants(w *world) []variant {
	w.t.Helper()
	if len(op.Sealed) == 0 {
		return []variant{{"plain", nil, op.Answers}}
	}
	h, cert := w.hsm.header(w.t, "legal"), w.corp.second(w.t, newECDSA(w.t), aliceName)
	free := w.hsm.header(w.t, "lobby")
	w.info.said.Store(&sayings{repository: map[string][][]*x509.Certificate{alice: {{cert}}}})
	return []variant{{"plain", request(w.t, h.Bytes()), op.Answers},
		{"sealed", compose(w.t, "", kra.Presented{Certificates: []*x509.Certificate{cert}}, toCertificate(w.t), free).Encode(), op.Sealed},
		{"named", compose(w.t, alice, kra.Presented{}, toCertificate(w.t), free).Encode(), op.Named}}
}

func TestPortOtherMethodsAndPaths(t *testing.T) {
	w, d := newWorld(t), readDescription(t)
	for _, c := range []*http.Client{w.client(), w.alice()} {
		for path := range d.Paths {
			for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
				if _, ok := d.Paths[path][strings.ToLower(m)]; ok {
					continue
				}
				if got := d.call(t, w, c, m, path, nil); got != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: %d", m, path, got)
				}
			}
		}
		for _, path := range []string{"/v1", "/v1/", "/v1/release/", "/v1//release", "/V1/release", "/v1/keys/..", "/metrics", "/healthz", "/debug/pprof/", "/v1/do"} {
			if got := d.call(t, w, c, "GET", path, nil); got != http.StatusNotFound {
				t.Errorf("GET %s: %d", path, got)
			}
		}
	}
}

type badRequest struct {
	name, method, target string
	body                 []byte
	change               func(*http.Request)
	want                 int
}

func badRequests(t *testing.T, w *world, right *http.Client) []badRequest {
	h := w.hsm.header(t, "legal").Bytes()
	good := string(request(t, h))
	post := func(name, body string, want int) badRequest {
		return badRequest{name, "POST", kra.PathRelease, []byte(body), func(*http.Request) {}, want}
	}
	header := func(name string, h []byte) badRequest {
		return post(name, string(request(t, h)), http.StatusBadRequest)
	}
	out := []badRequest{
		post("no JSON", "hello", 400),
		post("empty object", "{}", 400),
		post("no headers", `{"headers":[]}`, 400),
		post("empty header", `{"headers":[""]}`, 400),
		post("null", "null", 400),
		post("array", "[]", 400),
		post("unknown field", strings.Replace(good, "{", `{"policy":"true",`, 1), 400),
		post("rule in the request", strings.Replace(good, "{", `{"rules":["true"],`, 1), 400),
		post("repeated field", strings.Replace(good, "{", `{"decryptor":"a","decryptor":"b",`, 1), 400),
		post("miscased field", strings.Replace(good, "headers", "Headers", 1), 400),
		post("two values", good+good, 400),
		post("trailing comma", strings.Replace(good, "]}", ",]}", 1), 400),
		post("too many headers", `{"headers":["`+strings.Repeat(`AAAA","`, 64)+`AAAA"]}`, 400),
		post("base64url", `{"headers":["__-_"]}`, 400),
		post("unpadded", `{"headers":["AAA"]}`, 400),
		post("line in base64", `{"headers":["AA\nAA"]}`, 400),
		post("certificate that is none", strings.Replace(good, "{", `{"certificates":["AAAA"],`, 1), 400),
		post("no certificates", strings.Replace(good, "{", `{"certificates":[],`, 1), 400),
		post("token with a space", strings.Replace(good, "{", `{"tokens":["a b"],`, 1), 400),
		post("too many attributes", strings.Replace(good, "{", `{"attributes":["`+strings.Repeat(`AAAA","`, 8)+`AAAA"],`, 1), 400),
		post("deliver elsewhere", strings.Replace(good, "{", `{"deliver":{"to":"mail"},`, 1), 400),
		post("deliver to no key", strings.Replace(good, "{", `{"deliver":{"to":"key"},`, 1), 400),
		post("group of one's own", strings.Replace(good, "{", `{"groups":["board"],`, 1), 400),
		post("decision only", strings.Replace(good, "{", `{"explain":true,`, 1), 400),
		post("channel is fine", strings.Replace(good, "{", `{"deliver":{"to":"channel"},`, 1), 200),
		header("no header", []byte("hello")),
		header("cut header", h[:len(h)-10]),
		header("header and more", append(slices.Clone(h), "payload"...)),
		header("oversized header", append([]byte("age-encryption.org/v1\n-> x "), bytes.Repeat([]byte("A"), 70_000)...)),
		post("over the limit", `{"headers":["`+strings.Repeat("A", kra.MaxBody)+`"]}`, 413),
		post("chunked", good, 411),
		post("form", good, 415),
		post("no media type", good, 415),
		post("charset is fine", good, 200),
		{"two queries", "GET", kra.PathKeys + "?access=a&access=b", nil, func(*http.Request) {}, 400},
		{"bad id", "GET", kra.PathKeys + "?access=Legal", nil, func(*http.Request) {}, 400},
		{"unknown query", "GET", kra.PathKeys + "?x=y", nil, func(*http.Request) {}, 400},
		{"one key", "GET", kra.PathKeys + "?access=legal-team,nobody", nil, func(*http.Request) {}, 200},
	}
	edit := string(groupEditOf(t, right, "legal", 1))
	groups := func(name, body string, want int) badRequest {
		return badRequest{name, "POST", kra.PathGroups, []byte(body), func(*http.Request) {}, want}
	}
	out = append(out,
		badRequest{"group", "GET", kra.PathGroups + "?group=legal", nil, func(*http.Request) {}, 200},
		badRequest{"page of a group", "GET", kra.PathGroups + "?group=legal&after=corp:CN=x", nil, func(*http.Request) {}, 200},
		badRequest{"another's group", "GET", kra.PathGroups + "?group=board", nil, func(*http.Request) {}, 403},
		badRequest{"two groups", "GET", kra.PathGroups + "?group=legal&group=board", nil, func(*http.Request) {}, 400},
		badRequest{"group and more", "GET", kra.PathGroups + "?group=legal&x=y", nil, func(*http.Request) {}, 400},
		groups("edit with a space", strings.Replace(edit, ":", ": ", 1), 400),
		groups("edit of another version", strings.Replace(edit, `"version":1`, `"version":7`, 1), 403),
		groups("edit", edit, 200),
		groups("edit again", edit, 403),
		groups("long edit", `{"group":"`+strings.Repeat("a", kra.MaxBody)+`"}`, 413),
		groups("chunked", edit, 411),
		groups("form", edit, 415),
	)
	asked := func(name, body string, want int) badRequest {
		return badRequest{name, "POST", kra.PathChallenge, []byte(body), func(*http.Request) {}, want}
	}
	nonce := string(label.Challenge{Nonce: make([]byte, label.NonceSize), Label: label.KeyRelease}.Bytes())
	out = append(out,
		asked("challenge", nonce, 200),
		asked("all that it can be", strings.Replace(nonce, string(label.KeyRelease), "", 1), 200),
		asked("another label", strings.Replace(nonce, string(label.KeyRelease), "root", 1), 409),
		asked("challenge with a space", strings.Replace(nonce, ":", ": ", 1), 400),
		asked("short nonce", strings.Replace(nonce, "AAAA", "", 1), 400),
		asked("policy in a challenge", strings.Replace(nonce, "{", `{"pcrs":{},`, 1), 400),
		asked("long challenge", strings.Replace(nonce, "{", "{"+strings.Repeat(" ", label.MaxChallenge), 1), 413),
		asked("broken TPM", strings.Replace(nonce, string(label.KeyRelease), "broken", 1), 503),
		asked("chunked", nonce, 411),
		asked("form", nonce, 415),
	)
	for i := range out {
		switch out[i].name {
		case "chunked":
			out[i].change = func(r *http.Request) { r.ContentLength = -1 }
		case "form":
			out[i].change = func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
		case "no media type":
			out[i].change = func(r *http.Request) { r.Header.Del("Content-Type") }
		case "charset is fine":
			out[i].change = func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }
		}
	}
	return out
}

// request returns the JSON of a request for headers.
func request(t testing.TB, headers ...[]byte) []byte {
	t.Helper()
	r, err := kra.NewRequest(headers, "")
	if err != nil {
		t.Fatal(err)
	}
	return r.Encode()
}

func TestTLS(t *testing.T) { // 1.3 only, no resumption, no other protocol
	w := newWorld(t)
	pool := x509.NewCertPool()
	pool.AddCert(w.box.cert)
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
		c, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: pool, ServerName: "box1", MinVersion: v, MaxVersion: v})
		if err == nil {
			c.Close()
			t.Errorf("version %x accepted", v)
		}
	}
	cache := tls.NewLRUClientSessionCache(8)
	for range 3 {
		c, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: pool, ServerName: "box1", ClientSessionCache: cache, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /v1/status HTTP/1.1\r\nHost: box1\r\n\r\n")
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		if s := c.ConnectionState(); s.Version != tls.VersionTLS13 || s.DidResume || s.NegotiatedProtocol != "http/1.1" {
			t.Errorf("state %x, resumed %v, protocol %q", s.Version, s.DidResume, s.NegotiatedProtocol)
		}
		c.Close()
	}
}
