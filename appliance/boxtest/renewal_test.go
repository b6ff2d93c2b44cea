package boxtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
)

// hasty is a box that looks at its leaf five times a second and whose leaves last for some seconds: they are due as soon as they are made.
var hasty = []boxtest.Edit{
	{File: "appliance/leaf.go", Old: "leafEvery = time.Minute", New: "leafEvery = time.Second / 5"},
	{File: "tpm/leaf.go", Old: "tlsLife     = 24 * time.Hour", New: "tlsLife     = backdate + 8*time.Second"},
}

// TestRenewalUnderLoad: releases go on over the connections that they began on while the box renews its leaf again and again; who comes
// new sees the new one. When the state is wrong, the next renewal is refused, and with the last leaf's end the box is nobody: a reset
// undoes it.
func TestRenewalUnderLoad(t *testing.T) {
	b := boxtest.Start(t, hasty...)
	legalTeam(b)
	bob := b.Person("bob")
	const conns = 4
	l := newLoad(t, b, &bob, []string{"legal-team"}, 1, false)
	dials := keeps(l, conns)
	stop := make(chan struct{})
	var all sync.WaitGroup
	quit := sync.OnceFunc(func() { close(stop); all.Wait() })
	defer quit()
	var released atomic.Int64
	for range conns {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := l.send(0); err != nil {
					t.Errorf("after %d releases: %v", released.Load(), err)
					return
				}
				released.Add(1)
			}
		})
	}
	seen := map[string]bool{}
	end := time.Now().Add(patience)
	for len(seen) < 5 {
		serial, err := handshake(t, b)
		if err != nil {
			t.Fatalf("after %d leaves: %v", len(seen), err)
		}
		seen[serial] = true
		if time.Now().After(end) {
			t.Fatalf("only %d leaves in %v\n%s", len(seen), patience, b.Output())
		}
	}
	b.TPM.Extend(t, 11, [32]byte{1})
	var err error
	nobody := func() bool { return err != nil && strings.Contains(err.Error(), "remote error") }
	for !nobody() && time.Now().Before(end) {
		time.Sleep(100 * time.Millisecond)
		_, err = handshake(t, b) // one that began with the leaf may find it ended
	}
	if !nobody() {
		t.Errorf("a box in a wrong state has a certificate: %v", err)
	}
	before := released.Load()
	for released.Load() < before+conns && time.Now().Before(end) && !t.Failed() {
		time.Sleep(10 * time.Millisecond)
	}
	quit()
	if released.Load() < before+conns {
		t.Error("releases ended with the leaf")
	}
	if n, busy := dials.Load(), l.busy.Load(); n > 2*conns+busy { // a box that has too much to do may close a connection, and a busy client gives up one now and then
		t.Errorf("%d connections for %d at once, %d times busy: renewals dropped some", n, conns, busy)
	}
	if !strings.Contains(b.Output(), "PCR 11") {
		t.Error("the box does not say why it has no certificate")
	}
	b.Reset()
	if _, err := handshake(t, b); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

// keeps has a load use so many connections and no more at once, and counts those that it opens.
func keeps(l *load, conns int) *atomic.Int64 {
	tr, n := l.client.Transport.(*http.Transport), &atomic.Int64{}
	tr.CloseIdleConnections()
	tr.MaxConnsPerHost = conns
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	return n
}

// handshake makes a new connection and returns the serial number of the certificate that it sees.
func handshake(t *testing.T, b *boxtest.Box) (string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", b.Up().Release.String(), &tls.Config{RootCAs: trust(t, b).Roots()})
	if err != nil {
		return "", err
	}
	defer c.Close()
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return "", errors.New("no certificate")
	}
	return certs[0].SerialNumber.String(), nil
}
