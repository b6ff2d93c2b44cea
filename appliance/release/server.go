package release

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

// A Server serves the release port. Its counters and spare buffers are all of its state that changes.
type Server struct {
	o      Options
	delay  time.Duration // RefusalDelay
	count  counters
	bodies sync.Pool // of *bytes.Buffer: request bodies, which hold no secrets
	held   shares    // bytes of bodies
	walks  turns     // of requests that walk through all rules or a group
	edits  turns     // of statements about groups, which wait for each other
	lists  turns     // of whole directories on their way to a source

	strangers   strangers
	challengers *challengers
	showers     *challengers // platforms whose confirmations wait to be verified
}

type counters struct {
	inFlight atomic.Int64 // requests at work
	bodies   atomic.Int64 // bytes of bodies
	requests atomic.Uint64
	released atomic.Uint64
	refused  atomic.Uint64
	failed   atomic.Uint64
}

// Counts are what the port did since it started. Requests counts release requests of accepted clients, Failed those
// of anybody that were well-formed, Released and Refused count headers in them. Server.Sources has the others.
type Counts struct{ Requests, Released, Refused, Failed uint64 }

// New makes a server. It listens to nothing yet.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Standby == nil {
		o.Standby = NewStandby(func() time.Duration { return 0 })
	}
	return &Server{o: o, delay: RefusalDelay, held: newShares(), walks: newTurns(maxWalksOf, int64(maxWalks*runtime.GOMAXPROCS(0))),
		edits: newTurns(maxEditsOf, maxEdits), lists: newTurns(maxListsOf, maxLists), challengers: newChallengers(), showers: newChallengers()}, nil
}

// Counts returns the counts so far.
func (s *Server) Counts() Counts {
	return Counts{s.count.requests.Load(), s.count.released.Load(), s.count.refused.Load(), s.count.failed.Load()}
}

// mostConns is how many connections may be open: all of them together have a quarter of the machine's memory.
func mostConns() int {
	var m unix.Sysinfo_t
	if unix.Sysinfo(&m) != nil {
		return leastConns
	}
	return connsIn(uint64(m.Totalram) * uint64(m.Unit))
}

func connsIn(memory uint64) int {
	return int(min(max(memory/4/connBytes, leastConns), maxConns))
}

// Serve serves the port on a TCP listener until ctx ends, then finishes what is under way. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := s.http()
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		stopped <- srv.Shutdown(drain)
	})
	err := srv.ServeTLS(netutil.LimitListener(&crowd{Listener: l}, mostConns()), "", "")
	if !stop() && errors.Is(err, http.ErrServerClosed) {
		err = <-stopped
		srv.Close()
	}
	if err != nil {
		return fmt.Errorf("serve release port: %w", err)
	}
	return nil
}

func (s *Server) http() *http.Server {
	var only http.Protocols
	only.SetHTTP1(true)
	return &http.Server{
		Protocols:         &only,
		Handler:           http.HandlerFunc(s.serve),
		ConnContext:       withPeer,
		TLSConfig:         s.tls(),
		ReadHeaderTimeout: headWithin,
		ReadTimeout:       bodyWithin,
		WriteTimeout:      answerWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
}

// tls asks for a client certificate and lets the handshake pass without one, or with any: who may come in is decided
// for each request, by the anchors of the moment. No session is resumed, so that each connection sees the certificate
// that the box has now.
func (s *Server) tls() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         s.o.Certificate,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,

		DynamicRecordSizingDisabled: true, // an answer is one small message: one record, one system call
	}
}
