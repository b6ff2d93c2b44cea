package boxtest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
)

// What a box is to bear: so many connections that say nothing, and so many that ask.
const (
	idleConns = 10_000
	busyConns = 1_000
)

// A village dials from many addresses of this host's loopback, as that many platforms do: one is not let in so often.
type village struct{ dialed atomic.Int64 }

func (v *village) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n := v.dialed.Add(1)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(n>>14), byte(n>>6), 1+byte(n&63))}}
	return d.DialContext(ctx, network, address)
}

// settle opens connections, has each ask once for a key, and leaves them open.
func (v *village) settle(t testing.TB, box *boxtest.Box, cert *tls.Certificate, body []byte, n int) []net.Conn {
	t.Helper()
	conf := &tls.Config{RootCAs: trust(t, box).Roots(), Certificates: []tls.Certificate{*cert}, ServerName: "127.0.0.1"}
	conns := make([]net.Conn, n)
	next := atomic.Int64{}
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				c, err := v.open(t.Context(), box.Up().Release.String(), conf, body)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = c
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

func (v *village) open(ctx context.Context, address string, conf *tls.Config, body []byte) (net.Conn, error) {
	raw, err := v.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, ask(c, body)
}

// ask asks on an open connection.
func ask(c net.Conn, body []byte) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: box\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kra.PathRelease, kra.ContentType, len(body), body); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// idle measures releases on many connections while many more are open, in turns with releases alone, and what one that is open takes.
func (r *report) idle(box *boxtest.Box, cert *tls.Certificate) {
	r.b.Helper()
	v := &village{}
	l := newLoad(r.b, box, cert, []string{"p256"}, 1, false)
	tr := l.client.Transport.(*http.Transport)
	tr.DialContext, tr.MaxIdleConnsPerHost = v.dial, busyConns
	l.run(r.b, busyConns, *benchFor)
	name := fmt.Sprintf("release/p-256/single/c%d", busyConns)
	var quiet, crowded sample
	var p50, cpu []float64
	var each []float64
	for range rounds {
		q := l.take(r.b, box, busyConns, *benchFor/rounds)
		before := serverRSS(r.b, box)
		conns := v.settle(r.b, box, cert, l.bodies[0], idleConns)
		each = append(each, float64(serverRSS(r.b, box)-before)/idleConns)
		s := l.take(r.b, box, busyConns, *benchFor/rounds)
		for i, c := range conns {
			if i%100 == 0 {
				if err := ask(c, l.bodies[0]); err != nil {
					r.b.Errorf("connection %d, which was open: %v", i, err)
				}
			}
			c.Close()
		}
		p50 = append(p50, float64(s.took[len(s.took)/2])/float64(q.took[len(q.took)/2]))
		cpu = append(cpu, s.perKey(s.cost.sum())/q.perKey(q.cost.sum()))
		quiet.add(q)
		crowded.add(s)
	}
	r.add(quiet.figure(r.b, name, box))
	f := crowded.figure(r.b, fmt.Sprintf("%s/idle%d", name, idleConns), box)
	f.Ratio, f.More, f.Busy = median(cpu), median(p50), l.busy.Swap(0)
	r.add(f)
	r.measure(fmt.Sprintf("%s among %d idle, cpu", name, idleConns), f.Ratio, "x")
	r.measure(fmt.Sprintf("%s among %d idle, p50", name, idleConns), f.More, "x")
	r.measure("an idle connection, the first time", each[0], "KiB")
	r.measure("an idle connection, the last time", each[rounds-1], "KiB")
	tr.CloseIdleConnections()
}

// BenchmarkIdle is that part of BenchmarkRelease alone.
func BenchmarkIdle(b *testing.B) {
	r := &report{b: b}
	box := boxtest.Start(b)
	box.Trust("corp")
	box.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	bob := box.Person("bob")
	makeKey(b, box, hsm.P256, "p256", "counsel")
	r.idle(box, &bob)
	r.table()
}
