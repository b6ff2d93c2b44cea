package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/label"
)

const boardTimeout = 30 * time.Second

// FetchBoard reads the board of a domain, at its server or at a box, and verifies every entry to the domain's root. known are the newest
// permissions that the reader has seen, or nil: a board with older ones, or stale ones, is *Untrusted. The server is not believed, so that plain
// HTTP does.
func FetchBoard(ctx context.Context, at string, t Trust, known *label.SignedPermissions) (board.Reading, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return board.Reading{}, fmt.Errorf("parse board address %.100q: want https://HOST", at)
	}
	doc, err := fetchBoard(ctx, strings.TrimSuffix(at, "/")+board.PathBoard, t)
	if err != nil {
		return board.Reading{}, &Unreachable{URL: at, Err: err}
	}
	b, err := board.Parse(doc)
	if err != nil {
		return board.Reading{}, untrusted("believe %s: %w", at, err)
	}
	r, err := b.Read(t.Roots(), time.Now(), known)
	if err != nil {
		return board.Reading{}, untrusted("believe %s: %w", at, err)
	}
	return r, nil
}

func fetchBoard(ctx context.Context, at string, t Trust) ([]byte, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	for _, c := range t.certs {
		roots.AddCert(c) // a box's own board
	}
	h := &http.Client{Timeout: boardTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	a, err := h.Do(q)
	if err != nil {
		return nil, unwrapURL(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %d", a.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(a.Body, board.MaxBoard+1))
	if err == nil && len(doc) > board.MaxBoard {
		err = errors.New("the board is too long")
	}
	return doc, err
}

// ParsePermissions reads permissions out of a file and verifies them to the root; stale ones are *Untrusted.
func (t Trust) ParsePermissions(text []byte, now time.Time) (label.SignedPermissions, error) {
	s, err := label.ParsePermissions(text)
	if err != nil {
		return s, err
	}
	p, err := s.VerifyUnder(t.Roots(), now)
	if err == nil {
		err = p.Current(now)
	}
	if err != nil {
		return s, untrusted("believe permissions: %w", err)
	}
	return s, nil
}

// permits holds who is at the other end of a connection to what its domain permits: the box, and the key that certified its TLS key.
func (a *Agent) permits(s *tls.ConnectionState, by issuer, more ...label.Digest) error {
	if a.permissions == nil {
		return nil
	}
	return allows(*a.permissions, by, s.VerifiedChains[0][1], time.Now(), more...)
}

// allows holds a box, and its label key's certificate, to what its domain permits.
func allows(p label.Permissions, by issuer, of *x509.Certificate, at time.Time, more ...label.Digest) error {
	if p.Domain != by.domain {
		return fmt.Errorf("the box is of domain %q, the permissions are of %q", by.domain, p.Domain)
	}
	return p.Allows(label.ID(by.label), by.box, sha256.Sum256(of.RawSubjectPublicKeyInfo), at, more...)
}

// permitsConfirmed also holds the attestation key and the release that a box has shown to the permissions.
func (a *Agent) permitsConfirmed(ans answer, c label.Confirmation, v label.Confirmed) error {
	if a.permissions == nil {
		return nil
	}
	platform, err := x509.ParseCertificate(c.Platform)
	if err != nil {
		return err
	}
	if err := a.permits(ans.channel, ans.from, sha256.Sum256(platform.RawSubjectPublicKeyInfo)); err != nil {
		return err
	}
	return a.permissions.Runs(v.Value().Version)
}
