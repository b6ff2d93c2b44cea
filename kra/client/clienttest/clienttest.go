// Package clienttest is a key release agent inside a test's own process: real TLS, certificates, wraps, log tree and receipts; its keys are in memory, its rules are a func, and it can be told to lie.
package clienttest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// The names of every agent of this package.
const (
	Domain = "acme"
	Box    = "box1"
)

// An Agent is a running agent. Its methods may be called while it serves.
type Agent struct {
	URL string
	pki *pki
	log *releaseLog

	mu       sync.Mutex
	server   *httptest.Server
	keys     []key
	rule     Rule
	lie      func(*Lie)
	odd      http.HandlerFunc
	requests int
	busy     int
	opened   int // connections
	last     kra.Request

	elsewhere int // connections that come to another box
	other     tls.Certificate

	named map[string]*x509.Certificate // of decryptors that requests only name
}

// A Rule decides whether the holder of a certificate with this common name gets a key.
type Rule func(access kra.AccessID, name string) bool

// A Lie is one released key on its way out, for a test that makes the agent lie.
type Lie struct {
	Key        []byte
	Access     kra.AccessID
	Receipt    []byte
	Checkpoint string
	Chain      string
	InTheClear bool // although it should be sealed
	Elsewhere  int  // sealed as the result so many places further on, or within the HSM for that
	Unsaid     bool // of a key sealed within the HSM, the result is another one
	Unasked    bool // sealed within the HSM, which nobody asked for
}

// As is the place that a key is sealed for.
func (l Lie) As(i int) int { return i + l.Elsewhere }

type key struct {
	public  kra.PublicKey
	private crypto.PrivateKey
	id      block.KeyID
	refs    []block.Ref // how headers name it
}

// New starts an agent that ends with the test. It releases nothing before Allow.
func New(t testing.TB) *Agent { return NewAs(t, Release) }

// Release is the label of agents.
const Release = "key-release"

// NewAs starts a server whose TLS key the domain certified for another label.
func NewAs(t testing.TB, label string) *Agent {
	t.Helper()
	a := &Agent{pki: newPKI(t, label), rule: func(kra.AccessID, string) bool { return false }}
	a.log = newLog(t, a.pki)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+kra.PathKeys, a.serveKeys)
	mux.HandleFunc("GET "+kra.PathStatus, a.serveStatus)
	mux.HandleFunc("GET "+kra.PathWhoAmI, a.serveWhoAmI)
	mux.HandleFunc("POST "+kra.PathRelease, a.serveRelease)
	a.server = httptest.NewUnstartedServer(a.oddly(mux))
	a.server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.pki.server(t, a.pki.tlsLabel)},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pki.clientPool(), GetConfigForClient: a.config}
	a.server.Config.ConnState = a.count
	a.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // refused handshakes are what tests are about
	a.server.StartTLS()
	a.URL = a.server.URL
	t.Cleanup(a.Stop)
	return a
}

// Stop ends the agent; whoever asks it then finds nobody.
func (a *Agent) Stop() { a.server.Close() }

// Allow replaces the rule.
func (a *Agent) Allow(r Rule) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rule = r
}

// Lie lets f change what is released from now on; nil ends it.
func (a *Agent) Lie(f func(*Lie)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lie = f
}

// Odd lets f answer everything from now on.
func (a *Agent) Odd(f http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.odd = f
}

func (a *Agent) oddly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		odd := a.odd
		a.mu.Unlock()
		if odd == nil {
			odd = h.ServeHTTP
		}
		odd(w, r)
	})
}

// Elsewhere makes the next n connections come to another box of the domain, as behind one address for several. Only the
// certificate is that box's.
func (a *Agent) Elsewhere(t testing.TB, n int) {
	t.Helper()
	key := ecKey(t)
	other := a.pki.server(t, authority{a.pki.root.issue(t, key.Public(), labelTemplate(Release, "box2")), key})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.elsewhere, a.other = n, other
}

func (a *Agent) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.elsewhere == 0 {
		return nil, nil
	}
	a.elsewhere--
	c := a.server.TLS.Clone()
	c.Certificates = []tls.Certificate{a.other}
	return c, nil
}

// Busy makes the agent answer the next n requests for release with "busy".
func (a *Agent) Busy(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = n
}

// Requests returns how many requests for release came in.
func (a *Agent) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// Connections returns how many connections were opened.
func (a *Agent) Connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened
}

func (a *Agent) count(_ net.Conn, s http.ConnState) {
	if s == http.StateNew {
		a.mu.Lock()
		a.opened++
		a.mu.Unlock()
	}
}

// Publish puts an entry into the directory that nobody checked.
func (a *Agent) Publish(k kra.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append(a.keys, key{public: k})
}

// AddKey makes a key for access and publishes it as its current one.
func (a *Agent) AddKey(t testing.TB, access kra.AccessID, title string, s block.Suite) block.KeyID {
	t.Helper()
	k := a.pki.releaseKey(t, access, title, s)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append([]key{k}, a.keys...)
	return k.id
}

// Directory returns what the agent publishes: the newest key of each access identifier.
func (a *Agent) Directory() kra.Directory {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := kra.Directory{Domain: Domain, Box: Box}
	seen := map[kra.AccessID]bool{}
	for _, k := range a.keys {
		if k.private == nil || !seen[k.public.Access] {
			seen[k.public.Access] = true
			d.Keys = append(d.Keys, k.public)
		}
	}
	return d
}

func (a *Agent) serveKeys(w http.ResponseWriter, _ *http.Request) {
	b, err := a.Directory().Encode()
	send(w, http.StatusOK, b, err)
}

func (a *Agent) serveStatus(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 {
		w.Header().Set("Connection", "close")
	}
	b, err := kra.Status{State: kra.StateReady, Domain: Domain, Box: Box}.Encode()
	send(w, http.StatusOK, b, err)
}

func send(w http.ResponseWriter, status int, b []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kra.ContentType)
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func (a *Agent) serveRelease(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests++
	busy := a.busy > 0
	if busy {
		a.busy--
	}
	a.mu.Unlock()
	if busy {
		w.Header().Set("Retry-After", "0")
		send(w, http.StatusServiceUnavailable, kra.Error{Code: kra.CodeBusy}.Encode(), nil)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, kra.MaxBody+1))
	if err != nil {
		send(w, 0, nil, err)
		return
	}
	ask, ok, err := a.asking(body, r.TLS.PeerCertificates)
	if !ok && err == nil {
		send(w, http.StatusUnauthorized, kra.Error{Code: kra.CodeCertificate}.Encode(), nil)
		return
	}
	if err == nil {
		body, err = a.release(ask)
	}
	send(w, http.StatusOK, body, err)
}

// Last returns the last request for release.
func (a *Agent) Last() kra.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *Agent) serveWhoAmI(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 {
		send(w, http.StatusUnauthorized, kra.Error{Code: kra.CodeCertificate}.Encode(), nil)
		return
	}
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	who := kra.WhoAmI{Decryptor: "corp:CN=" + name, Information: []kra.Known{
		{Kind: "attribute", Name: "department", Value: "sales", Authority: "ldap", Via: "directory", Until: &lasting},
		{Kind: "clearance", Value: "secret/crypto", Authority: "corp-aa", Via: "presented"}}, Unavailable: []kra.Anchor{"mdm-aa"}}
	a.mu.Lock()
	for _, k := range a.keys {
		if a.rule(k.public.Access, name) {
			who.Access = append(who.Access, k.public.Access)
		}
	}
	a.mu.Unlock()
	slices.Sort(who.Access)
	b, err := who.Encode()
	send(w, http.StatusOK, b, err)
}

var lasting = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
