package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Why a box stopped listening without being enrolled.
var (
	ErrTries   = errors.New("too many wrong codes")
	ErrExpired = errors.New("the code has expired")
	ErrUsed    = errors.New("the code was used, and the desk went away without an answer")
)

// A Box is the box's side of one meeting.
type Box struct {
	Code    Code
	Request func(ctx context.Context) ([]byte, error)
	// Install takes the bundle as if it had been pasted, and gives the box's name. Its error is told to the desk.
	Install func(ctx context.Context, bundle []byte) (name string, err error)
	// Say tells the console what happens.
	Say func(format string, args ...any)
	// Valid bounds the meeting; zero: Valid.
	Valid time.Duration
}

// A meeting is one code: nobody -> proven -> installed, or ended. One connection can prove; only that one can answer.
type meeting struct {
	Box
	end func(error) // ends it, once

	mu     sync.Mutex
	tries  int
	by     string // remote address of who has proved; empty: nobody has
	proven []byte // exporter of that channel
	asked  []byte
	spent  bool // a bundle was taken to be installed
	over   bool // nothing more is proved or taken
}

// close ends the meeting for whoever is still connected. It reports whether a bundle is being installed: how that ends counts.
func (m *meeting) close() (installing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	return m.spent
}

// Serve meets the desk on a listener until a bundle is installed (nil), or the code is no longer good. It does not return before the
// desk has its answer, and nothing listens afterwards.
func (b Box) Serve(ctx context.Context, l net.Listener) error {
	cert, err := passing()
	if err != nil {
		return fmt.Errorf("listen for the desk: %w", err)
	}
	valid := b.Valid
	if valid == 0 {
		valid = Valid
	}
	ctx, cancel := context.WithTimeoutCause(ctx, valid, ErrExpired)
	defer cancel()
	ended := make(chan error, 1)
	m := &meeting{Box: b, end: func(err error) {
		select {
		case ended <- err:
		default:
		}
	}}
	s := &http.Server{Handler: m, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}},
		ReadHeaderTimeout: helloLimit, ReadTimeout: helloLimit, IdleTimeout: valid + helloLimit, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: m.watch}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(netutil.LimitListener(l, maxPeers), "", "") }()
	known := false
	select {
	case err = <-ended:
		known = true
	case <-ctx.Done():
		err = context.Cause(ctx)
	case err = <-served:
	}
	if installing := m.close(); installing && !known { // it is not undone by a code that expires, nor by an interrupt
		select {
		case err = <-ended:
		case <-time.After(installWithin):
			err = errors.Join(errInstalling, err)
		}
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // the desk reads its answer
	defer stop()
	if s.Shutdown(grace) != nil {
		_ = s.Close()
	}
	return err
}

// watch ends the meeting when the one who has proved the code goes away before he has answered: a code is good once.
func (m *meeting) watch(c net.Conn, s http.ConnState) {
	if s != http.StateClosed {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == c.RemoteAddr().String() && !m.spent {
		m.end(ErrUsed)
	}
}

// ServeHTTP answers the two requests, and says nothing of use to who does not know the code.
func (m *meeting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxMessage)
	var out any
	var err error
	switch {
	case r.Method == http.MethodPost && r.URL.Path == requestPath:
		out, err = m.request(r)
	case r.Method == http.MethodPost && r.URL.Path == bundlePath:
		out, err = m.bundle(r)
	default:
		err = errRefused
	}
	if err != nil {
		w.Header().Set("Connection", "close")
		http.Error(w, errRefused.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

var (
	errRefused    = errors.New("refused")
	errInstalling = errors.New("the bundle is still being installed: look what the box is (status), before anything else")
)

// wrong counts a proof that is none. The caller holds the lock.
func (m *meeting) wrong(from string) error {
	m.tries++
	m.Say("A wrong code came from %s: %d of %d.", from, m.tries, MaxTries)
	if m.tries >= MaxTries {
		m.end(ErrTries)
	}
	return errRefused
}

// request proves the box to who has proved the desk. A second one is refused: the code was used.
func (m *meeting) request(r *http.Request) (any, error) {
	var h hello
	if err := read(r.Body, &h); err != nil {
		return nil, err
	}
	ch, err := channel(r.TLS)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over || m.tries >= MaxTries || m.by != "" {
		return nil, errRefused
	}
	if !m.Code.proves(h.Proof, byDesk, ch, nil) {
		return nil, m.wrong(r.RemoteAddr)
	}
	m.by, m.proven = r.RemoteAddr, ch
	m.Say("The desk at %s knows the code.", r.RemoteAddr)
	if m.asked, err = m.Request(r.Context()); err != nil {
		m.end(fmt.Errorf("make request: %w", err))
		return nil, err
	}
	return asked{string(m.asked), m.Code.prove(byBox, ch, m.asked)}, nil
}

// bundle installs what the same desk answers on the same channel, once.
func (m *meeting) bundle(r *http.Request) (any, error) {
	var a answer
	if err := read(r.Body, &a); err != nil || len(a.Bundle) > MaxBundle {
		return nil, errors.Join(errRefused, err)
	}
	ch, err := channel(r.TLS)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.by != r.RemoteAddr || string(ch) != string(m.proven) || m.spent || m.over {
		m.mu.Unlock()
		return nil, errRefused
	}
	if !m.Code.proves(a.Proof, byAnswer, ch, []byte(a.Bundle)) {
		defer m.mu.Unlock()
		m.end(ErrUsed)
		return nil, errRefused
	}
	m.spent = true
	m.mu.Unlock()
	name, err := m.Install(context.WithoutCancel(r.Context()), []byte(a.Bundle))
	m.end(err)
	if err != nil {
		return done{Error: err.Error()}, nil
	}
	return done{Box: name}, nil
}

// passing makes a key and certificate for one meeting. Nobody believes it: the code vouches for the channel.
func passing() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
