package board

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Limits of connections: who holds as many as he may leaves the others theirs. What comes from this machine is a proxy's, for anybody.
const (
	maxConns     = 1024
	maxConnsFrom = 32 // of one source
)

// A crowd counts connections. One too many is closed before it has said anything.
type crowd struct {
	mu   sync.Mutex // guards what follows
	in   map[net.Conn]netip.Prefix
	from map[netip.Prefix]int
}

func newCrowd() *crowd { return &crowd{in: map[net.Conn]netip.Prefix{}, from: map[netip.Prefix]int{}} }

// watch is told of every connection as it comes and goes (http.Server.ConnState).
func (c *crowd) watch(conn net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if !c.enter(conn) {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.leave(conn)
	}
}

func (c *crowd) enter(conn net.Conn) bool {
	source := sourceOf(conn.RemoteAddr().String())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) >= maxConns || c.from[source] >= maxConnsFrom && !source.Addr().IsLoopback() {
		return false
	}
	c.in[conn] = source
	c.from[source]++
	return true
}

func (c *crowd) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	source, known := c.in[conn]
	if !known {
		return
	}
	delete(c.in, conn)
	if c.from[source]--; c.from[source] == 0 {
		delete(c.from, source)
	}
}
