package appliance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// An interrupted certifier is a real one, but for a while.
type interrupted struct {
	certifier
	now bool
}

func (i *interrupted) LeafTLS(ctx context.Context, spki []byte) ([][]byte, error) {
	if i.now {
		return nil, errors.New("interrupted")
	}
	return i.certifier.LeafTLS(ctx, spki)
}

// A leafWorld is a TLS server under a leaf of a real box's label key, at a time of the test's choice.
type leafWorld struct {
	t      *testing.T
	box    *boxtest.Box
	by     *interrupted
	leaf   *leaf
	offset atomic.Int64 // of the clock
	server *httptest.Server
	roots  *x509.CertPool
}

func newLeafWorld(t *testing.T) *leafWorld {
	t.Helper()
	w := &leafWorld{t: t, box: boxtest.Start(t)}
	c, err := tpm.Dial(w.box.Socket("tpm"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w.by = &interrupted{certifier: c}
	if w.leaf, err = newLeaf(t.Context(), w.by, w.now, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(w.box.Domain, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM(root)
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "here") }))
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	l := tls.NewListener(w.server.Listener, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: w.leaf.get})
	w.server.Listener = l
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

func (w *leafWorld) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

// handshake makes a new connection and returns the certificate that it sees.
func (w *leafWorld) handshake() (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", w.server.Listener.Addr().String(), &tls.Config{RootCAs: w.roots, Time: w.now})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func (w *leafWorld) sees() *x509.Certificate {
	w.t.Helper()
	c, err := w.handshake()
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// A visitor keeps one connection.
func (w *leafWorld) visitor() (visit func() error) {
	dials := 0
	c := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, errors.New("the connection was lost")
		}
		return (&tls.Dialer{Config: &tls.Config{RootCAs: w.roots, Time: w.now}}).DialContext(ctx, network, addr)
	}}}
	w.t.Cleanup(c.CloseIdleConnections)
	return func() error {
		resp, err := c.Get("https://" + w.server.Listener.Addr().String())
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// A leaf is renewed in the second half of its life by the real label key, a failed renewal is tried again, and in a wrong state there is
// none: then the leaf serves until it ends, and nobody from then on. Connections go on all the while.
func TestLeafIsRenewed(t *testing.T) {
	w := newLeafWorld(t)
	visit := w.visitor()
	look := func(offset time.Duration) {
		t.Helper()
		w.offset.Store(int64(offset))
		w.leaf.look(t.Context())
		if err := visit(); err != nil {
			t.Errorf("after %v the connection that was there: %v", offset, err)
		}
	}
	look(0)
	first := w.sees()
	if d := first.NotAfter.Sub(first.NotBefore); d > 24*time.Hour {
		t.Errorf("a leaf lives for %v", d)
	}
	look(11 * time.Hour)
	if !w.sees().Equal(first) {
		t.Error("renewed in the first half of its life")
	}

	w.by.now = true
	look(13 * time.Hour)
	if !w.sees().Equal(first) {
		t.Error("a failed renewal took the leaf away")
	}
	if err := w.leaf.health(); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("health after a failed renewal: %v", err)
	}
	w.by.now = false
	look(13 * time.Hour)
	second := w.sees()
	if second.Equal(first) || w.leaf.health() != nil {
		t.Errorf("not renewed after the interruption: %v", w.leaf.health())
	}
	look(-time.Hour) // the clock is set back
	w.offset.Store(0)
	third := w.sees()
	if third.Equal(second) {
		t.Error("not renewed when the clock was set to before its life")
	}

	w.box.TPM.Extend(t, 11, [32]byte{1})
	look(13 * time.Hour)
	if err := w.leaf.health(); err == nil || !strings.Contains(err.Error(), "PCR 11") {
		t.Errorf("health in a wrong state: %v", err)
	}
	var refused tpm.Refused
	if err := w.leaf.renew(t.Context()); !errors.As(err, &refused) {
		t.Errorf("renewal in a wrong state: %v", err)
	}
	if !w.sees().Equal(third) {
		t.Error("the leaf that was there is gone before its end")
	}
	look(25 * time.Hour)
	if _, err := w.handshake(); err == nil || !strings.Contains(err.Error(), "remote error") {
		t.Errorf("handshake under an expired leaf: %v", err)
	}
}

// keep looks at each tick and ends with its context.
func TestLeafIsKept(t *testing.T) {
	w := newLeafWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	go func() { defer close(ended); w.leaf.keep(ctx, tick) }()
	first := w.sees()
	tick <- time.Now()
	tick <- time.Now() // the look of the first is over
	if !w.sees().Equal(first) {
		t.Error("renewed before it was due")
	}
	w.offset.Store(int64(13 * time.Hour))
	tick <- time.Now()
	tick <- time.Now()
	if w.sees().Equal(first) {
		t.Error("not renewed when it was due")
	}
	cancel()
	<-ended
}

// TestEndOfTheLabelCertificate: that the domain's certificate of the box is about to end is said in time for another one.
func TestEndOfTheLabelCertificate(t *testing.T) {
	w := newLeafWorld(t)
	if err := w.leaf.health(); err != nil {
		t.Errorf("of a new box: %v", err)
	}
	by, err := x509.ParseCertificate(w.leaf.cert.Load().Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	for before, soon := range map[time.Duration]bool{91 * 24 * time.Hour: false, 89 * 24 * time.Hour: true} {
		w.offset.Store(int64(time.Until(by.NotAfter.Add(-before))))
		if err := w.leaf.health(); (err != nil) != soon || soon && !strings.Contains(err.Error(), "ends "+by.NotAfter.UTC().Format(time.DateTime)+" UTC, and the box opens no more then") {
			t.Errorf("%s before its end: %v", before, err)
		}
	}
}
