// Package client is the library of encryptors and decryptors: fetch and verify key-release keys, encrypt, ask an agent for release, verify its receipt, decrypt.
package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// What an exchange may take, without counting retries.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 60 * time.Second
	idleTimeout   = 90 * time.Second
	maxIdle       = 64
)

// A Config says which agent to talk to and why it may be believed.
type Config struct {
	URL   string // "https://box.example:8443"; a path is refused
	Trust Trust  // the domain's root

	// Certificate says who the decryptor is. Nil is enough for encryptors, and for
	// keys that are delivered sealed.
	Certificate *tls.Certificate

	Delivery Delivery

	MinEpoch uint64 // a box that runs a release of a lower epoch is not believed when it is challenged; zero: any

	// Platform shows itself on the agent's one connection before each request for keys; its Certificate is the platform's. Nil: the
	// decryptor is a person or a service. The agent closes it.
	Platform platform
	Mutual   bool // the box has to show itself on that connection first

	// Permissions are what the domain permits, verified; nil if that is not asked. A box
	// that they do not allow is not talked to.
	Permissions *label.Permissions
}

// An Agent is a key release agent across the network. Its connections are kept
// alive and shared; it may be used by many goroutines at once.
type Agent struct {
	base    *url.URL
	trust   Trust
	key     crypto.PrivateKey // of Config.Certificate; nil if there is none
	deliver delivery
	least   uint64 // Config.MinEpoch
	http    *http.Client

	platform    platform
	mutual      bool
	one         sync.Mutex         // held while the platform shows itself and asks for keys
	permissions *label.Permissions // nil: all are allowed

	last atomic.Pointer[issuer] // the box that answered last; nil: none did
}

// NewAgent prepares an agent. It opens no connection yet.
func NewAgent(c Config) (*Agent, error) {
	base, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if !c.Trust.Valid() {
		return nil, errors.New("prepare agent: no domain root to believe it by")
	}
	deliver, err := c.Delivery.close(c.Certificate)
	if err != nil {
		return nil, err
	}
	a := &Agent{base: base, trust: c.Trust, deliver: deliver, least: c.MinEpoch, platform: c.Platform, mutual: c.Mutual, permissions: c.Permissions}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.Trust.roots, VerifyConnection: a.checkPeer}
	if c.Certificate != nil {
		conf.Certificates = []tls.Certificate{*c.Certificate}
	}
	if c.Certificate != nil {
		a.key = c.Certificate.PrivateKey
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	most := 0
	if c.Platform != nil {
		most = 1 // what it shows holds for one connection
	}
	a.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dialer.DialContext,
			TLSClientConfig:       conf,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: answerTimeout,
			IdleConnTimeout:       idleTimeout,
			MaxIdleConnsPerHost:   maxIdle,
			MaxConnsPerHost:       most,
			DisableCompression:    true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("parse agent address %.100q: want https://HOST:PORT", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// URL returns the agent's address.
func (a *Agent) URL() string { return a.base.String() }

// Close lets idle connections go.
func (a *Agent) Close() {
	a.http.CloseIdleConnections()
	if a.platform != nil {
		_ = a.platform.Close()
	}
}

// wait sleeps for d, or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
