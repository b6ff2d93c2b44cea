// Package outbound is the box's only way out: krad, which has no network, asks a process that has nothing else for a connection to
// HOST:PORT.
//
//	krad --unix socket--> outboundd --TCP--> HOST:PORT
//	     request, answer; from then on the bytes of one connection, both ways
//
// For the time there are exchanges over UDP, too: a few datagrams with one peer, for half a minute at most.
//
// outboundd lives in the machine's network namespace under a user of its own, with no capabilities and no file but the list of
// name servers. It looks the name up, refuses what is not outside (see permit), connects, and copies. TLS is krad's: what passes
// here is what passes on the wire.
//
// It copies where it could hand over the connected socket, because a socket is more than its connection: whoever holds one may
// disconnect it (connect with AF_UNSPEC) and connect it anew, to the box's own loopback too, or bind it and listen. A test shows
// it. So krad never holds a socket that was made for it in the machine's network, the bound on open connections is one, and
// no connection outlives the broker. (Those of the release port are such sockets too: see the BUG of package boot.)
//
// What a krad in the wrong hands gains by this: it may speak TCP and a little UDP, and ask for names, wherever the box's network lets the box
// itself; so it can carry out what it knows, to whom it likes, at the pace of the limits below. That outboundd does not know the
// configured servers is meant: krad would be who names them. Where that is too much, a firewall before the box is who can tell.
// It gains few datagrams (see the limits), no raw packets, no listening, no word with the box's own services, and no files. What outboundd in
// the wrong hands gains: it sees whom krad asks, what is fetched without TLS (all of that is signed), and the wire's view of the
// rest; it may be silent, or lie about addresses, which TLS finds.
package outbound

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Limits of the protocol and of what is done for it.
const (
	maxHost   = 253 // bytes of a name (RFC 1035 section 2.3.4, without the root)
	maxReason = 200 // bytes of an answer

	maxOpen    = 1024             // connections at once
	maxOpenTo  = maxOpen / 4      // of them to one target: who is slow there has not all
	maxWaiting = 64               // besides those, while they ask
	perMinute  = 3000             // connections begun
	dialWithin = 10 * time.Second // look-up and connection; also a request that is slow to arrive
	askWithin  = dialWithin + 5*time.Second

	maxExchanges   = 16               // over UDP at once
	perMinuteUDP   = 60               // of them begun
	exchangeWithin = 30 * time.Second // one of them lasts
	maxDatagrams   = 16               // each way in one of them
	maxDatagram    = 1280             // bytes, as every IPv6 path carries it
)

// A transport begins a request. The zero transport is none.
type transport byte

const (
	overTCP transport = 1
	overUDP transport = 2
)

// transports are what Go calls them.
var transports = map[transport]string{overTCP: "tcp", overUDP: "udp"}

// A target is where a connection is wanted: over what, a name in lower case without the last dot, or an address in its usual form,
// and a port. The zero target is nowhere.
//
//	transport 1 byte | length of host 1 byte | host | port 2 bytes, big-endian
type target struct {
	over transport
	host string
	port uint16
}

// parseTarget reads HOST:PORT over tcp or udp. Names lose their upper case and one dot at the end, addresses get their usual form.
func parseTarget(network, address string) (target, error) {
	over := overTCP
	switch network {
	case "tcp":
	case "udp":
		over = overUDP
	default:
		return target{}, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return target{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return target{}, fmt.Errorf("port %.20q is not a number to 65535", service)
	}
	host = lower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	t := target{over, host, uint16(port)}
	return t, t.check()
}

// lower changes ASCII only, so that no letter becomes one that it looks like.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))) }

// check refuses all forms of a target but one.
func (t target) check() error {
	if t.port == 0 {
		return errors.New("port is missing")
	}
	if a, err := netip.ParseAddr(t.host); err == nil {
		if a.String() != t.host || a.Zone() != "" {
			return fmt.Errorf("address %.60q is not in its usual form", t.host)
		}
		return nil
	}
	if !isName(t.host) {
		return fmt.Errorf("host %.60q is neither a name nor an address", t.host)
	}
	return nil
}

// isName accepts letters, digits, hyphens and underscores between dots. The last part begins with a letter: what begins with a
// digit some resolvers take for an address.
func isName(s string) bool {
	if len(s) > maxHost {
		return false
	}
	last := ""
	for last = range strings.SplitSeq(s, ".") {
		if last == "" || len(last) > 63 || last[0] == '-' || last[len(last)-1] == '-' || strings.Trim(last, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return last[0] >= 'a' && last[0] <= 'z'
}

// append adds the target's one encoding.
func (t target) append(b []byte) []byte {
	b = append(b, byte(t.over), byte(len(t.host)))
	return binary.BigEndian.AppendUint16(append(b, t.host...), t.port)
}

// readTarget reads a request and not a byte more.
func readTarget(r io.Reader) (target, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return target{}, fmt.Errorf("read request: %w", err)
	}
	if transports[transport(head[0])] == "" || head[1] == 0 || head[1] > maxHost {
		return target{}, fmt.Errorf("request begins with %x", head)
	}
	rest := make([]byte, int(head[1])+2)
	if _, err := io.ReadFull(r, rest); err != nil {
		return target{}, fmt.Errorf("read request: %w", err)
	}
	t := target{transport(head[0]), string(rest[:head[1]]), binary.BigEndian.Uint16(rest[head[1]:])}
	if err := t.check(); err != nil {
		return target{}, fmt.Errorf("request: %w", err)
	}
	return t, nil
}

// The answers. Zero is none.
//
//	code 1 byte | length of reason 1 byte | reason, for the administrator; empty when connected
const (
	codeConnected = 1
	codeNot       = 2
)

// appendAnswer adds an answer; an empty reason means connected. Of a reason, printable ASCII goes over.
func appendAnswer(b []byte, reason string) []byte {
	if reason == "" {
		return append(b, codeConnected, 0)
	}
	reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, reason)
	reason = reason[:min(len(reason), maxReason)]
	return append(append(b, codeNot, byte(len(reason))), reason...)
}

// readAnswer returns nil when connected, or why not, and reads not a byte more.
func readAnswer(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	switch {
	case head == [2]byte{codeConnected, 0}:
		return nil
	case head[0] != codeNot || head[1] == 0 || head[1] > maxReason:
		return fmt.Errorf("answer begins with %x", head)
	}
	reason := make([]byte, head[1])
	if _, err := io.ReadFull(r, reason); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	for _, c := range reason {
		if c < ' ' || c > '~' {
			return errors.New("answer is not text")
		}
	}
	return refused(reason)
}

// refused is why there is no connection, in the broker's words.
type refused string

func (r refused) Error() string { return string(r) }
