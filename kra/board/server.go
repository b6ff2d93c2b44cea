package board

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Limits of a server.
const (
	headWithin   = 10 * time.Second
	bodyWithin   = 20 * time.Second
	answerWithin = 60 * time.Second
	idleWithin   = time.Minute
	drainWithin  = 5 * time.Second
	maxHead      = 8 << 10
	maxReaders   = 256              // requests at work
	maxPosts     = 60               // of one source, in a window
	window       = time.Minute      //
	maxSources   = 16384            // that post in one window
	freshFor     = 30 * time.Second // a page is made again after this, or when something was posted
)

// A Config is what a domain's server needs.
type Config struct {
	Root  *x509.Certificate // of the domain
	Dir   string            // where what is posted is kept
	At    string            // https://HOST:PORT by which it is reached, for the page
	Clock func() time.Time
	Log   *slog.Logger
}

// A Server is the domain's board. It believes nobody: it takes what the domain's root vouches for, and its readers check again.
type Server struct {
	c      Config
	domain string
	slots  chan struct{}
	posts  pace

	mu    sync.Mutex // guards what follows
	shelf *shelf
	made  time.Time // of all; zero: something changed since
	all   map[string]Document
}

// NewServer opens the folder.
func NewServer(c Config) (*Server, error) {
	if len(c.Root.Subject.Organization) != 1 || !c.Root.IsCA {
		return nil, errors.New("open board: the root is not that of a domain")
	}
	s := &Server{c: c, domain: c.Root.Subject.Organization[0], slots: make(chan struct{}, maxReaders), posts: pace{seen: map[netip.Prefix]int{}}}
	var err error
	s.shelf, err = openShelf(c.Dir, s.domain, c.Root, c.Clock(), func(file string, err error) { c.Log.Warn("left out", "file", file, "reason", err) })
	return s, err
}

// Domain is the domain whose board it is.
func (s *Server) Domain() string { return s.domain }

// Serve answers on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{Handler: s, ReadHeaderTimeout: headWithin, ReadTimeout: bodyWithin, WriteTimeout: answerWithin, IdleTimeout: idleWithin, MaxHeaderBytes: maxHead, ConnState: newCrowd().watch,
		ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		_ = h.Shutdown(end)
	})
	defer stop()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve board: %w", err)
	}
	return nil
}

// ServeHTTP answers readers from what is made already, and takes what is posted.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "busy")
		return
	}
	take, posted := map[string]func([]byte) error{PathAdverts: s.takeAdvert, PathRetractions: s.takeRetraction, PathPermissions: s.takePermissions, PathRevoked: s.takeRevoked}[r.URL.Path]
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.read(w, r)
	case http.MethodPost:
		if !posted {
			answer(w, http.StatusNotFound, "nothing is posted here")
			return
		}
		s.post(w, r, take)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		answer(w, http.StatusMethodNotAllowed, "GET or POST")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	Headers(w.Header(), kindText)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // who has gone cannot be told
}

func (s *Server) read(w http.ResponseWriter, r *http.Request) {
	all, err := s.documents()
	switch {
	case err != nil:
		s.c.Log.Error("make page", "err", err)
		answer(w, http.StatusServiceUnavailable, "the board cannot be shown")
	case !Serve(w, r, all):
		answer(w, http.StatusNotFound, "there is no such page")
	}
}

// documents are made anew when something changed, or time may have ended something.
func (s *Server) documents() (map[string]Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.c.Clock()
	if age := now.Sub(s.made); s.all != nil && !s.made.IsZero() && age >= 0 && age < freshFor {
		return s.all, nil
	}
	if err := s.shelf.purge(now); err != nil {
		return nil, err
	}
	v, err := s.view(now)
	if err != nil {
		return nil, err
	}
	all, err := v.Documents()
	if err != nil {
		return nil, err
	}
	s.all, s.made = all, now
	return all, nil
}

func (s *Server) view(now time.Time) (View, error) {
	b := New(s.domain, s.shelf.shown(now), s.shelf.permissions)
	r, err := b.read(s.shelf.roots, now, nil)
	if err != nil {
		return View{}, err
	}
	v := View{At: s.c.At, Root: s.c.Root, Reading: r, Board: b}
	if s.shelf.revoked != nil {
		v.Revoked = pemOf("X509 CRL", s.shelf.revoked.Raw)
	}
	return v, nil
}

// post takes one statement. Whoever posts too often waits, before anything is read or verified.
func (s *Server) post(w http.ResponseWriter, r *http.Request, take func([]byte) error) {
	source := sourceOf(r.RemoteAddr)
	if !s.posts.enter(source, s.c.Clock()) {
		w.Header().Set("Retry-After", "60")
		answer(w, http.StatusTooManyRequests, fmt.Sprintf("at most %d statements a minute", maxPosts))
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limitOf(r.URL.Path)))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		answer(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d bytes", long.Limit))
		return
	case err != nil:
		answer(w, http.StatusBadRequest, "the statement did not arrive")
		return
	}
	s.mu.Lock()
	err = take(b)
	if err == nil {
		s.made = time.Time{}
	}
	s.mu.Unlock()
	s.tell(w, r.URL.Path, source, err)
}

func (s *Server) tell(w http.ResponseWriter, path string, source netip.Prefix, err error) {
	var broken *osError
	switch {
	case err == nil:
		s.c.Log.Info("taken", "path", path, "from", source)
		Headers(w.Header(), kindText)
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &broken):
		s.c.Log.Error("keep statement", "path", path, "err", err)
		answer(w, http.StatusInternalServerError, "it could not be kept")
	case errors.Is(err, errFull):
		s.c.Log.Error("keep statement", "path", path, "err", err)
		answer(w, http.StatusInsufficientStorage, err.Error())
	default:
		s.c.Log.Warn("refused", "path", path, "from", source, "reason", err)
		answer(w, http.StatusForbidden, err.Error())
	}
}

func limitOf(path string) int64 {
	switch path {
	case PathPermissions:
		return label.MaxDocument
	case PathRevoked:
		return maxRevoked
	}
	return label.MaxAdvert
}

func (s *Server) takeAdvert(b []byte) error {
	a, err := label.ParseAdvert(b)
	if err != nil {
		return err
	}
	return s.shelf.put(a, s.c.Clock())
}

func (s *Server) takeRetraction(b []byte) error {
	r, err := label.ParseRetraction(b)
	if err != nil {
		return err
	}
	return s.shelf.retract(r, s.c.Clock())
}

func (s *Server) takePermissions(b []byte) error {
	p, err := label.ParsePermissions(b)
	if err != nil {
		return err
	}
	return s.shelf.permit(p, s.c.Clock())
}

func (s *Server) takeRevoked(b []byte) error { return s.shelf.revoke(b) }

// sourceOf is who posts: an IPv4 address, or the /64 of an IPv6 one.
func sourceOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := a.Addr().Unmap(), 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// A pace counts what sources do in one window after the other.
type pace struct {
	mu    sync.Mutex // guards what follows
	began time.Time
	seen  map[netip.Prefix]int
}

// enter counts one more, unless it is too many. When there are more sources than can be counted, nobody new enters in this window.
func (p *pace) enter(source netip.Prefix, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := now.Sub(p.began); age < 0 || age >= window {
		p.began = now
		clear(p.seen)
	}
	n, known := p.seen[source]
	if n >= maxPosts || !known && len(p.seen) >= maxSources {
		return false
	}
	p.seen[source] = n + 1
	return true
}
