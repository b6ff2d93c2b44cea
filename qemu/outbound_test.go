package qemu_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform/ldap/ldaptest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/qemu"
	"github.com/keyrelease/krabox/qemu/operator"
)

// The host, as the guest sees it, and the guest itself.
const (
	hostAddress  = "10.0.2.2"
	guestAddress = "10.0.2.15"
)

// TestBoxFetches: a real box reads a revocation list and a directory, and asks a service, all of them on the host and reached
// through outboundd. Its rules follow what they say, and refuse when they are gone.
func TestBoxFetches(t *testing.T) {
	g, s := copyOf(t)
	o := newOffice(t, g.lab)
	if err := g.upWithGateway(); err != nil {
		t.Fatal(err)
	}
	for _, c := range o.commands() {
		if err := g.operator.Must(c[0], c[1], c[2:]...); err != nil {
			t.Fatal(err)
		}
	}
	alice := g.presenting(t, s, "credit", "account 7")
	alice.becomes(t, "all that is asked is there", true)

	o.service.close()
	alice.becomes(t, "the service is gone", false)
	o.service.open(t)
	alice.becomes(t, "the service is back", true)

	o.revoked.Store(s.alice.Leaf)
	alice.becomes(t, "the list names alice", false)
	o.revoked.Store(nil)
	alice.becomes(t, "the list names nobody", true)

	o.directory.close()
	alice.becomes(t, "the directory has been gone for too long", false)
	o.directory.open(t)
	alice.becomes(t, "the directory is back", true)

	if err := g.operator.Must("", "source set people-crl age 60"); err != nil { // by its own date and the clock of the guest, which need not run like ours
		t.Fatal(err)
	}
	alice.becomes(t, "a list may be a minute old", true)
	o.lists.close()
	alice.becomes(t, "the list is overdue", false)
	g.says(t, "source show people-crl", "connect to "+o.lists.address(), "connection refused")
	g.says(t, "network show", guestAddress+"/24 on eth0 by DHCP, name server 10.0.2.3")
}

// says waits until a command shows all of the words.
func (g *guest) says(t *testing.T, command string, want ...string) {
	t.Helper()
	for end := time.Now().Add(g.lab.host.Scale(anyMoment)); ; time.Sleep(time.Second) { // each command is a record
		shown, err := g.operator.Do(command)
		if err != nil {
			t.Fatal(err)
		}
		missing := ""
		for _, w := range want {
			if !strings.Contains(unwrapped(shown), unwrapped(w)) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not say %q:\n%s", command, missing, shown)
		}
	}
}

// unwrapped is text without the breaks of an 80-column terminal.
func unwrapped(s string) string { return strings.Join(strings.Fields(s), "") }

// upWithGateway starts the enrolled box on a network with a way out, and logs its officer in.
func (g *guest) upWithGateway() error {
	return g.upAt(time.Time{})
}

// upAt is upWithGateway by a clock chip that shows another time.
func (g *guest) upAt(clock time.Time) (err error) {
	if g.machine, err = g.lab.host.Start(qemu.Config{Box: g.box, Forward: []int{releasePort}, Gateway: true, Clock: clock}); err != nil {
		return err
	}
	g.operator = operator.At(g.machine, nil)
	if g.greeting, err = g.operator.UpAs("enrolled"); err != nil {
		return err
	}
	return g.login()
}

// A requester asks for one key, again and again.
type requester struct {
	g      *guest
	agent  *client.Agent
	header block.Header
}

// presenting is alice, who presents a value to a service with each request.
func (g *guest) presenting(t *testing.T, s *inService, service, value string) requester {
	t.Helper()
	token, err := kra.ValueToken(service, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.NewAgent(client.Config{URL: "https://" + g.machine.Addr(releasePort), Trust: g.lab.trust, Certificate: s.alice,
		Delivery: client.Delivery{Tokens: []string{token}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	header, _, err := client.ReadHeader(bytes.NewReader(s.message))
	if err != nil {
		t.Fatal(err)
	}
	return requester{g, a, header}
}

// becomes waits until the key is released, or refused.
func (r requester) becomes(t *testing.T, when string, released bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.g.lab.host.Scale(2*time.Minute))
	defer cancel()
	typed, said := time.Now(), map[string]int{}
	for ; ; time.Sleep(300 * time.Millisecond) {
		answers, err := r.agent.Release(ctx, []block.Header{r.header})
		if err == nil {
			err = answers[0].Err
		}
		refused := errors.Is(err, client.ErrRefused)
		if err == nil && released || refused && !released {
			return
		}
		said[fmt.Sprint(err)]++
		var away *client.Unreachable
		if ctx.Err() != nil || err != nil && !refused && !errors.As(err, &away) {
			t.Fatalf("%s: %v; want released: %v\n%s", when, said, released,
				r.g.asked("source list", "source show staff", "source show people-crl", "time show", "network show", "status", "log show 8"))
		}
		if time.Since(typed) > time.Minute {
			r.g.asked("log health") // or it logs out
			typed = time.Now()
		}
	}
}

// asked is what commands show, for who reads why a test failed.
func (g *guest) asked(commands ...string) (all string) {
	for _, c := range commands {
		shown, err := g.operator.Do(c)
		all += fmt.Sprintf("> %s\n%s", c, shown)
		if err != nil {
			return all + err.Error()
		}
	}
	return all
}

// An office is what a box asks outside: all of it is on this host's loopback.
type office struct {
	lab       *lab
	authority peertest.Authority // of its servers
	service   *counter
	directory *counter
	lists     *counter
	revoked   atomic.Pointer[x509.Certificate] // whom the list names
}

func newOffice(t *testing.T, l *lab) *office {
	t.Helper()
	o := &office{lab: l, authority: peertest.NewAuthority(t)}
	cert := o.authority.Server(t, hostAddress)
	secure := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	people := tls.Certificate{}
	people, err := tls.LoadX509KeyPair(filepath.Join(l.domain, desk.PeopleFile), filepath.Join(l.domain, "people.key"))
	if err != nil {
		t.Fatal(err)
	}
	d := ldaptest.New(t)
	d.Group("legal", d.Person("alice"))
	o.service = newCounter(t, secure, web(t, http.HandlerFunc(credit)))
	o.lists = newCounter(t, nil, web(t, o.list(people)))
	o.directory = newCounter(t, secure, func(c net.Conn) { forward(c, d) })
	return o
}

// commands configure the box to ask the office.
func (o *office) commands() [][]string {
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.authority.Root.Raw}))
	return [][]string{
		{"", "source add service credit at https://" + o.service.address() + "/v1 verify charge subject", ca},
		{"", "source add crl people-crl of corp at http://" + o.lists.address() + "/people.crl"},
		{"", "source set people-crl every 10"},
		{"", "source add directory staff may group of corp at ldaps://" + o.directory.address() + " base " + ldaptest.People, ca},
		{"", "source name staff uid:cn"},
		{"", "source map staff group from memberOf:" + ldaptest.Groups},
		{"", "source set staff every 10"},
		{"", "source set staff age 30"},
		{"Rule outside was made", `rule add outside is groups.has("legal", "staff") && external.allows("credit")`},
		{"legal-team", "access lists legal-team is outside"},
	}
}

// credit allows whoever presents account 7, in the protocol of external services.
func credit(w http.ResponseWriter, r *http.Request) {
	var q struct{ Value []byte }
	a := map[string]string{"id": r.Header.Get("Idempotency-Key"), "answer": "no"}
	if json.NewDecoder(r.Body).Decode(&q) == nil && string(q.Value) == "account 7" {
		a["answer"] = "yes"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

// list makes the revocation list of the domain's people anew for each who asks.
func (o *office) list(people tls.Certificate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now().Add(-5 * time.Second) // clocks differ
		l := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
		if c := o.revoked.Load(); c != nil {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: c.SerialNumber, RevocationTime: now}}
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, people.Leaf, people.PrivateKey.(crypto.Signer))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(der)
	})
}

// A counter is one address where somebody may be served: it opens, closes, and opens again at the same place.
type counter struct {
	port   string
	secure *tls.Config // nil: without TLS
	serve  func(net.Conn)

	mu     sync.Mutex // guards all below
	l      net.Listener
	guests []net.Conn
}

func newCounter(t *testing.T, secure *tls.Config, serve func(net.Conn)) *counter {
	t.Helper()
	c := &counter{port: strconv.Itoa(peertest.Port(t, "tcp")), secure: secure, serve: serve}
	c.open(t)
	t.Cleanup(c.close)
	return c
}

// address is what the guest calls it.
func (c *counter) address() string { return net.JoinHostPort(hostAddress, c.port) }

func (c *counter) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+c.port)
	if err != nil {
		t.Fatal(err)
	}
	_, c.port, _ = net.SplitHostPort(l.Addr().String())
	if c.secure != nil {
		l = tls.NewListener(l, c.secure)
	}
	c.mu.Lock()
	c.l = l
	c.mu.Unlock()
	go func() {
		for {
			guest, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.guests = append(c.guests, guest)
			c.mu.Unlock()
			go c.serve(guest)
		}
	}()
}

// close ends all that was begun, too.
func (c *counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.l.Close()
	for _, g := range c.guests {
		g.Close()
	}
	c.guests = nil
}

// web serves HTTP on single connections.
func web(t *testing.T, h http.Handler) func(net.Conn) {
	t.Helper()
	l := &handed{conns: make(chan net.Conn), over: make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return func(c net.Conn) {
		select {
		case l.conns <- c:
		case <-l.over:
		}
	}
}

// A handed is a listener of connections that were accepted elsewhere.
type handed struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error   { h.once.Do(func() { close(h.over) }); return nil }
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// forward passes a connection on to the directory, whose own certificate names another address.
func forward(near net.Conn, d *ldaptest.Server) {
	defer near.Close()
	roots := x509.NewCertPool()
	roots.AddCert(d.Root)
	far, err := tls.Dial("tcp", strings.TrimPrefix(d.URL, "ldaps://"), &tls.Config{RootCAs: roots})
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, near)
		far.Close()
	}()
	_, _ = io.Copy(near, far)
}
