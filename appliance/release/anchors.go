package release

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of what a client may have verified.
const (
	maxAnchors = 256
	maxChain   = 8 // certificates that a client sends
)

// An Anchor is a certification authority whose word about decryptors' names the box takes. An alias may have several
// certificates, as when the authority renews its own; they have one naming.
type Anchor struct {
	Alias       kra.Anchor
	Naming      kra.Naming
	Certificate *x509.Certificate
}

// Anchors are the trust anchors of one snapshot. They do not change.
type Anchors struct {
	pool *x509.CertPool
	all  []Anchor
}

// NewAnchors refuses what is no certification authority and what would give one certificate two names.
func NewAnchors(all []Anchor) (*Anchors, error) {
	if len(all) > maxAnchors {
		return nil, fmt.Errorf("load trust anchors: %d, at most %d are allowed", len(all), maxAnchors)
	}
	a := &Anchors{x509.NewCertPool(), slices.Clone(all)}
	for i, x := range a.all {
		if err := x.check(a.all[:i]); err != nil {
			return nil, fmt.Errorf("load trust anchor %q: %w", x.Alias, err)
		}
		a.pool.AddCert(x.Certificate)
	}
	return a, nil
}

func (x Anchor) check(before []Anchor) error {
	if _, err := kra.ParseAnchor(string(x.Alias)); err != nil {
		return err
	}
	if x.Naming != kra.WholeName && x.Naming != kra.CommonName {
		return errors.New("naming is not set")
	}
	if c := x.Certificate; c == nil || !c.BasicConstraintsValid || !c.IsCA {
		return errors.New("is not the certificate of a certification authority")
	}
	for _, b := range before {
		if b.Certificate.Equal(x.Certificate) {
			return fmt.Errorf("is the same certificate as %q", b.Alias)
		}
		if b.Alias == x.Alias && b.Naming != x.Naming {
			return errors.New("has two namings")
		}
	}
	return nil
}

// An identity is who a client proved to be, until when.
type identity struct {
	who         kra.Decryptor
	chain       []*x509.Certificate // verified, leaf first, anchor last
	from, until time.Time           // every certificate of the chain is valid
	platform    *platform           // nil: a person, or a service
}

var (
	errNoCertificate = errors.New("no client certificate")
	errLongChain     = errors.New("too many certificates")
	errLabelled      = errors.New("a label key stands in the chain: nobody's name is believed below one")
)

// identify verifies a client's certificates, leaf first, as of now. Whether the client has the leaf's private key, TLS
// has found out.
func (a *Anchors) identify(sent []*x509.Certificate, now time.Time) (identity, error) {
	return a.verify(sent, now, x509.ExtKeyUsageClientAuth)
}

// recipient verifies certificates that keys may be sealed to. Nobody has shown that he has the leaf's private key. It may
// be one for authentication or, as keys for encryption commonly have, for mail.
func (a *Anchors) recipient(sent []*x509.Certificate, now time.Time) (identity, error) {
	return a.verify(sent, now, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection)
}

// verify returns whom the leaf names. Of several chains the shortest counts: the nearest anchor names.
func (a *Anchors) verify(sent []*x509.Certificate, now time.Time, uses ...x509.ExtKeyUsage) (identity, error) {
	if len(sent) == 0 {
		return identity{}, errNoCertificate
	}
	if len(sent) > maxChain {
		return identity{}, errLongChain
	}
	between := x509.NewCertPool()
	for _, c := range sent[1:] {
		between.AddCert(c)
	}
	chains, err := sent[0].Verify(x509.VerifyOptions{Roots: a.pool, Intermediates: between, CurrentTime: now, KeyUsages: uses})
	if err != nil {
		return identity{}, err
	}
	chain := slices.MinFunc(chains, func(x, y []*x509.Certificate) int { return len(x) - len(y) })
	if slices.ContainsFunc(chain, label.IsLabel) {
		return identity{}, errLabelled
	}
	for _, x := range a.all {
		if x.Certificate.Equal(chain[len(chain)-1]) {
			return named(x, chain)
		}
	}
	return identity{}, errors.New("chain ends at no anchor")
}

func named(x Anchor, chain []*x509.Certificate) (identity, error) {
	who, err := kra.DecryptorOf(x.Alias, x.Naming, chain[0])
	if err != nil {
		return identity{}, err
	}
	return lasting(identity{who: who, chain: chain}), nil
}

// lasting fills in from when until when all certificates of the chain are valid.
func lasting(id identity) identity {
	id.from, id.until = id.chain[0].NotBefore, id.chain[0].NotAfter
	for _, c := range id.chain[1:] {
		if c.NotBefore.After(id.from) {
			id.from = c.NotBefore
		}
		if c.NotAfter.Before(id.until) {
			id.until = c.NotAfter
		}
	}
	return id
}
