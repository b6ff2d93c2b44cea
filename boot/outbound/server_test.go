package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// broker serves s on a socket until the test ends, or sooner by the returned func.
func broker(t *testing.T, s *server) (Dialer, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "out") // short: socket paths have a limit
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, l) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return At(path), stop
}

// anywhere is a server that may speak to this host's loopback: only a test of this package can make one.
func anywhere() *server {
	s := newServer("/nowhere")
	s.permit = func(netip.Addr) error { return nil }
	return s
}

// echo returns the address of a server that sends back each line, and says goodbye at the end.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_, _ = io.WriteString(c, "goodbye\n")
			}()
		}
	}()
	return l.Addr().String()
}

func TestConnects(t *testing.T) {
	d, _ := broker(t, anywhere())
	c, err := d.DialContext(t.Context(), "tcp", echo(t))
	must(t, err)
	defer c.Close()
	const much = 4 << 20
	go func() {
		_, _ = io.WriteString(c, strings.Repeat("x", much)+"\n")
		_ = c.(*net.UnixConn).CloseWrite() // the server's last word still comes
	}()
	got, err := io.ReadAll(c)
	if err != nil || len(got) != much+len("\ngoodbye\n") || !strings.HasSuffix(string(got), "x\ngoodbye\n") {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

func TestWhyThereIsNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := l.Addr().String()
	l.Close()
	s := anywhere()
	s.names = t.TempDir()
	d, _ := broker(t, s)
	for address, want := range map[string]string{
		closed:            "connect to " + closed + ": connect: connection refused",
		"ca.example:80":   "connect to ca.example:80: " + errNoServers.Error(),
		"2130706433:80":   `connect to 2130706433:80: host "2130706433" is neither a name nor an address`,
		"ca.example:http": `connect to ca.example:http: port "http" is not a number to 65535`,
	} {
		if _, err := d.DialContext(t.Context(), "tcp", address); textOf(err) != want {
			t.Errorf("%s: %v; want %s", address, err, want)
		}
	}
	if _, err := d.DialContext(t.Context(), "unix", closed); err == nil {
		t.Error("there is a connection over another network")
	}
	if _, err := At("/nowhere").DialContext(t.Context(), "tcp", closed); err == nil {
		t.Error("there is a connection without a broker")
	}
}

// The broker as it is made in production speaks to nobody inside, whoever asks and however.
func TestInsideIsRefused(t *testing.T) {
	d, _ := broker(t, newServer(t.TempDir()))
	_, port, err := net.SplitHostPort(echo(t))
	must(t, err)
	for host, want := range map[string]string{
		"127.0.0.1": "is loopback", "127.8.9.1": "is loopback", "::1": "is loopback", "::ffff:127.0.0.1": "is loopback",
		"0.0.0.0": "is nobody's address", "0.1.2.3": "is nobody's address", "::": "is nobody's address", "::ffff:0.0.0.0": "is nobody's address",
		"224.0.0.1": "is not one host's address", "255.255.255.255": "is not one host's address", "ff02::1": "is not one host's address",
		"169.254.169.254": "is link-local", "fe80::1": "is link-local", "::ffff:169.254.169.254": "is link-local",
	} {
		if c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, %v; want it to say: %s", host, c, err, want)
		}
	}
}

func TestOwnAddressesAreRefused(t *testing.T) {
	mine := []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("2001:db8::7")}
	own := func() ([]netip.Addr, error) { return mine, nil }
	for a, want := range map[string]string{
		"10.9.0.7": "10.9.0.7 is the box's own address", "::ffff:10.9.0.7": "10.9.0.7 is the box's own address",
		"2001:db8::7": "2001:db8::7 is the box's own address", "10.9.0.8": "", "2001:db8::8": "", "8.8.8.8": "",
	} {
		if err := permit(netip.MustParseAddr(a), own); textOf(err) != want {
			t.Errorf("%s: %v; want %q", a, err, want)
		}
	}
	unknown := errors.New("nobody knows")
	if err := permit(mine[0], func() ([]netip.Addr, error) { return nil, unknown }); !errors.Is(err, unknown) {
		t.Errorf("while the own addresses are not known: %v", err)
	}
	if permit(netip.Addr{}, own) == nil {
		t.Error("no address is permitted")
	}
	all, err := ownAddresses()
	if err != nil || len(all) == 0 {
		t.Errorf("ownAddresses = %v, %v", all, err)
	}
}

// The bounds are those of connections that are open, and of those begun in a minute; a place is free again at once.
func TestBounds(t *testing.T) {
	s, now := newServer(""), time.Now()
	to := func(n int) target { return target{overTCP, "ca.example", uint16(n + 1)} }
	for n := range maxOpen {
		must(t, s.enter(to(n), now))
		if s.open != n+1 {
			t.Fatalf("%d open after %d", s.open, n+1)
		}
	}
	if err := s.enter(to(0), now); err != errOpen {
		t.Errorf("one more: %v", err)
	}
	s.leave(to(0))
	must(t, s.enter(to(0), now))
	for n := range maxOpen {
		s.leave(to(n))
	}
	if s.open != 0 || len(s.to) != 0 {
		t.Errorf("%d are open, %d targets are kept", s.open, len(s.to))
	}
	for range perMinute - maxOpen - 1 {
		must(t, s.enter(to(0), now))
		s.leave(to(0))
	}
	if err := s.enter(to(0), now); err != errPace {
		t.Errorf("one more in the minute: %v", err)
	}
	must(t, s.enter(to(0), now.Add(time.Minute/perMinute+time.Millisecond)))
	must(t, newServer("").enter(to(0), now.Add(time.Hour)))
}

// One target has a share of the connections: where it is slow, others are still reached.
func TestShareOfATarget(t *testing.T) {
	s, now := newServer(""), time.Now()
	slow, other := target{overTCP, "slow.example", 443}, target{overTCP, "slow.example", 444}
	for range maxOpenTo {
		must(t, s.enter(slow, now))
	}
	if err := s.enter(slow, now); err != errOpenTo {
		t.Errorf("one more: %v", err)
	}
	must(t, s.enter(other, now))
	s.leave(slow)
	must(t, s.enter(slow, now))
}

// Who is dialled hears of an asker who has gone: the broker gives up, and its place is free.
func TestAskerHasGone(t *testing.T) {
	s := anywhere()
	dialled := make(chan struct{}, 16)
	s.permit = func(netip.Addr) error { dialled <- struct{}{}; return nil }
	to := crowded(t)
	d, _ := broker(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { _, err := d.DialContext(ctx, "tcp", to); asked <- err }()
	<-dialled
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	free(t, s)
}

// crowded returns the address of a listener that accepts nobody and has no room for more who wait: who connects hears nothing.
func crowded(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	must(t, err)
	to := net.JoinHostPort("127.0.0.1", fmt.Sprint(name.(*unix.SockaddrInet4).Port))
	for range 8 {
		c, err := net.DialTimeout("tcp", to, 200*time.Millisecond)
		if err != nil {
			return to
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("there is always room")
	return ""
}

// free waits until no connection is open.
func free(t *testing.T, s *server) {
	t.Helper()
	for end := time.Now().Add(dialWithin / 2); ; time.Sleep(time.Millisecond) { // by itself a dial ends later
		s.mu.Lock()
		n := s.open
		s.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections are open", n)
		}
	}
}

// Who never ends his side does not keep the place for good once the other has ended his.
func TestLastWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	held := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			held <- c // and never closes it
		}
	}()
	s := anywhere()
	s.last = 10 * time.Millisecond
	d, _ := broker(t, s)
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	defer (<-held).Close()
	must(t, c.(*net.UnixConn).CloseWrite())
	free(t, s)
}

// A broker that is full says so, and one connection's end is another's beginning.
func TestFullBroker(t *testing.T) {
	s := anywhere()
	d, _ := broker(t, s)
	to := echo(t)
	first, err := d.DialContext(t.Context(), "tcp", to)
	must(t, err)
	s.mu.Lock()
	s.open += maxOpen - 1
	s.mu.Unlock()
	if _, err := d.DialContext(t.Context(), "tcp", to); err == nil || !strings.HasSuffix(err.Error(), errOpen.Error()) {
		t.Errorf("one more: %v", err)
	}
	first.Close()
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := d.DialContext(t.Context(), "tcp", to)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestConnectionsEndWithTheBroker(t *testing.T) {
	d, stop := broker(t, anywhere())
	c, err := d.DialContext(t.Context(), "tcp", echo(t))
	must(t, err)
	defer c.Close()
	fmt.Fprintln(c, "hello")
	r := bufio.NewReader(c)
	if got, err := r.ReadString('\n'); err != nil || got != "hello\n" {
		t.Fatalf("%q, %v", got, err)
	}
	stop()
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection goes on")
	}
}

// Who stays away, lies or says nothing is not waited for.
func TestImpatience(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s")) // nobody answers
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := At(l.Addr().String()).DialContext(ctx, "tcp", "10.9.0.1:80"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a broker that is silent: %v", err)
	}
	d, _ := broker(t, anywhere())
	c, err := net.Dial("unix", d.path)
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	must(t, err)
	if b, err := io.ReadAll(c); len(b) != 0 {
		t.Errorf("a stranger was told %q, %v", b, err)
	}
}

func TestServersFile(t *testing.T) {
	dir := t.TempDir()
	if got, err := readServers(dir); err != nil || got != nil {
		t.Errorf("before anything was written: %v, %v", got, err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("2001:db8::1")}
	must(t, WriteServers(dir, want))
	if got, err := readServers(dir); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
	must(t, WriteServers(dir, nil))
	if got, err := readServers(dir); err != nil || len(got) != 0 {
		t.Errorf("read %v, %v; want none", got, err)
	}
	for name, bad := range map[string][]netip.Addr{
		"zone": {netip.MustParseAddr("fe80::1%eth0")}, "none": {{}}, "many": {want[0], want[1], netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3")},
	} {
		if WriteServers(dir, bad) == nil {
			t.Errorf("%s: was written", name)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, namesFile), []byte("10.9.0.1 # near\n"), 0o600))
	if got, err := readServers(dir); err == nil {
		t.Errorf("garbage was read as %v", got)
	}
}

// Why no descriptor is handed over: a connected socket can be turned to where its holder could not connect, and made to listen.
func TestASocketIsMoreThanItsConnection(t *testing.T) {
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer inside.Close()
	c, err := net.Dial("tcp", echo(t))
	must(t, err)
	f, err := c.(*net.TCPConn).File()
	must(t, err)
	c.Close()
	defer f.Close()
	fd := int(f.Fd())
	port := inside.Addr().(*net.TCPAddr).Port
	disconnect := func() { // unix.Connect knows no AF_UNSPEC
		none := [16]byte{}
		_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), 16)
		if e != 0 {
			t.Fatalf("disconnect: %v", e)
		}
	}
	disconnect()
	must(t, unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	if in, err := inside.Accept(); err != nil {
		t.Error(err)
	} else {
		in.Close()
	}
	disconnect()
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 1))
}
