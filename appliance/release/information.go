package release

import (
	"crypto/x509"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// Evidence is what there is to learn about a decryptor from, before anything is decided.
type Evidence struct {
	Chain      []*x509.Certificate // verified, leaf first, up to and with the anchor's
	Decryptor  kra.Decryptor       // whom the leaf names
	Attributes [][]byte            // attribute certificates, as presented
	Tokens     []string            // as presented, without values for services
	Channel    policy.Standing     // Authenticated: the chain is that of the secure channel
	Note       func(string)        // takes what was left out and why, for the log
}

// A World is what the box knows of decryptors besides the anchors, at one time. It is comparable and does not change; it
// is asked by many goroutines, without I/O.
type World interface {
	// Resolve returns what is known about the decryptor. What is presented and malformed, or not signed as it should
	// be, is an error of the whole request; an authority that cannot be asked is not.
	Resolve(e Evidence, now time.Time, trusted bool) (policy.Information, error)

	// Revoked returns an error if a certificate of a verified chain was revoked, or if that must be known and is not.
	Revoked(chain []*x509.Certificate, now time.Time) error

	// Certificates returns chains, leaf first, that the key repository has for a decryptor of that name. Nothing in
	// them is verified up to an anchor.
	Certificates(claim string) [][]*x509.Certificate
}

// An unknownWorld knows nothing: no source is configured.
type unknownWorld struct{}

func (unknownWorld) Resolve(e Evidence, _ time.Time, _ bool) (policy.Information, error) {
	if len(e.Attributes) > 0 || len(e.Tokens) > 0 {
		return policy.Information{}, errNoSource
	}
	return policy.Information{}, nil
}

func (unknownWorld) Revoked([]*x509.Certificate, time.Time) error { return nil }

func (unknownWorld) Certificates(string) [][]*x509.Certificate { return nil }
