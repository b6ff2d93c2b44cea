package ntstest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/nts/siv"
)

// A Liar is a time server that speaks NTS and tells whatever it is told to. Its methods may be called while it serves.
type Liar struct {
	Address string // of its key establishment

	ke  net.Listener
	udp *net.UDPConn

	mu     sync.Mutex // guards all below
	offset time.Duration
	spoil  func([]byte) []byte // changes what it sends; nil: nothing
	keys   map[string][2]siv.AEAD
}

// NewLiar starts one that tells the right time, and ends it with the test.
func NewLiar(t testing.TB, cert tls.Certificate) *Liar {
	t.Helper()
	ke, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"ntske/1"}, MinVersion: tls.VersionTLS13})
	must(t, err)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	l := &Liar{Address: ke.Addr().String(), ke: ke, udp: udp, keys: map[string][2]siv.AEAD{}}
	t.Cleanup(l.Stop)
	go l.serveKE()
	go l.serveNTP()
	return l
}

// Liar is one with a certificate of today.
func (a *Authority) Liar(t testing.TB) *Liar { t.Helper(); return NewLiar(t, a.valid(t)) }

// Stop ends it.
func (l *Liar) Stop() { l.ke.Close(); l.udp.Close() }

// Tell has it tell a time that is so far ahead.
func (l *Liar) Tell(ahead time.Duration) { l.mu.Lock(); defer l.mu.Unlock(); l.offset = ahead }

// Spoil has each answer changed on its way.
func (l *Liar) Spoil(f func([]byte) []byte) { l.mu.Lock(); defer l.mu.Unlock(); l.spoil = f }

func (l *Liar) serveKE() {
	for {
		c, err := l.ke.Accept()
		if err != nil {
			return
		}
		go l.establish(c.(*tls.Conn))
	}
}

func (l *Liar) establish(c *tls.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 16)); err != nil {
		return
	}
	state := c.ConnectionState()
	var keys [2]siv.AEAD
	for i := range keys {
		k, err := state.ExportKeyingMaterial("EXPORTER-network-time-security", []byte{0, 0, 0, 15, byte(i)}, siv.KeySize)
		if err != nil {
			return
		}
		keys[i] = siv.New([siv.KeySize]byte(k))
	}
	port := uint16(l.udp.LocalAddr().(*net.UDPAddr).Port)
	out := []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 7, 0, 2, byte(port >> 8), byte(port)}
	for range 8 {
		cookie := l.cookie(keys)
		out = append(append(out, 0, 5, 0, byte(len(cookie))), cookie...)
	}
	_, _ = c.Write(append(out, 0x80, 0, 0, 0))
}

// cookie names keys.
func (l *Liar) cookie(keys [2]siv.AEAD) []byte {
	b := make([]byte, 64)
	_, _ = rand.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[string(b)] = keys
	return b
}

func (l *Liar) serveNTP() {
	b := make([]byte, 2048)
	for {
		n, from, err := l.udp.ReadFrom(b)
		if err != nil {
			return
		}
		if n > 48+36+68 {
			_, _ = l.udp.WriteTo(l.answer(b[:n], time.Now()), from)
		}
	}
}

// answer is right in all but the time.
func (l *Liar) answer(q []byte, now time.Time) []byte {
	unique, cookie := q[52:84], q[88:152]
	l.mu.Lock()
	keys, offset, spoil := l.keys[string(cookie)], l.offset, l.spoil
	l.mu.Unlock()
	m := make([]byte, 48, 256)
	m[0], m[1], m[3] = 4<<3|4, 1, 0xec // NTPv4, server, stratum 1, 2^-20 s
	at := stamp(now.Add(offset))
	copy(m[12:], "TEST")
	binary.BigEndian.PutUint64(m[16:], at)
	copy(m[24:], q[40:48])
	binary.BigEndian.PutUint64(m[32:], at)
	binary.BigEndian.PutUint64(m[40:], at)
	m = append(append(m, 1, 4, 0, 36), unique...)
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	sealed := keys[1].Seal(append([]byte{2, 4, 0, 68}, l.cookie(keys)...), m, nonce)
	m = append(m, 4, 4, 0, byte(8+len(nonce)+len(sealed)), 0, 16, 0, byte(len(sealed)))
	m = append(append(m, nonce...), sealed...)
	if spoil != nil {
		return spoil(m)
	}
	return m
}

// stamp is NTP's form of a time (RFC 5905 section 6).
func stamp(t time.Time) uint64 {
	const era = 2208988800 // seconds from 1900 to 1970
	return uint64(t.Unix()+era)<<32 | uint64(t.Nanosecond())<<32/1e9
}
