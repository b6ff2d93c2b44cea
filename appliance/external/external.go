// Package external asks services over HTTPS whether somebody may have a key, and settles what they set aside for it.
package external

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra/policy"
)

// A Mode is how a service is asked. The zero Mode is refused.
type Mode uint8

// The modes.
const (
	Reserve Mode = iota + 1 // it sets something aside, which is then captured or cancelled
	Verify                  // one question; the answer may be kept as long as the service says
)

// A Payer is whose value a service is given. The zero Payer is refused.
type Payer uint8

// The payers.
const (
	Platform Payer = iota + 1 // the box, with the value that it keeps
	Subject                   // who asks, with the value presented with the request
)

func (p Payer) String() string {
	if p == Platform {
		return "platform"
	}
	return "subject"
}

// A Service is how one service is reached.
type Service struct {
	Alias    string
	URL      string         // https; the protocol's paths are below it
	Roots    *x509.CertPool // the only authorities that may vouch for its server
	Mode     Mode
	Timeout  time.Duration // of a question, waiting for its turn included
	InFlight int           // questions at once
	Charge   Payer
	Value    func() []byte                                                        // the platform's; a copy, which is cleared after use. nil: none
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: this host's
	Now      func() time.Time                                                     // by which the server's certificate is judged; nil: this host's
	Stamp    string                                                               // while it stays, connections and kept answers stay
}

func (s Service) check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("address %.100q: want https://HOST/PATH", s.URL)
	case s.Roots == nil:
		return errors.New("no authority of its server")
	case s.Mode != Reserve && s.Mode != Verify || s.Charge != Platform && s.Charge != Subject:
		return errors.New("mode or payer is not set")
	case s.Timeout <= 0 || s.InFlight < 1:
		return errors.New("no time, or no question in flight, is allowed")
	}
	return nil
}

// Services are all services that are configured. The zero Services has none.
type Services struct {
	box string // DOMAIN/BOX

	mu  sync.RWMutex
	all map[string]*client
}

// New returns the services of a box, none yet.
func New(domain, box string) *Services { return &Services{box: domain + "/" + box} }

// Check says whether Configure will take the services.
func Check(all []Service) error {
	seen := map[string]bool{}
	for _, s := range all {
		if err := s.check(); err != nil {
			return fmt.Errorf("service %s: %w", s.Alias, err)
		}
		if seen[s.Alias] {
			return fmt.Errorf("service %s is configured twice", s.Alias)
		}
		seen[s.Alias] = true
	}
	return nil
}

// Configure replaces the services. Questions under way end as they began.
func (x *Services) Configure(all []Service) error {
	if err := Check(all); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	next := make(map[string]*client, len(all))
	for _, s := range all {
		if have := x.all[s.Alias]; have != nil && have.service.Stamp == s.Stamp && s.Stamp != "" {
			next[s.Alias] = have
			continue
		}
		next[s.Alias] = newClient(x.box, s)
	}
	for alias, c := range x.all {
		if next[alias] != c {
			c.http.CloseIdleConnections()
		}
	}
	x.all = next
	return nil
}

// Ask puts a question to a service. Doubt of any kind is an answer that did not pass.
func (x *Services) Ask(ctx context.Context, service string, q release.Question) (policy.Answer, release.Held) {
	x.mu.RLock()
	c := x.all[service]
	x.mu.RUnlock()
	if c == nil {
		return policy.Answer{Service: service, Outcome: policy.Errored, Reason: "not configured"}, nil
	}
	a, held := c.ask(ctx, q)
	a.Service = service
	return a, held
}
