package release

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/kra"
)

// from dials the port from an address of this host.
func (w *world) from(addr string) *net.TCPConn {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// ended reports whether the other end closed the connection, without waiting for it to send anything.
func ended(t *testing.T, c net.Conn, within time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	return err != nil && errTimeout(err) != err
}

// TestConnectionsOfOneSource: one source fills its share of connections, and no other's. What it opens beyond is closed
// before a handshake; what it closes it may open again, and then nothing is remembered of it.
func TestConnectionsOfOneSource(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	room := &crowd{Listener: l}
	taken := make(chan net.Conn, maxConnsOf+8)
	go func() {
		for {
			c, err := room.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	w := &world{t: t, addr: l.Addr().String()}
	var held []net.Conn
	for range maxConnsOf {
		w.from("127.0.0.2")
		held = append(held, <-taken)
	}
	if !ended(t, w.from("127.0.0.2"), 5*time.Second) {
		t.Error("one source has more than its share")
	}
	w.from("127.0.0.3")
	other := <-taken
	for range 2 { // once is what counts
		held[0].Close()
		room.mu.Lock()
		if len(room.open) != 3 {
			t.Errorf("sources: %v", room.open)
		}
		room.mu.Unlock()
	}
	w.from("127.0.0.2")
	held[0] = <-taken
	if !ended(t, w.from("127.0.0.2"), 5*time.Second) {
		t.Error("a connection closed twice makes room for two")
	}
	for _, c := range append(held, other) {
		c.Close()
	}
	if room.mu.Lock(); len(room.open) != 0 {
		t.Errorf("left over: %v", room.open)
	}
	room.mu.Unlock()
}

// TestConnectionsInMemory: a small machine has room for fewer, and no machine for more than were measured.
func TestConnectionsInMemory(t *testing.T) {
	for memory, want := range map[uint64]int{64 << 20: leastConns, 512 << 20: 2730, 1 << 30: 5461, 4 << 30: maxConns, 1 << 40: maxConns} {
		if got := connsIn(memory); got != want {
			t.Errorf("%d MiB: %d connections; want %d", memory>>20, got, want)
		}
	}
	if got := mostConns(); got < leastConns || got > maxConns {
		t.Errorf("here %d", got)
	}
}

// TestConnectionsOfANeighbourhood: as many sources as one likes of one neighbourhood have a quarter of all connections, and
// those of another find room. Nothing stays of them.
func TestConnectionsOfANeighbourhood(t *testing.T) {
	for name, c := range map[string]struct {
		source func(i int) netip.Addr // of the same neighbourhood
		other  string
	}{
		"IPv6": {func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i >> 8), byte(i)})
		}, "2001:db8:2::1"},
		"IPv4":          {func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }, "192.0.3.1"},
		"IPv4 in IPv6":  {func(i int) netip.Addr { return netip.AddrFrom16(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).As16()) }, "::ffff:192.0.3.1"},
		"of no address": {func(int) netip.Addr { return netip.Addr{} }, "2001:db8::1"},
	} {
		var room crowd
		var let []netip.Prefix
		for i := range maxConns {
			if p := sourceOf(c.source(i)); room.enter(p) {
				let = append(let, p)
			}
		}
		want := maxConnsNear
		if !c.source(0).IsValid() {
			want = maxConnsOf
		}
		if len(let) != want || 4*maxConnsNear > maxConns {
			t.Errorf("%s: %d connections of %d; want %d", name, len(let), maxConns, want)
		}
		other := sourceOf(netip.MustParseAddr(c.other))
		if !room.enter(other) {
			t.Errorf("%s: no room for another", name)
		}
		room.leave(let[0])
		if again := sourceOf(c.source(maxConns)); !room.enter(again) || room.enter(again) {
			t.Errorf("%s: what was closed makes not room for one", name)
		}
		for _, p := range append(let[1:], other, sourceOf(c.source(maxConns))) {
			room.leave(p)
		}
		if len(room.open) != 0 {
			t.Errorf("%s: left over: %v", name, room.open)
		}
	}
}

// TestThePortIsCrowded: the port has that listener.
func TestThePortIsCrowded(t *testing.T) {
	w := newWorld(t)
	for range maxConnsOf {
		w.from("127.0.0.2")
	}
	if c := w.from("127.0.0.2"); !ended(t, c, headWithin/2) {
		t.Error("one source has more than its share")
	}
	if code, _ := w.ask(w.alice(), "", w.hsm.header(t, "legal")); code != http.StatusOK { // from another address
		t.Errorf("another source: %d", code)
	}
}

func TestTurns(t *testing.T) {
	all := newTurns(2, 3)
	var back []func()
	for i, want := range []bool{true, true, false} {
		give, ok := take(&all, "one")
		if back = append(back, give); ok != want {
			t.Errorf("turn %d of one: %v", i, ok)
		}
	}
	third, ok := take(&all, "two")
	if _, more := take(&all, "three"); !ok || more {
		t.Errorf("turn of another: %v; one too many: %v", ok, more)
	}
	for _, f := range []func(){back[0], back[1], third} {
		f()
	}
	if n := all.all.Load(); n != 0 || placeOf(&all.shares, "one").Load() != 0 || placeOf(&all.shares, "three").Load() != 0 {
		t.Errorf("%d turns left over", n)
	}
}

// TestTurnsOfThePort: who has a turn is told so, others are not; and every way out of a request gives its turn back.
func TestTurnsOfThePort(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	one, err := kra.ParseDecryptor(alice)
	if err != nil {
		t.Fatal(err)
	}
	here := sourceOf(netip.MustParseAddr("127.0.0.1"))
	get := func(c *http.Client, path string) (int, string) {
		resp, err := c.Get("https://" + w.addr + path)
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
	known, nobody := w.alice(), w.client()
	hold := func(f func(), turn ...func()) {
		f()
		for _, g := range turn {
			g()
		}
	}
	for name, c := range map[string]struct {
		turns *turns
		path  string
	}{"who am I": {&w.server.walks, kra.PathWhoAmI}, "group": {&w.server.walks, kra.PathGroups + "?group=legal"}, "directory": {&w.server.lists, kra.PathKeys}} {
		var held []func()
		for range c.turns.one {
			give, ok := take(c.turns, one)
			if c.turns == &w.server.lists {
				if ok {
					give()
				}
				give, ok = take(c.turns, here)
			}
			if held = append(held, give); !ok {
				t.Fatalf("%s: no turn at first", name)
			}
		}
		hold(func() {
			if code, body := get(known, c.path); code != http.StatusServiceUnavailable || !strings.Contains(body, kra.CodeBusy) {
				t.Errorf("%s while it has its turns: %d %s", name, code, body)
			}
			if code, _ := w.ask(known, "", w.hsm.header(t, "legal")); code != http.StatusOK {
				t.Errorf("%s: release: %d", name, code)
			}
		}, held...)
		for range c.turns.one + 1 {
			for _, client := range []*http.Client{known, nobody} {
				if code, _ := get(client, c.path); code == http.StatusServiceUnavailable {
					t.Errorf("%s: no turn was given back", name)
				}
			}
		}
		if n := c.turns.all.Load(); n != 0 {
			t.Errorf("%s: %d turns left over", name, n)
		}
	}
}

// TestRefusalKeepsItsTurn: a turn ends when the refusal leaves, so that its end tells no more than that.
func TestRefusalKeepsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		cert := leafOf(t, w.corp.person(t, "alice", "Example"))
		w.clock.Store(&moment{time.Now(), true})
		ask := func() int {
			r := httptest.NewRequest(http.MethodGet, kra.PathGroups+"?group=nobodys", nil)
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			rec := httptest.NewRecorder()
			w.server.serve(rec, r.WithContext(withThisPeer(r.Context(), &peer{addr: netip.MustParseAddr("192.0.2.7")})))
			return rec.Code
		}
		first := make(chan int, 1)
		go func() { first <- ask() }()
		synctest.Wait() // it is decided
		if code := ask(); code != http.StatusServiceUnavailable {
			t.Errorf("while the first refusal waits: %d", code)
		}
		if code := <-first; code != http.StatusForbidden {
			t.Errorf("first: %d", code)
		}
		if code := ask(); code != http.StatusForbidden {
			t.Errorf("after it: %d", code)
		}
	})
}
