package label

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	bundleBlock   = "KRA BUNDLE"
	bundleContext = "kra/bundle/v1"
)

// A Bundle is what the domain gives to boxes, signed as one by K_label. With an Enrolment it is for one box; without,
// its approvals and label values are for every box of the domain.
type Bundle struct {
	Domain    Digest        `json:"domain"`
	Approvals []Approval    `json:"approvals"`
	Values    []SignedValue `json:"values,omitempty"` // what boxes show to challengers, one for each set of registers
	Enrolment *Enrolment    `json:"enrolment,omitempty"`
}

// An Enrolment takes one box into service.
type Enrolment struct {
	SRK      Name     `json:"srk"`      // the box is the one with this SRK
	LabelKey Name     `json:"labelKey"` // and this label key
	Epoch    Approval `json:"epoch"`    // first write of the epoch index
	Chain    [][]byte `json:"chain"`    // label certificate first, without the root; DER

	Authority []byte   `json:"authority"` // certificate of K_label, DER
	Platform  []byte   `json:"platform"`  // certificate of the attestation key, DER
	Passport  Passport `json:"passport"`

	Box     Box     `json:"box"`
	Officer Officer `json:"officer"`
}

// A Box is how a box is called, in its label certificate and in the leaves that its label key signs.
type Box struct {
	Name string       `json:"name"`
	DNS  []string     `json:"dns"`
	IP   []netip.Addr `json:"ip"`
}

// An Officer is the first security officer: before there is one, there are no accounts.
type Officer struct {
	Name string `json:"name"`
	Hash string `json:"hash"` // argon2id in PHC form
}

func (b Box) check() error {
	if !namePattern.MatchString(b.Name) {
		return errors.New("box name: want [a-z0-9][a-z0-9-]{0,62}")
	}
	if len(b.DNS) > MaxNames || len(b.IP) > MaxNames || len(b.DNS)+len(b.IP) == 0 {
		return fmt.Errorf("box needs 1 to %d DNS names or addresses", MaxNames)
	}
	if b.DNS == nil || b.IP == nil {
		return errors.New("box: a list is null")
	}
	for _, n := range b.DNS {
		if !hostName(n) {
			return fmt.Errorf("DNS name %.80q", n)
		}
	}
	for _, a := range b.IP {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return errors.New("address is not plain IPv4 or IPv6")
		}
	}
	return nil
}

func (o Officer) check() error {
	if !namePattern.MatchString(o.Name) || !strings.HasPrefix(o.Hash, "$argon2id$") || !printable(o.Hash, MaxDescription) {
		return errors.New("officer: want a name and an argon2id hash")
	}
	return nil
}

func (e Enrolment) check() error {
	if err := errors.Join(e.Box.check(), e.Officer.check(), e.Epoch.check()); err != nil {
		return err
	}
	if e.Epoch.Kind != Epoch {
		return errors.New("epoch approval is of another kind")
	}
	if err := e.Passport.check(); err != nil {
		return err
	}
	if e.Passport.SRK != e.SRK {
		return errors.New("passport names another storage root key")
	}
	if len(e.Authority) == 0 || len(e.Platform) == 0 {
		return errors.New("no authority or platform certificate")
	}
	if len(e.Chain) == 0 || slices.ContainsFunc(e.Chain, func(c []byte) bool { return len(c) == 0 }) {
		return errors.New("no label certificate")
	}
	return nil
}

func (b Bundle) check() error {
	if len(b.Approvals) == 0 || len(b.Approvals) > MaxApprovals {
		return fmt.Errorf("want 1 to %d approvals", MaxApprovals)
	}
	for _, a := range b.Approvals {
		if err := a.check(); err != nil {
			return err
		}
	}
	if len(b.Values) > MaxApprovals {
		return fmt.Errorf("want at most %d label values", MaxApprovals)
	}
	for _, v := range b.Values {
		if err := v.Value.check(); err != nil {
			return err
		}
	}
	if b.Enrolment != nil {
		return b.Enrolment.check()
	}
	return nil
}

type signedBundle struct {
	Bundle    Bundle `json:"bundle"`
	Signature []byte `json:"signature"`
}

func (b Bundle) signed() [32]byte {
	return sha256.Sum256(append([]byte(bundleContext+"\x00"), encode(b)...))
}

// Sign gives the bundle signed by K_label, in PEM.
func (b Bundle) Sign(key crypto.Signer) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	sig, err := signDigest(key, b.signed())
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	return armor(bundleBlock, encode(signedBundle{b, sig})), nil
}

// OpenBundle reads a bundle out of a text and verifies that this domain signed it: the bundle, each approval in it and
// the first write of the epoch. Whether it is for this box is not yet decided.
func OpenBundle(text []byte, d Domain) (Bundle, error) {
	doc, err := unarmor(bundleBlock, text)
	if err != nil {
		return Bundle{}, fmt.Errorf("open bundle: %w", err)
	}
	s, err := parseBundle(doc)
	if err != nil {
		return Bundle{}, fmt.Errorf("open bundle: %w", err)
	}
	b := s.Bundle
	if b.Domain != d.Hash() {
		return Bundle{}, fmt.Errorf("open bundle: it is of domain %s, this box is of domain %q (%s)", b.Domain.Short(), d.Name, d.Hash().Short())
	}
	if !d.Label.Verify(b.signed(), s.Signature) {
		return Bundle{}, fmt.Errorf("open bundle: not signed by the label key of domain %q", d.Name)
	}
	all := b.Approvals
	if b.Enrolment != nil {
		all = append(slices.Clone(all), b.Enrolment.Epoch)
	}
	for _, a := range all {
		if err := a.Verify(d); err != nil {
			return Bundle{}, fmt.Errorf("open bundle: %w", err)
		}
	}
	for _, v := range b.Values {
		if err := v.Verify(d); err != nil {
			return Bundle{}, fmt.Errorf("open bundle: %w", err)
		}
	}
	if b.Enrolment != nil {
		if err := b.Enrolment.certified(d); err != nil {
			return Bundle{}, fmt.Errorf("open bundle: %w", err)
		}
	}
	return b, nil
}

func parseBundle(doc []byte) (signedBundle, error) {
	var s signedBundle
	err := decode(doc, &s, func() error { return s.Bundle.check() })
	return s, err
}
