package outbound

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// mirror returns the address of a server that sends each datagram back, and whom it heard from.
func mirror(t *testing.T) (string, <-chan net.Addr) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { c.Close() })
	heard := make(chan net.Addr, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- from
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String(), heard
}

// TestDatagrams: they pass one by one, few of them, and only between the two.
func TestDatagrams(t *testing.T) {
	s := anywhere()
	d, _ := broker(t, s)
	to, heard := mirror(t)
	c, err := d.DialContext(t.Context(), "udp", to)
	must(t, err)
	defer c.Close()
	b := make([]byte, 2*maxDatagram)
	for n := range maxDatagrams {
		m := bytes.Repeat([]byte{byte(n)}, maxDatagram-n)
		if _, err := c.Write(m); err != nil {
			t.Fatal(err)
		}
		if n == 0 { // somebody else may say what he likes
			other, err := net.Dial("udp", (<-heard).String())
			must(t, err)
			_, err = other.Write([]byte("forged"))
			must(t, err)
			must(t, other.Close())
		}
		if got, err := c.Read(b); err != nil || !bytes.Equal(b[:got], m) {
			t.Fatalf("datagram %d came back as %x, %v", n, b[:got], err)
		}
	}
	_, _ = c.Write([]byte("one more")) // it may fail already: enough have come back
	if got, err := c.Read(b); err == nil {
		t.Errorf("one more than %d came back: %q", maxDatagrams, b[:got])
	}
	free(t, s)
	if _, err := c.Write(make([]byte, maxDatagram+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a long datagram: %v", err)
	}
	if got, err := readDatagram(strings.NewReader("\xff\xff" + strings.Repeat("x", 1<<16))); err == nil {
		t.Errorf("a long datagram: %d bytes were read", len(got))
	}
	if _, err := readDatagram(strings.NewReader("\x00\x05abc")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut datagram: %v", err)
	}
}

// TestDatagramsStayOutside: what no connection may reach, no datagram reaches.
func TestDatagramsStayOutside(t *testing.T) {
	d, _ := broker(t, newServer(t.TempDir()))
	to, heard := mirror(t)
	if _, err := d.DialContext(t.Context(), "udp", to); err == nil || !strings.Contains(err.Error(), "127.0.0.1 is loopback") {
		t.Errorf("loopback over UDP: %v", err)
	}
	select {
	case from := <-heard:
		t.Errorf("a datagram came from %v", from)
	default:
	}
}

// TestSilentPeer: an exchange holds its place until somebody ends it, and while it lasts there are not many.
func TestSilentPeer(t *testing.T) {
	s := anywhere()
	d, stop := broker(t, s)
	to, _ := mirror(t)
	var open []net.Conn
	for range maxExchanges {
		c, err := d.DialContext(t.Context(), "udp", to)
		must(t, err)
		open = append(open, c)
	}
	if _, err := d.DialContext(t.Context(), "udp", to); err == nil || !strings.HasSuffix(err.Error(), errUDP.Error()) {
		t.Errorf("one more exchange: %v", err)
	}
	for _, c := range open[1:] {
		must(t, c.Close())
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := d.DialContext(t.Context(), "udp", to)
		if err == nil {
			must(t, c.Close())
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	stop()
	if _, err := open[0].Read(make([]byte, 1)); err == nil {
		t.Error("an exchange outlived the broker")
	}
}

// TestFewExchanges: over UDP fewer may begin in a minute than over TCP.
func TestFewExchanges(t *testing.T) {
	s, now := newServer(""), time.Now()
	to := target{overUDP, "time.example", 123}
	for range perMinuteUDP {
		must(t, s.enter(to, now))
		s.leave(to)
	}
	if err := s.enter(to, now); err != errFew {
		t.Errorf("one more in the minute: %v", err)
	}
	must(t, s.enter(target{overTCP, "time.example", 123}, now))
	must(t, s.enter(to, now.Add(time.Minute/perMinuteUDP+time.Millisecond)))
}

// TestExchangeEnds: nobody keeps one for good.
func TestExchangeEnds(t *testing.T) {
	near, mine := net.Pipe()
	defer mine.Close()
	far, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 9).String())
	must(t, err)
	began := time.Now()
	ended := make(chan time.Duration, 1)
	go func() { exchange(near, far, 200*time.Millisecond); ended <- time.Since(began) }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the exchange goes on")
	}
}
