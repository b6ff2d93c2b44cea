package label

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	advertContext     = "kra/advert/v1"
	retractionContext = "kra/retraction/v1"
)

// Limits of an advert.
const (
	MaxAdvert       = 96 << 10       // bytes of a signed advert
	MaxAdvertLife   = 48 * time.Hour // between issued and until
	MaxAddresses    = 8
	MaxExplanation  = 16 << 10 // bytes of the description of a label's service
	maxAddress      = 300
	maxAdvertValues = 4
	maxSerial       = 1 << 53 // that JSON readers keep exactly
)

// An Offer says what an advert promises to be ready for. It promises a potential, never that it will be so when asked.
type Offer string

const (
	Provide  Offer = "provide"       // the service of the label
	TakePart Offer = "may-take-part" // in the service, as one of those who use it
)

// An Advert is what a platform says that it could be: an advert, and never a confirmation that it is. The label key signs
// SHA-256(Bytes), r and s of 32 bytes each.
type Advert struct {
	Context   string    `json:"context"` // "kra/advert/v1"
	Domain    string    `json:"domain"`
	Name      string    `json:"name"` // of the box or platform
	Label     ID        `json:"label"`
	Part      Part      `json:"part"`
	Addresses []string  `json:"addresses"` // https://HOST:PORT, of hosts that the label certificate permits; none: it is not called
	Offer     Offer     `json:"offer"`
	Issued    time.Time `json:"issued"` // UTC, whole seconds
	Until     time.Time `json:"until"`
	Serial    uint64    `json:"serial"` // of a platform's label: a higher one takes the place of lower ones
}

// A SignedAdvert is an advert with all that is needed to believe it by the domain's root alone.
type SignedAdvert struct {
	Advert      Advert        `json:"advert"`
	Signature   []byte        `json:"signature"`   // of the label key
	Chain       [][]byte      `json:"chain"`       // label certificate first, without the root; DER
	Platform    []byte        `json:"platform"`    // certificate of the attestation key
	Authority   []byte        `json:"authority"`   // certificate of K_label
	Values      []SignedValue `json:"values"`      // the configuration that the domain approved for the label; of a server at least one
	Description string        `json:"description"` // the document that the label certificate refers to
}

// A Retraction takes back the adverts of a label of a platform, up to a serial. The label key signs SHA-256(Bytes).
type Retraction struct {
	Context string    `json:"context"` // "kra/retraction/v1"
	Domain  string    `json:"domain"`
	Name    string    `json:"name"`
	Label   ID        `json:"label"`
	Serial  uint64    `json:"serial"`
	Issued  time.Time `json:"issued"`
}

// A SignedRetraction is a retraction with what is needed to believe it.
type SignedRetraction struct {
	Retraction Retraction `json:"retraction"`
	Signature  []byte     `json:"signature"`
	Chain      [][]byte   `json:"chain"`
}

// NewAdvert makes the statement of a platform about a label of it.
func (d Domain) NewAdvert(name string, l ID, p Part, o Offer, addresses []string, issued, until time.Time, serial uint64) (Advert, error) {
	a := Advert{advertContext, d.Name, name, l, p, append([]string{}, addresses...), o, whole(issued), whole(until), serial}
	return a, a.check()
}

// NewRetraction takes back what a platform said of a label of it, up to a serial.
func (d Domain) NewRetraction(name string, l ID, serial uint64, issued time.Time) (Retraction, error) {
	r := Retraction{retractionContext, d.Name, name, l, serial, whole(issued)}
	return r, r.check()
}

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func (a Advert) check() error {
	switch {
	case a.Context != advertContext:
		return errors.New("advert: the statement is of another kind")
	case !hostName(a.Domain) || !namePattern.MatchString(a.Name) || !namePattern.MatchString(string(a.Label)):
		return errors.New("advert: a name is not one")
	case !a.Part.valid() || a.Offer != Provide && a.Offer != TakePart:
		return errors.New("advert: part or offer is not set")
	case a.Offer == Provide && (a.Part == Client || len(a.Addresses) == 0):
		return errors.New("advert: a client provides nothing, and who provides something has an address")
	case a.Part == Server && a.Offer != Provide:
		return errors.New("advert: a server provides, or says nothing")
	case a.Addresses == nil || len(a.Addresses) > MaxAddresses:
		return fmt.Errorf("advert: addresses are null or more than %d", MaxAddresses)
	case !wholeUTC(a.Issued) || !wholeUTC(a.Until) || !a.Issued.Before(a.Until) || a.Until.Sub(a.Issued) > MaxAdvertLife:
		return fmt.Errorf("advert: want issued before until, in whole seconds of UTC, and at most %s between", MaxAdvertLife)
	case a.Serial == 0 || a.Serial > maxSerial:
		return errors.New("advert: serial is zero or too high")
	}
	for i, s := range a.Addresses {
		if _, err := hostOf(s); err != nil || slices.Contains(a.Addresses[:i], s) {
			return fmt.Errorf("advert: address %.80q: want https://HOST:PORT, once", s)
		}
	}
	return nil
}

// hostOf reads the host of an address, which has one form: https://HOST:PORT, in lower case.
func hostOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxAddress {
		return "", errors.New("parse address: not a URL")
	}
	host, port, err := net.SplitHostPort(u.Host)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || "https://"+net.JoinHostPort(host, strconv.FormatUint(n, 10)) != address {
		return "", errors.New("parse address: not https://HOST:PORT")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.String() != host || a.Zone() != "" || a.Is4In6() {
			return "", errors.New("parse address: not the one form of an address")
		}
		return host, nil
	}
	if !hostName(host) {
		return "", errors.New("parse address: not a host")
	}
	return host, nil
}

// Bytes is the one JSON form.
func (a Advert) Bytes() []byte { return encode(a) }

// Digest is what the label key signs.
func (a Advert) Digest() Digest { return sha256.Sum256(a.Bytes()) }

// Bytes is the one JSON form.
func (r Retraction) Bytes() []byte { return encode(r) }

// Digest is what the label key signs.
func (r Retraction) Digest() Digest { return sha256.Sum256(r.Bytes()) }

func (r Retraction) check() error {
	switch {
	case r.Context != retractionContext:
		return errors.New("retraction: the statement is of another kind")
	case !hostName(r.Domain) || !namePattern.MatchString(r.Name) || !namePattern.MatchString(string(r.Label)):
		return errors.New("retraction: a name is not one")
	case r.Serial == 0 || r.Serial > maxSerial || !wholeUTC(r.Issued):
		return errors.New("retraction: serial is zero or too high, or issued is not in whole seconds of UTC")
	}
	return nil
}

func (s SignedAdvert) check() error {
	if err := s.Advert.check(); err != nil {
		return err
	}
	switch {
	case len(s.Signature) != signatureSize:
		return errors.New("advert: no signature")
	case len(s.Chain) == 0 || len(s.Chain) > maxChain:
		return fmt.Errorf("advert: want 1 to %d label certificates", maxChain)
	case s.Values == nil || len(s.Values) > maxAdvertValues || s.Advert.Part == Server && len(s.Values) == 0:
		return fmt.Errorf("advert: want at most %d label values, and of a server one", maxAdvertValues)
	case s.Description == "" || len(s.Description) > MaxExplanation:
		return fmt.Errorf("advert: want a description of 1 to %d bytes", MaxExplanation)
	}
	return errors.Join(someCertificates(append([][]byte{s.Platform, s.Authority}, s.Chain...)))
}

func someCertificates(ders [][]byte) error {
	for _, der := range ders {
		if len(der) == 0 || len(der) > maxCertificate {
			return fmt.Errorf("a certificate is missing or over %d bytes", maxCertificate)
		}
	}
	return nil
}

// Bytes is the one JSON form.
func (s SignedAdvert) Bytes() []byte { return encode(s) }

// ParseAdvert reads the one JSON form. It proves nothing: Verify does.
func ParseAdvert(b []byte) (SignedAdvert, error) {
	if len(b) > MaxAdvert {
		return SignedAdvert{}, fmt.Errorf("parse advert: more than %d bytes", MaxAdvert)
	}
	var s SignedAdvert
	if err := decode(b, &s, func() error { return s.check() }); err != nil {
		return SignedAdvert{}, fmt.Errorf("parse advert: %w", err)
	}
	return s, nil
}

func (s SignedRetraction) check() error {
	if len(s.Signature) != signatureSize || len(s.Chain) == 0 || len(s.Chain) > maxChain {
		return fmt.Errorf("retraction: want a signature and 1 to %d label certificates", maxChain)
	}
	return errors.Join(s.Retraction.check(), someCertificates(s.Chain))
}

// Bytes is the one JSON form.
func (s SignedRetraction) Bytes() []byte { return encode(s) }

// ParseRetraction reads the one JSON form. It proves nothing: Verify does.
func ParseRetraction(b []byte) (SignedRetraction, error) {
	if len(b) > MaxAdvert {
		return SignedRetraction{}, fmt.Errorf("parse retraction: more than %d bytes", MaxAdvert)
	}
	var s SignedRetraction
	if err := decode(b, &s, func() error { return s.check() }); err != nil {
		return SignedRetraction{}, fmt.Errorf("parse retraction: %w", err)
	}
	return s, nil
}

// An Offered is a verified advert: the platform's label key said it, in a state that the domain approved, and the domain vouches for key,
// platform and label. It is a promise of a potential: what the platform is, only a challenge shows. Only SignedAdvert.Verify makes one.
type Offered struct {
	advert        Advert
	key, platform Digest
	values        []Value
	description   string
	until         time.Time
}

// Advert is what was said.
func (o Offered) Advert() Advert { return o.advert }

// Key is the SHA-256 of the SubjectPublicKeyInfo of the label key, Attester of the attestation key.
func (o Offered) Key() Digest      { return o.key }
func (o Offered) Attester() Digest { return o.platform }

// Values are the configurations that the domain approved for the label, as far as the platform told them.
func (o Offered) Values() []Value { return slices.Clone(o.values) }

// Description is the document by which the domain describes the label.
func (o Offered) Description() string { return o.description }

// Until is when the first of advert and certificates ends.
func (o Offered) Until() time.Time { return o.until }

// Verify holds an advert against the domain's root: each certificate, that label and platform certificate are of one platform of one
// domain, the label key's signature, the time, the addresses, the values and the description. The error says which of them does not hold.
func (s SignedAdvert) Verify(roots *x509.CertPool, now time.Time) (Offered, error) {
	o, err := s.verify(Asked{Roots: roots, Now: now})
	if err != nil {
		return Offered{}, fmt.Errorf("verify advert of %.80q: %w", s.Advert.Name, err)
	}
	return o, nil
}

func (s SignedAdvert) verify(at Asked) (Offered, error) {
	if err := s.check(); err != nil {
		return Offered{}, err
	}
	a := s.Advert
	switch {
	case at.Now.Before(a.Issued.Add(-clockSlack)):
		return Offered{}, fmt.Errorf("it is not valid before %s", a.Issued.Format(time.RFC3339))
	case !at.Now.Before(a.Until):
		return Offered{}, fmt.Errorf("it ended at %s", a.Until.Format(time.RFC3339))
	}
	c, root, err := labelled(at, s.Chain, Domain{Name: a.Domain}.LabelURI(a.Label, a.Name), a.Digest(), s.Signature)
	if err != nil {
		return Offered{}, err
	}
	if err := errors.Join(fitsPart(c, a.Part), permits(c, a.Addresses), explains(c, a.Domain, s.Description)); err != nil {
		return Offered{}, err
	}
	o := Offered{advert: a, key: sha256.Sum256(c.RawSubjectPublicKeyInfo), description: s.Description, until: earliest(a.Until, c.NotAfter)}
	if err := s.vouched(at, root, &o); err != nil {
		return Offered{}, err
	}
	return o, nil
}

// vouched: the same root certified platform and authority, and that authority signed the values of this label.
func (s SignedAdvert) vouched(at Asked, root *x509.Certificate, o *Offered) error {
	for what, der := range map[string][]byte{"platform": s.Platform, "authority": s.Authority} {
		_, by, err := at.path([][]byte{der})
		if err != nil {
			return fmt.Errorf("%s certificate: %w", what, err)
		}
		if !by.Equal(root) {
			return errors.New("its certificates come from different roots")
		}
	}
	_, platform, err := ReadPlatform(root, s.Advert.Domain, s.Advert.Name, s.Platform)
	if err != nil {
		return err
	}
	authority, c, err := ReadAuthority(root, s.Advert.Domain, s.Authority)
	if err != nil {
		return err
	}
	for _, v := range s.Values {
		if err := v.Verify(Domain{Name: s.Advert.Domain, Label: authority}); err != nil {
			return err
		}
		if v.Value.Label != s.Advert.Label {
			return errors.New("label value: it is of another label")
		}
		o.values = append(o.values, v.Value)
	}
	o.platform = sha256.Sum256(platform.RawSubjectPublicKeyInfo)
	o.until = earliest(o.until, earliest(platform.NotAfter, c.NotAfter))
	return nil
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// labelled: the label key that the root certified under this name signed the digest.
func labelled(at Asked, chain [][]byte, uri string, digest [32]byte, sig []byte) (c, root *x509.Certificate, err error) {
	c, root, err = at.path(chain)
	if err != nil {
		return nil, nil, fmt.Errorf("label certificate: %w", err)
	}
	if !c.IsCA || !c.MaxPathLenZero || len(c.URIs) != 1 || c.URIs[0].String() != uri {
		return nil, nil, fmt.Errorf("label certificate: it is not one for %s", uri)
	}
	key, err := certifiedKey(c)
	if err != nil {
		return nil, nil, fmt.Errorf("label certificate: %w", err)
	}
	if !key.Verify(digest, sig) {
		return nil, nil, errors.New("statement: not signed by the label key")
	}
	return c, root, nil
}

// fitsPart holds what the platform calls itself to what the domain certified its key for.
func fitsPart(c *x509.Certificate, p Part) error {
	server, client := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth), slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	if p == Server && server || p == Client && client || p == Peer && (server || client) {
		return nil
	}
	return fmt.Errorf("label certificate: it is not for a %s", p)
}

// permits: nobody advertises another's address.
func permits(c *x509.Certificate, addresses []string) error {
	for _, a := range addresses {
		host, err := hostOf(a)
		if err != nil {
			return err
		}
		if !permitsHost(c, host) {
			return fmt.Errorf("label certificate: it does not permit the address %s", a)
		}
	}
	return nil
}

func permitsHost(c *x509.Certificate, host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return slices.ContainsFunc(c.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return slices.ContainsFunc(c.PermittedDNSDomains, func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) })
}

// explains: the document is the one that the domain fixed in the label certificate.
func explains(c *x509.Certificate, domain, document string) error {
	uri, hash, err := Description(c)
	if err != nil {
		return err
	}
	if hash != sha256.Sum256([]byte(document)) || uri != (Domain{Name: domain}).DescriptionURI([]byte(document)) {
		return errors.New("description: it is not the one that the label certificate refers to")
	}
	return nil
}

// Verify holds a retraction against the domain's root, and gives the key that made it.
func (s SignedRetraction) Verify(roots *x509.CertPool, now time.Time) (Retraction, Digest, error) {
	r := s.Retraction
	if err := s.check(); err != nil {
		return Retraction{}, Digest{}, fmt.Errorf("verify retraction: %w", err)
	}
	c, _, err := labelled(Asked{Roots: roots, Now: now}, s.Chain, Domain{Name: r.Domain}.LabelURI(r.Label, r.Name), r.Digest(), s.Signature)
	if err != nil {
		return Retraction{}, Digest{}, fmt.Errorf("verify retraction of %q: %w", r.Name, err)
	}
	return r, sha256.Sum256(c.RawSubjectPublicKeyInfo), nil
}

// Sign has a label key sign the advert, for platforms whose label key is no TPM's; the rest vouches for it.
func (a Advert) Sign(key crypto.Signer, rest SignedAdvert) (SignedAdvert, error) {
	if err := a.check(); err != nil {
		return SignedAdvert{}, fmt.Errorf("sign %w", err)
	}
	sig, err := signDigest(key, a.Digest())
	rest.Advert, rest.Signature = a, sig
	if err != nil {
		return SignedAdvert{}, fmt.Errorf("sign advert: %w", err)
	}
	return rest, rest.check()
}

// Sign has a label key sign the retraction, likewise.
func (r Retraction) Sign(key crypto.Signer, chain [][]byte) (SignedRetraction, error) {
	if err := r.check(); err != nil {
		return SignedRetraction{}, fmt.Errorf("sign %w", err)
	}
	sig, err := signDigest(key, r.Digest())
	if err != nil {
		return SignedRetraction{}, fmt.Errorf("sign retraction: %w", err)
	}
	s := SignedRetraction{r, sig, chain}
	return s, s.check()
}

// certifiedKey is the key of a certificate, which is a P-256 key.
func certifiedKey(c *x509.Certificate) (Key, error) {
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return Key{}, errors.New("not an ECDSA key")
	}
	return NewKey(pub)
}
