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

// Limits of the domains whose platforms may be decryptors.
const (
	maxDomains = 64
	maxLabels  = 64 // of one of them
)

// A PlatformDomain is a domain whose platforms may be decryptors, under its root alone. It names no person.
type PlatformDomain struct {
	Alias  kra.Anchor
	Domain string // in the names of its certificates
	Root   *x509.Certificate
	Labels []PlatformLabel // which of its labels count; no other does
}

// A PlatformLabel is a label of a domain and what it counts as here.
type PlatformLabel struct {
	Label label.ID
	As    string

	// Document is the SHA-256 of the description by which the officers know the label. If it is set, the platform has to state on its
	// connection that the label means this there. Zero: the domain's certificate says enough, as that of the box's own.
	Document label.Digest
}

// Platforms are the domains whose platforms may be decryptors, of one snapshot. They do not change. Their roots are no trust anchors of
// persons, nor the other way round.
type Platforms struct {
	pool *x509.CertPool
	all  []PlatformDomain
}

// NewPlatforms refuses what is no domain's root, and a root under which persons are believed, too.
func NewPlatforms(all []PlatformDomain, persons *Anchors) (*Platforms, error) {
	if len(all) > maxDomains {
		return nil, fmt.Errorf("load domains of platforms: %d, at most %d are allowed", len(all), maxDomains)
	}
	p := &Platforms{x509.NewCertPool(), slices.Clone(all)}
	for i, d := range p.all {
		if err := d.check(p.all[:i], persons); err != nil {
			return nil, fmt.Errorf("load domain of platforms %q: %w", d.Alias, err)
		}
		p.pool.AddCert(d.Root)
	}
	return p, nil
}

func (d PlatformDomain) check(before []PlatformDomain, persons *Anchors) error {
	if _, err := kra.ParseAnchor(string(d.Alias)); err != nil {
		return err
	}
	if d.Root == nil || !d.Root.BasicConstraintsValid || !d.Root.IsCA {
		return errors.New("is not the certificate of a certification authority")
	}
	if len(d.Labels) > maxLabels {
		return fmt.Errorf("%d labels, at most %d are allowed", len(d.Labels), maxLabels)
	}
	for _, b := range before {
		if b.Alias == d.Alias || sameKey(b.Root, d.Root) {
			return fmt.Errorf("has the alias or the root of %q", b.Alias)
		}
	}
	if persons == nil {
		return nil
	}
	for _, a := range persons.all {
		if a.Alias == d.Alias || sameKey(a.Certificate, d.Root) {
			return fmt.Errorf("is an authority of persons, too: %q", a.Alias)
		}
	}
	return nil
}

func sameKey(a, b *x509.Certificate) bool {
	return slices.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// A platform is whom a label certificate of a channel speaks for.
type platform struct {
	domain *PlatformDomain
	label  PlatformLabel
	holder label.Holder
	cert   *x509.Certificate // the label certificate
}

// permits says whether the domain of a platform still lets it be that label; keys are the SHA-256 of SubjectPublicKeyInfos of it. version is
// that of what it confirmed, 0 if it confirmed nothing. It is asked for each request, and must not wait.
type permits func(h label.Holder, version uint64, at time.Time, keys ...label.Digest) error

// identify verifies a client's certificates: a leaf, the label certificate of a client's part that signed it, and the domain's root, and
// nothing else. Who it is and as what, is read from the label certificate; the leaf may name nobody else.
func (p *Platforms) identify(sent []*x509.Certificate, now time.Time) (identity, error) {
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
	chains, err := sent[0].Verify(x509.VerifyOptions{Roots: p.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return identity{}, err
	}
	chain := chains[0]
	if len(chain) != 3 {
		return identity{}, fmt.Errorf("%d certificates from leaf to root, want 3", len(chain))
	}
	h, err := label.HolderOf(chain[1], x509.ExtKeyUsageClientAuth)
	if err != nil {
		return identity{}, err
	}
	if err := h.CheckLeaf(chain[0]); err != nil {
		return identity{}, err
	}
	d, l, err := p.of(h, chain[2])
	if err != nil {
		return identity{}, err
	}
	who, err := kra.DecryptorOf(d.Alias, kra.WholeName, chain[1])
	if err != nil {
		return identity{}, err
	}
	return lasting(identity{who: who, chain: chain, platform: &platform{d, l, h, chain[1]}}), nil
}

// of finds the domain with that root and what the label counts as.
func (p *Platforms) of(h label.Holder, root *x509.Certificate) (*PlatformDomain, PlatformLabel, error) {
	for i := range p.all {
		d := &p.all[i]
		if !d.Root.Equal(root) {
			continue
		}
		if d.Domain != h.Domain {
			return nil, PlatformLabel{}, fmt.Errorf("the root of %q certified a platform of %q", d.Domain, h.Domain)
		}
		for _, l := range d.Labels {
			if l.Label == h.Label {
				return d, l, nil
			}
		}
		return nil, PlatformLabel{}, fmt.Errorf("label %q of %q counts as nothing here", h.Label, d.Domain)
	}
	return nil, PlatformLabel{}, errors.New("chain ends at no domain's root")
}
