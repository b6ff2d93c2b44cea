package release

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// dial opens a TLS connection by hand.
func (w *world) dial(cert ...tls.Certificate) *tls.Conn {
	w.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.box.cert)
	c, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: pool, ServerName: "box1", Certificates: cert})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// closedWithin waits for the server to end the connection.
func closedWithin(c net.Conn, d time.Duration) (time.Duration, error) {
	start := time.Now()
	if err := c.SetReadDeadline(start.Add(d)); err != nil {
		return 0, err
	}
	_, err := io.Copy(io.Discard, c)
	return time.Since(start), err
}

func TestSlowClientsAreDropped(t *testing.T) {
	w := newWorld(t)
	raw, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	idle := w.dial()
	drip := w.dial(w.corp.person(t, "alice", "Example"))
	fmt.Fprintf(drip, "POST /v1/release HTTP/1.1\r\nHost: box1\r\nX-Slow: ")
	for name, c := range map[string]net.Conn{"no handshake": raw, "no request": idle, "no end of headers": drip} {
		if took, err := closedWithin(c, headWithin+3*time.Second); errors.Is(err, errTimeout(err)) || took > headWithin+2*time.Second {
			t.Errorf("%s: open after %v, %v", name, took, err)
		}
	}
}

// errTimeout returns err if it is a time-out, else an error that no error is.
func errTimeout(err error) error {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return err
	}
	return errors.New("no time-out")
}

func TestStrangersServeOneRequest(t *testing.T) { // who is nobody cannot hold a connection
	w := newWorld(t)
	for path, c := range map[string]*tls.Conn{kra.PathStatus: w.dial(), kra.PathKeys: w.dial(w.stranger.person(t, "x", "y"))} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: box1\r\n\r\n", path)
		if took, err := closedWithin(c, 2*time.Second); err != nil {
			t.Errorf("%s: open after %v", path, took)
		}
	}
	c := w.dial(w.corp.person(t, "alice", "Example"))
	r := bufio.NewReader(c)
	for range 3 {
		body := request(t, w.hsm.header(t, "legal").Bytes())
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: box1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", kra.PathRelease, len(body), body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("keep-alive: %v", err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBoundsOnBodies(t *testing.T) {
	w := newWorld(t)
	c, body := w.alice(), request(t, w.hsm.header(t, "legal").Bytes())
	w.server.count.bodies.Add(maxBodies)
	if code, out := w.post(c, body); code != http.StatusServiceUnavailable || !strings.Contains(string(out), kra.CodeBusy) {
		t.Errorf("with all bodies in use: %d %s", code, out)
	}
	w.server.count.bodies.Add(-maxBodies)
	if code, _ := w.post(c, body); code != http.StatusOK {
		t.Errorf("with none in use: %d", code)
	}
	huge := w.dial(w.corp.person(t, "alice", "Example"))
	fmt.Fprintf(huge, "GET /v1/status HTTP/1.1\r\nHost: box1\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	resp, err := http.ReadResponse(bufio.NewReader(huge), nil)
	if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %s", resp.Status)
	}
}

// TestBodiesOfOne: what one source or one decryptor announces and does not send leaves room for all others.
func TestBodiesOfOne(t *testing.T) {
	w := newWorld(t)
	r, err := http.NewRequest(http.MethodPost, kra.PathRelease, strings.NewReader(strings.Repeat(" ", kra.MaxBody)))
	if err != nil {
		t.Fatal(err)
	}
	one, err := kra.ParseDecryptor(alice)
	if err != nil {
		t.Fatal(err)
	}
	var held []body
	for range maxBodies / kra.MaxBody {
		r.Body = io.NopCloser(strings.NewReader(strings.Repeat(" ", kra.MaxBody)))
		if b, bad := w.server.body(r, placeOf(&w.server.held, one)); bad.code == 0 {
			held = append(held, b)
		}
	}
	if n := len(held) * kra.MaxBody; n != maxBodiesOfOne {
		t.Errorf("one decryptor holds %d bytes; want %d", n, maxBodiesOfOne)
	}
	for _, b := range held {
		w.server.giveBack(b)
	}
	if n, of := w.server.count.bodies.Load(), placeOf(&w.server.held, one).Load(); n != 0 || of != 0 {
		t.Errorf("%d bytes never given back, %d of one", n, of)
	}
	here, let := netip.MustParseAddr("192.0.2.1"), 0
	for range maxFromOne {
		if w.server.strangers.enter(here, kra.MaxBody) {
			let++
		}
	}
	if let != maxBodiesFromOne/kra.MaxBody || !w.server.strangers.enter(netip.MustParseAddr("192.0.2.2"), kra.MaxBody) {
		t.Errorf("one source has %d large bodies", let)
	}
	for range let {
		w.server.strangers.leave(here, kra.MaxBody)
	}
	if of := w.server.strangers.at[sourceOf(here)]; of != (atWork{}) {
		t.Errorf("left over: %+v", of)
	}
}

func TestShortBody(t *testing.T) {
	w := newWorld(t)
	c := w.dial(w.corp.person(t, "alice", "Example"))
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: box1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}", kra.PathRelease)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("body cut short: %s", resp.Status)
	}
	deadline := time.Now().Add(time.Minute)
	for w.server.count.bodies.Load() != 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := w.server.count.bodies.Load(); n != 0 {
		t.Errorf("%d bytes never given back", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.server.delay = 5 * time.Millisecond
	yes, no := w.hsm.header(t, "legal"), w.hsm.header(t, "board")
	alice, mallory := w.alice(), w.mallory()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := []*http.Client{alice, mallory}[i%2]
			for range 8 {
				if _, resp := w.ask(c, "", yes, no, yes); w.opens(yes, resp, 0) != (i%2 == 0) || !resp.Results[1].Refused() {
					t.Error("wrong answer under load")
				}
			}
		}()
	}
	wg.Wait()
	if h := w.log.Head().HSM; h.N != uint64(w.hsm.items) || h.N != 8*8*2 {
		t.Errorf("log has %d unwraps, the HSM %d", h.N, w.hsm.items)
	}
}

func TestHealth(t *testing.T) {
	var fault error
	srv := httptest.NewServer(HealthHandler(func() error { return fault }))
	defer srv.Close()
	get := func(method, path string) (int, string) {
		req, err := http.NewRequest(method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, body := get("GET", PathHealth); code != 200 || body != "{\"healthy\":true}\n" {
		t.Errorf("healthy: %d %s", code, body)
	}
	fault = errors.New("write log: no space left on device")
	code, body := get("GET", PathHealth)
	var answer struct {
		Healthy bool
		Reason  string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 503 || answer.Healthy || answer.Reason != fault.Error() {
		t.Errorf("unhealthy: %d %s", code, body)
	}
	if code, _ := get("POST", PathHealth); code != 405 {
		t.Errorf("POST: %d", code)
	}
	if code, _ := get("GET", kra.PathStatus); code != 404 {
		t.Errorf("other path: %d", code)
	}
}
