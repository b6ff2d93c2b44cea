package inform

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of fetching over HTTP. What is fetched is signed, so plain HTTP does; TLS adds privacy.
const (
	fetchWithin  = time.Minute // a whole answer
	dialWithin   = 10 * time.Second
	maxHeadBytes = 16 << 10 // of an answer's headers
)

// A Dial opens a connection to HOST:PORT over network tcp. The zero Dial is this host's.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

func (d Dial) within(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	if d == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return d(ctx, network, address)
}

// A fetcher gets one document again and again.
type fetcher struct {
	url   string
	limit int64
	http  *http.Client
}

func newFetcher(where string, limit int64, roots *x509.CertPool, c Config) (fetcher, error) {
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fetcher{}, fmt.Errorf("address %.100q: want http://HOST/PATH or https://HOST/PATH", where)
	}
	return fetcher{where, limit, &http.Client{
		Timeout: fetchWithin,
		Transport: &http.Transport{
			DialContext:            c.Dial.within,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Time: c.Now},
			TLSHandshakeTimeout:    dialWithin,
			MaxResponseHeaderBytes: maxHeadBytes,
			DisableKeepAlives:      true, // minutes lie between two of them
			DisableCompression:     true, // what is short on the wire and long in memory
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// get returns the document as it is now.
func (f fetcher) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: answer %d", f.url, answer.StatusCode)
	}
	if answer.ContentLength > f.limit {
		return nil, fmt.Errorf("fetch %s: longer than %d bytes", f.url, f.limit)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, f.limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch %s: %w", f.url, err)
	case int64(len(b)) > f.limit:
		return nil, fmt.Errorf("fetch %s: longer than %d bytes", f.url, f.limit)
	}
	return b, nil
}

// under returns the address of a file in a folder.
func under(folder, file string) string { return strings.TrimSuffix(folder, "/") + "/" + file }
