package board

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of asking a board. What it says is signed, so plain HTTP does; TLS adds privacy.
const (
	askWithin  = 30 * time.Second
	dialWithin = 10 * time.Second
	maxHead    = 16 << 10
	maxReason  = 512 // bytes of an answer that says why not
)

func (k *Keeper) client(s Settings) (*http.Client, error) {
	roots := x509.NewCertPool()
	for _, der := range s.CA {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("authority of the board's server: %w", err)
		}
		roots.AddCert(c)
	}
	return &http.Client{Timeout: askWithin, Transport: &http.Transport{DialContext: k.c.Dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Time: k.c.Clock},
		TLSHandshakeTimeout: dialWithin, MaxResponseHeaderBytes: maxHead, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// fetch gets the permissions of a board.
func (k *Keeper) fetch(ctx context.Context, s Settings) (label.SignedPermissions, error) {
	b, err := k.ask(ctx, s, http.MethodGet, board.PathPermissions, nil)
	if err != nil {
		return label.SignedPermissions{}, err
	}
	return label.ParsePermissions(b)
}

// send posts one statement. That the board has it already is no failure.
func (k *Keeper) send(ctx context.Context, s Settings, path string, statement []byte) error {
	_, err := k.ask(ctx, s, http.MethodPost, path, statement)
	return err
}

func (k *Keeper) ask(ctx context.Context, s Settings, method, path string, body []byte) ([]byte, error) {
	c, err := k.client(s)
	if err != nil {
		return nil, err
	}
	url := strings.TrimSuffix(s.URL, "/") + path
	q, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	a, err := c.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	switch a.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return readAll(a.Body, label.MaxDocument)
	}
	why, _ := io.ReadAll(io.LimitReader(a.Body, maxReason))
	return nil, fmt.Errorf("%s %s: answer %d: %q", strings.ToLower(method), url, a.StatusCode, strings.TrimSpace(string(why)))
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("the answer is too long")
	}
	return b, err
}
