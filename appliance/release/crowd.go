package release

import (
	"net"
	"net/netip"
	"sync"
)

// A crowd is a listener that leaves room for others: what one source opens beyond its share is closed at once, before it
// costs a handshake. It remembers sources that have connections open, and so as many at most.
type crowd struct {
	net.Listener
	mu   sync.Mutex           // taken when a connection opens or closes, not by its requests
	open map[netip.Prefix]int // owned by mu
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

func (l *crowd) enter(p netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[p] >= maxConnsOf {
		return false
	}
	if l.open == nil {
		l.open = map[netip.Prefix]int{}
	}
	l.open[p]++
	return true
}

func (l *crowd) leave(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[p]--; l.open[p] == 0 {
		delete(l.open, p)
	}
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
