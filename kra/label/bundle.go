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
	Domain    Digest             `json:"domain"`
	Sequence  uint64             `json:"sequence"` // higher in each bundle that the domain makes; from 1
	Approvals []Approval         `json:"approvals"`
	Values    []SignedValue      `json:"values,omitempty"` // what boxes show to challengers, one for each label and set of registers
	Labels    []SignedDefinition `json:"labels,omitempty"` // that the domain has beside the built-in ones
	Enrolment *Enrolment         `json:"enrolment,omitempty"`
}

// An Enrolment takes one box into service.
type Enrolment struct {
	SRK    Name      `json:"srk"`    // the box is the one with this SRK
	Labels []OfLabel `json:"labels"` // and these label keys
	Epoch  Approval  `json:"epoch"`  // first write of the epoch index

	Authority []byte   `json:"authority"` // certificate of K_label, DER
	Platform  []byte   `json:"platform"`  // certificate of the attestation key, DER
	Passport  Passport `json:"passport"`

	Box     Box     `json:"box"`
	Officer Officer `json:"officer"`
}

// An OfLabel is a label key of a platform, certified.
type OfLabel struct {
	Label  ID       `json:"label"`
	Key    Name     `json:"key"`
	Chain  [][]byte `json:"chain"`            // label certificate first, without the root; DER
	Client [][]byte `json:"client,omitempty"` // likewise for clientAuth: of a peer, whose Chain is for serverAuth

	Description string `json:"description,omitempty"` // the document that the label certificate refers to; without it the platform cannot advertise
}

// Of is what an enrolment says of a label.
func (e Enrolment) Of(l ID) (OfLabel, bool) {
	for _, o := range e.Labels {
		if o.Label == l {
			return o, true
		}
	}
	return OfLabel{}, false
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
	return e.checkLabels()
}

func (e Enrolment) checkLabels() error {
	if len(e.Labels) == 0 || len(e.Labels) > MaxLabels {
		return fmt.Errorf("want 1 to %d labels", MaxLabels)
	}
	for i, o := range e.Labels {
		if _, err := ParseID(string(o.Label)); err != nil {
			return err
		}
		if len(o.Chain) == 0 || len(o.Chain)+len(o.Client) > 2*maxChain || slices.ContainsFunc(slices.Concat(o.Chain, o.Client), func(c []byte) bool { return len(c) == 0 }) {
			return fmt.Errorf("label %q: no label certificate", o.Label)
		}
		if len(o.Description) > MaxExplanation {
			return fmt.Errorf("label %q: a description of more than %d bytes", o.Label, MaxExplanation)
		}
		if slices.ContainsFunc(e.Labels[:i], func(b OfLabel) bool { return b.Label == o.Label || b.Key == o.Key }) {
			return fmt.Errorf("label %q: it, or its key, is there twice", o.Label)
		}
	}
	return nil
}

func (b Bundle) check() error {
	if b.Sequence == 0 {
		return errors.New("bundle has no number")
	}
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
	if len(b.Labels) > MaxApprovals {
		return fmt.Errorf("want at most %d label definitions", MaxApprovals)
	}
	for _, l := range b.Labels {
		if err := l.Definition.check(); err != nil {
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
// the first write of the epoch. K_recovery signs a bundle of its own approvals, and no other. Whether it is for this box is not yet decided.
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
	if !d.Label.Verify(b.signed(), s.Signature) && !(b.recovers() && d.Recovery.Verify(b.signed(), s.Signature)) {
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
	for _, l := range b.Labels {
		if err := l.Verify(d); err != nil {
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

// recovers says that nothing in a bundle needs more than the recovery key: it has signed every approval, and there is nothing else.
func (b Bundle) recovers() bool {
	return b.Enrolment == nil && len(b.Values) == 0 && !slices.ContainsFunc(b.Approvals, func(a Approval) bool { return a.By != ByRecovery })
}

func parseBundle(doc []byte) (signedBundle, error) {
	var s signedBundle
	err := decode(doc, &s, func() error { return s.Bundle.check() })
	return s, err
}
