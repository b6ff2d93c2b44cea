package release

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/kra"
)

// TestRevokedWhileTheBodyArrives keeps a request open while the rule changes: the answer is that of the rules when the
// request is complete.
func TestRevokedWhileTheBodyArrives(t *testing.T) {
	w := newWorld(t)
	h := w.hsm.header(t, "legal")
	if code, _ := w.ask(w.alice(), "", h); code != http.StatusOK {
		t.Fatalf("before the change: %d", code)
	}
	q, err := kra.NewRequest([][]byte{h.Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	body := q.Encode()
	in, out := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://"+w.addr+kra.PathRelease, in)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", kra.ContentType)
	code := make(chan int, 1)
	go func() {
		resp, err := w.alice().Do(req)
		if err != nil {
			t.Error(err)
			code <- 0
			return
		}
		resp.Body.Close()
		code <- resp.StatusCode
	}()
	if _, err := out.Write(body[:len(body)-1]); err != nil {
		t.Fatal(err)
	}
	for w.server.Counts().Requests < 2 { // it has been let in and waits for the last byte
		time.Sleep(time.Millisecond)
	}
	w.def.Access[0].Lists = []string{"nobody"}
	w.publish()
	if _, err := out.Write(body[len(body)-1:]); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if got := <-code; got != http.StatusForbidden {
		t.Errorf("after the change: %d; want %d", got, http.StatusForbidden)
	}
}

// TestSlowWorkIsAnswered: however long the box works, the time to read a request and that to send an answer do not run out
// meanwhile. The answer is sent whole, and what is refused in it waits for its time, as always.
func TestSlowWorkIsAnswered(t *testing.T) {
	w := newWorld(t)
	const within = time.Second
	w.server.delay = 3 * within
	srv := w.server.http()
	srv.ReadTimeout, srv.WriteTimeout = within, within
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.ServeTLS(l, "", "")
	t.Cleanup(func() { srv.Close() })
	w.addr = l.Addr().String()
	hold := make(chan struct{})
	w.hsm.hold.Store(&hold)
	go func() {
		<-w.hsm.entered
		time.Sleep(within + within/2)
		close(hold)
	}()
	yes := w.hsm.header(t, "legal")
	began := time.Now()
	code, resp := w.ask(w.alice(), "", yes, w.hsm.header(t, "board"))
	took := time.Since(began)
	if code != http.StatusOK || !w.opens(yes, resp, 0) || !resp.Results[1].Refused() {
		t.Errorf("after %v: %d", took, code)
	}
	if took < w.server.delay {
		t.Errorf("a refusal left after %v; want %v at least", took, w.server.delay)
	}
}

// A latecomer is a body whose last byte comes late.
type latecomer struct {
	io.Reader
	left int
	late time.Duration
}

func (l *latecomer) Read(b []byte) (int, error) {
	if l.left == 1 {
		time.Sleep(l.late)
		l.left = 0
		return l.Reader.Read(b)
	}
	n, err := l.Reader.Read(b[:min(len(b), max(l.left-1, 0))])
	l.left -= n
	return n, err
}

// TestDelayBeginsWithTheLastByte: who holds the last byte back until shortly before a refusal could leave, does not get it
// any sooner after that byte, to compare the work with what is left. All refusals wait alike: of releases and of groups.
func TestDelayBeginsWithTheLastByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		w.clock.Store(&moment{time.Now(), true})
		mallory := w.corp.person(t, "mallory", "Example")
		for name, to := range map[string]struct {
			path string
			body []byte
			cert *tls.Certificate
		}{
			"release":            {kra.PathRelease, request(t, w.hsm.header(t, "board").Bytes()), &mallory},
			"release to nobody":  {kra.PathRelease, compose(t, "", kra.Presented{Certificates: []*x509.Certificate{leafOf(t, mallory)}}, toCertificate(t), w.hsm.header(t, "board")).Encode(), nil},
			"statement on group": {kra.PathGroups, groupEditBy(t, mallory.PrivateKey.(crypto.Signer), "legal", 1), &mallory},
		} {
			for _, late := range []time.Duration{0, 97 * time.Millisecond, 98 * time.Millisecond, 99 * time.Millisecond, 250 * time.Millisecond} {
				r := httptest.NewRequest(http.MethodPost, to.path, &latecomer{bytes.NewReader(to.body), len(to.body), late})
				r.ContentLength = int64(len(to.body))
				r.Header.Set("Content-Type", kra.ContentType)
				r.TLS = &tls.ConnectionState{}
				if to.cert != nil {
					r.TLS.PeerCertificates = []*x509.Certificate{leafOf(t, *to.cert)}
				}
				begin, rec := time.Now(), httptest.NewRecorder()
				w.server.serve(rec, r.WithContext(withThisPeer(r.Context(), &peer{addr: netip.MustParseAddr("192.0.2.7")})))
				if took := time.Since(begin); rec.Code != http.StatusForbidden || took != late+RefusalDelay {
					t.Errorf("%s, last byte after %v: %d after %v; want a refusal after %v", name, late, rec.Code, took, late+RefusalDelay)
				}
			}
		}
	})
}

// TestPlaceUntilTheRefusalLeaves: a stranger's place is free again when his refusal leaves and not when the work is done, which would tell
// others how long it took.
func TestPlaceUntilTheRefusalLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		w.clock.Store(&moment{time.Now(), true})
		mallory := w.corp.person(t, "mallory", "Example")
		body := compose(t, "", kra.Presented{Certificates: []*x509.Certificate{leafOf(t, mallory)}}, toCertificate(t), w.hsm.header(t, "board")).Encode()
		r := httptest.NewRequest(http.MethodPost, kra.PathRelease, bytes.NewReader(body))
		r.Header.Set("Content-Type", kra.ContentType)
		r.TLS = &tls.ConnectionState{}
		rec, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(done)
			w.server.serve(rec, r.WithContext(withThisPeer(r.Context(), &peer{addr: netip.MustParseAddr("192.0.2.7")})))
		}()
		synctest.Wait() // the work is done: the refusal waits for its time
		held := func() int {
			w.server.strangers.mu.Lock()
			defer w.server.strangers.mu.Unlock()
			return w.server.strangers.all
		}
		if n := held(); n != 1 {
			t.Errorf("%d places are held while the refusal waits, want 1", n)
		}
		<-done
		if rec.Code != http.StatusForbidden || held() != 0 {
			t.Errorf("%d; %d places are held afterwards", rec.Code, held())
		}
	})
}
