package store

import (
	"cmp"
	"crypto/x509"
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of the domains whose platforms may be decryptors; those of package release.
const (
	MaxPlatformDomains = 64
	MaxPlatformLabels  = 64
)

// A PlatformDomain is a domain whose platforms may be decryptors.
type PlatformDomain struct {
	Alias  kra.Anchor      `json:"alias"`
	Domain string          `json:"domain"`
	Root   []byte          `json:"root"` // DER
	Own    bool            `json:"own,omitempty"`
	Labels []PlatformLabel `json:"labels"` // sorted by label
}

// A PlatformLabel is a label of a domain that counts here.
type PlatformLabel struct {
	Label    label.ID     `json:"label"`
	As       string       `json:"as"`       // what rules call it
	Document label.Digest `json:"document"` // SHA-256 of its description, which platforms have to state; zero: of the own domain only
}

// PlatformTrust lets platforms of a domain be decryptors, as far as labels of it count.
type PlatformTrust struct {
	Alias  kra.Anchor `json:"alias"`
	Domain string     `json:"domain"`
	Root   []byte     `json:"root"` // DER
	Own    bool       `json:"own,omitempty"`
}

func (PlatformTrust) kind() string { return "platform-trust" }

func (c PlatformTrust) apply(d *State) error {
	if _, err := kra.ParseAnchor(string(c.Alias)); err != nil {
		return invalid("alias %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.Alias, kra.MaxID)
	}
	if d.aliased(string(c.Alias)) {
		return invalid("alias %q is taken", c.Alias)
	}
	if d.platforms.size() >= MaxPlatformDomains {
		return invalid("there are %d domains of platforms already, which is the limit", MaxPlatformDomains)
	}
	if c.Domain == "" || len(c.Domain) > kra.MaxID {
		return invalid("domain %.80q is not a domain's name", c.Domain)
	}
	root, err := authorityCertificate("root of "+c.Domain, c.Root)
	if err != nil {
		return err
	}
	for _, p := range d.platforms.all() {
		if is, err := x509.ParseCertificate(p.Root); err != nil || sameKey(is, root) || p.Domain == c.Domain {
			return invalid("this domain, or this root, is trusted already, as %q", p.Alias)
		}
	}
	for _, a := range d.anchors.all() {
		if is, err := x509.ParseCertificate(a.Cert); err != nil || sameKey(is, root) || is.CheckSignatureFrom(root) == nil {
			return invalid("%q is an authority of persons, and this root is the same or issued it: who certifies platforms names no persons", a.Alias)
		}
	}
	d.platforms.put(string(c.Alias), PlatformDomain{c.Alias, c.Domain, c.Root, c.Own, []PlatformLabel{}})
	return nil
}

// labelsPlatforms says whether an authority, its certificate at hand, certifies labels: it is a domain's root, one of those issued it, or it
// is a label key's.
func (s *State) labelsPlatforms(cert *x509.Certificate) bool {
	for _, p := range s.platforms.all() {
		if root, err := x509.ParseCertificate(p.Root); err != nil || sameKey(root, cert) || cert.CheckSignatureFrom(root) == nil {
			return true
		}
	}
	return label.IsLabel(cert)
}

func sameKey(a, b *x509.Certificate) bool {
	return slices.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// aliased says whether an alias is that of a certification authority, a source or a domain of platforms.
func (s *State) aliased(alias string) bool {
	return s.anchors.has(alias) || s.sources.has(alias) || s.platforms.has(alias)
}

// authorityCertificate reads the certificate of an authority by which something is to be verified often.
func authorityCertificate(what string, der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil || len(der) > maxCertificate {
		return nil, invalid("%s: not a certificate", what)
	}
	if err := kra.CheckCertificateKey(cert); err != nil {
		return nil, invalid("%s: %v: to verify by it takes too long", what, err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return nil, invalid("%s: the certificate of %q is not an authority's", what, cert.Subject)
	}
	return cert, nil
}

// PlatformLabelSet has a label of a domain count, or count as something else.
type PlatformLabelSet struct {
	Alias kra.Anchor    `json:"alias"`
	Label PlatformLabel `json:"label"`
}

func (PlatformLabelSet) kind() string { return "platform-label-set" }

func (c PlatformLabelSet) apply(d *State) error {
	p, ok := d.platforms.get(string(c.Alias))
	if !ok {
		return invalid("there is no domain of platforms %.80q", c.Alias)
	}
	if _, err := label.ParseID(string(c.Label.Label)); err != nil || kra.CheckName(c.Label.As) != nil {
		return invalid("label %.80q as %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.Label.Label, c.Label.As, kra.MaxID)
	}
	if !p.Own && c.Label.Document == (label.Digest{}) {
		return invalid("what label %q means at %s has to be said: the SHA-256 of its description", c.Label.Label, p.Domain)
	}
	p.Labels = slices.DeleteFunc(slices.Clone(p.Labels), func(l PlatformLabel) bool { return l.Label == c.Label.Label })
	if len(p.Labels) >= MaxPlatformLabels {
		return invalid("%d labels of %s count already, which is the limit", MaxPlatformLabels, p.Domain)
	}
	p.Labels = append(p.Labels, c.Label)
	slices.SortFunc(p.Labels, func(a, b PlatformLabel) int { return cmp.Compare(a.Label, b.Label) })
	d.platforms.put(string(c.Alias), p)
	return nil
}

// PlatformLabelRemove has a label of a domain count no longer.
type PlatformLabelRemove struct {
	Alias kra.Anchor `json:"alias"`
	Label label.ID   `json:"label"`
}

func (PlatformLabelRemove) kind() string { return "platform-label-remove" }

func (c PlatformLabelRemove) apply(d *State) error {
	p, _ := d.platforms.get(string(c.Alias))
	n := len(p.Labels)
	p.Labels = slices.DeleteFunc(slices.Clone(p.Labels), func(l PlatformLabel) bool { return l.Label == c.Label })
	if len(p.Labels) == n {
		return invalid("label %.80q of %.80q counts as nothing", c.Label, c.Alias)
	}
	d.platforms.put(string(c.Alias), p)
	return nil
}

// PlatformDistrust lets platforms of a domain be decryptors no longer.
type PlatformDistrust struct {
	Alias kra.Anchor `json:"alias"`
}

func (PlatformDistrust) kind() string { return "platform-distrust" }

func (c PlatformDistrust) apply(d *State) error {
	if !d.platforms.has(string(c.Alias)) {
		return invalid("there is no domain of platforms %.80q", c.Alias)
	}
	d.platforms.remove(string(c.Alias))
	return nil
}

// Platforms returns the domains whose platforms may be decryptors, by alias.
func (s *State) Platforms() []PlatformDomain { return s.platforms.sorted() }

// Platform returns one of them.
func (s *State) Platform(a kra.Anchor) (PlatformDomain, bool) { return s.platforms.get(string(a)) }
