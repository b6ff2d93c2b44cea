package release

import (
	"net"
	"net/netip"
	"sync"
)

// A crowd is a listener that leaves room for others: what one source opens beyond its share is closed at once, before it
// costs a handshake; and so is what a neighbourhood of many sources does. It remembers those that have connections open, and
// so twice as many at most.
type crowd struct {
	net.Listener
	mu   sync.Mutex           // taken when a connection opens or closes, not by its requests
	open map[netip.Prefix]int // of sources and neighbourhoods, which are told apart by their bits; owned by mu
}

// Accept returns the next connection of a source that has not its share already.
func (l *crowd) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p := sourceOf(addrOf(c))
		if l.enter(p) {
			return &admitted{Conn: c, leave: sync.OnceFunc(func() { l.leave(p) })}, nil
		}
		_ = c.Close() // nothing was sent or read
	}
}

func (l *crowd) enter(source netip.Prefix) bool {
	near := around(source)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= maxConnsOf || l.open[near] >= maxConnsNear {
		return false
	}
	if l.open == nil {
		l.open = map[netip.Prefix]int{}
	}
	l.open[source]++
	l.open[near]++
	return true
}

func (l *crowd) leave(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range [...]netip.Prefix{source, around(source)} {
		if l.open[p]--; l.open[p] == 0 {
			delete(l.open, p)
		}
	}
}

// around is the neighbourhood of a source: as much as is given to one customer for the asking, the /48 of IPv6, of which
// each of 65536 /64s is a source, or the /24 of IPv4. What has no address is all of one.
func around(source netip.Prefix) netip.Prefix {
	bits := 24
	if source.Addr().Is6() {
		bits = 48
	}
	p, err := source.Addr().Prefix(bits)
	if err != nil || !p.IsValid() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return p
}

// An admitted connection is its source's until it is closed.
type admitted struct {
	net.Conn
	leave func() // once
}

// Close closes the connection.
func (c *admitted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
