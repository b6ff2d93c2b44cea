package release

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// A knowledge is what a World of the tests says; the real one has tests of its own. Each edit makes a new World.
type knowledge struct {
	said atomic.Pointer[sayings]
	slow atomic.Int64 // nanoseconds that an answer takes
}

type sayings struct {
	items       []policy.Item
	unavailable []kra.Anchor
	notes       []string
	revoked     []*x509.Certificate
	repository  map[string][][]*x509.Certificate
	asked       atomic.Int64
	last        atomic.Pointer[Evidence]
	slow        *atomic.Int64
}

func (k *knowledge) now() World {
	if s := k.said.Load(); s != nil {
		return s
	}
	return nil
}

// errForged is what a forged attribute certificate or token comes to.
var errForged = errors.New("not signed by any authority")

// Resolve believes an attribute certificate "good" and tokens "good", and refuses any other.
func (s *sayings) Resolve(e Evidence, _ time.Time, _ bool) (policy.Information, error) {
	s.asked.Add(1)
	s.last.Store(&e)
	if s.slow != nil {
		time.Sleep(time.Duration(s.slow.Load()))
	}
	items := slices.Clone(s.items)
	for _, a := range e.Attributes {
		if string(a) != "good" {
			return policy.Information{}, errForged
		}
		items = append(items, policy.Item{Kind: policy.Role, Name: "teller", Authority: "corp-aa", Via: policy.Presented})
	}
	for _, t := range e.Tokens {
		if t != "good" {
			return policy.Information{}, errForged
		}
		items = append(items, policy.Item{Kind: policy.Group, Name: "legal", Authority: "idp", Via: policy.Token})
	}
	e.Note("ldap-two: image is too old")
	for _, n := range s.notes {
		e.Note(n)
	}
	return policy.NewInformation(items, s.unavailable)
}

func (s *sayings) Revoked(chain []*x509.Certificate, _ time.Time) error {
	for _, c := range chain {
		if slices.ContainsFunc(s.revoked, c.Equal) {
			return errors.New("revoked")
		}
	}
	return nil
}

func (s *sayings) Certificates(claim string) [][]*x509.Certificate { return s.repository[claim] }

// askable hands questions to the world's services.
type askable struct{ w *world }

func (a askable) Ask(ctx context.Context, service string, q Question) (policy.Answer, Held) {
	if a.w.outside == nil {
		return policy.Answer{Outcome: policy.Errored, Reason: "nobody there"}, nil
	}
	return a.w.outside.Ask(ctx, service, q)
}
