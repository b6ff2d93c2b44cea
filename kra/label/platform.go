package label

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

const (
	platformRequestBlock   = "KRA PLATFORM REQUEST"
	platformRequestContext = "kra/platform-request/v1"
	platformBundleBlock    = "KRA PLATFORM BUNDLE"
	platformBundleContext  = "kra/platform-bundle/v1"
)

// A PlatformRequest is what a machine tells the desk that wants to ask for keys as a machine. It is an enrolment request without the
// owner's secrets, which stay the machine's owner's; its quote is over a hash of its own.
type PlatformRequest struct{ EnrolRequest }

// NewPlatformRequest is a request to be filled in.
func NewPlatformRequest(r EnrolRequest) PlatformRequest {
	r.Escrow = Escrow{Owner: []byte{}, Lockout: []byte{}, Presence: []byte{}}
	return PlatformRequest{r}
}

// Statement is the hash of everything but the quote, and what the quote vouches for.
func (r PlatformRequest) Statement() Digest {
	r.Quote = Signed{Attest: []byte{}, Signature: []byte{}}
	return sha256.Sum256(append([]byte(platformRequestContext+"\x00"), encode(r.EnrolRequest)...))
}

func (r PlatformRequest) check() error {
	if len(r.Escrow.Owner)+len(r.Escrow.Lockout)+len(r.Escrow.Presence) > 0 {
		return errors.New("a platform gives nobody its owner's secrets")
	}
	if slices.ContainsFunc(r.Keys, func(k Asking) bool { return IsBuiltin(k.Label) }) {
		return errors.New("it asks for a label of boxes")
	}
	whole := r.EnrolRequest
	some := []byte{0}
	whole.Escrow = Escrow{some, some, some}
	return whole.check()
}

// PEM is the request as text.
func (r PlatformRequest) PEM() []byte { return armor(platformRequestBlock, encode(r.EnrolRequest)) }

// ParsePlatformRequest reads a request out of a text. It proves nothing: the desk verifies it.
func ParsePlatformRequest(text []byte) (PlatformRequest, error) {
	doc, err := unarmor(platformRequestBlock, text)
	if err != nil {
		return PlatformRequest{}, fmt.Errorf("parse platform request: %w", err)
	}
	var r PlatformRequest
	if err := decode(doc, &r.EnrolRequest, func() error { return r.check() }); err != nil {
		return PlatformRequest{}, fmt.Errorf("parse platform request: %w", err)
	}
	return r, nil
}

// A PlatformBundle is what the domain answers a platform, signed by K_label. With Labels it is the platform's identity, sealed to its TPM;
// without, it approves further software for it, or for any platform in the same state.
type PlatformBundle struct {
	Domain    Digest        `json:"domain"`
	Approvals []Approval    `json:"approvals"`
	Values    []SignedValue `json:"values"`

	Name      string    `json:"name,omitempty"`
	SRK       *Name     `json:"srk,omitempty"` // the platform is the one with this SRK
	AK        *Name     `json:"ak,omitempty"`  // and this attestation key
	Labels    []OfLabel `json:"labels,omitempty"`
	Epoch     *Approval `json:"epoch,omitempty"`     // first write of the epoch index
	Authority []byte    `json:"authority,omitempty"` // certificate of K_label, DER
	Platform  []byte    `json:"platform,omitempty"`  // certificate of the attestation key, DER
}

// Enrols says that the bundle is a platform's identity.
func (b PlatformBundle) Enrols() bool { return len(b.Labels) > 0 }

func (b PlatformBundle) check() error {
	if len(b.Approvals) == 0 || len(b.Approvals) > MaxApprovals || len(b.Values) > MaxApprovals || b.Values == nil {
		return fmt.Errorf("want 1 to %d approvals, and at most as many label values", MaxApprovals)
	}
	for _, a := range b.Approvals {
		if err := a.check(); err != nil {
			return err
		}
		if a.Kind != Sign || IsBuiltin(a.Label) {
			return errors.New("an approval is not for signing as a platform's label")
		}
	}
	for _, v := range b.Values {
		if err := v.Value.check(); err != nil {
			return err
		}
	}
	if !b.Enrols() {
		if b.Name != "" || b.SRK != nil || b.AK != nil || b.Epoch != nil || b.Authority != nil || b.Platform != nil {
			return errors.New("part of an identity")
		}
		return nil
	}
	if !namePattern.MatchString(b.Name) || b.SRK == nil || b.AK == nil || b.Epoch == nil || len(b.Authority) == 0 || len(b.Platform) == 0 {
		return errors.New("a part of the identity is missing")
	}
	if err := b.Epoch.check(); err != nil || b.Epoch.Kind != Epoch || b.Epoch.Advances() {
		return errors.Join(errors.New("epoch approval is of another kind"), err)
	}
	return Enrolment{Labels: b.Labels}.checkLabels()
}

type signedPlatformBundle struct {
	Bundle    PlatformBundle `json:"bundle"`
	Signature []byte         `json:"signature"`
}

// Sign gives the bundle signed by K_label, in PEM.
func (b PlatformBundle) Sign(key crypto.Signer) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("sign platform bundle: %w", err)
	}
	sig, err := signDigest(key, digestOf(platformBundleContext, b))
	if err != nil {
		return nil, fmt.Errorf("sign platform bundle: %w", err)
	}
	return armor(platformBundleBlock, encode(signedPlatformBundle{b, sig})), nil
}

// OpenPlatformBundle reads a bundle out of a text and verifies that this domain signed it and each approval, value and certificate in it.
// Whether it is for this platform is not yet decided.
func OpenPlatformBundle(text []byte, d Domain) (PlatformBundle, error) {
	doc, err := unarmor(platformBundleBlock, text)
	if err != nil {
		return PlatformBundle{}, fmt.Errorf("open platform bundle: %w", err)
	}
	var s signedPlatformBundle
	if err := decode(doc, &s, func() error { return s.Bundle.check() }); err != nil {
		return PlatformBundle{}, fmt.Errorf("open platform bundle: %w", err)
	}
	b := s.Bundle
	if b.Domain != d.Hash() || !d.Label.Verify(digestOf(platformBundleContext, b), s.Signature) {
		return PlatformBundle{}, fmt.Errorf("open platform bundle: not signed by the label key of domain %q (%s)", d.Name, d.Hash().Short())
	}
	all := b.Approvals
	if b.Enrols() {
		all = append(slices.Clone(all), *b.Epoch)
	}
	for _, a := range all {
		if err := a.Verify(d); err != nil {
			return PlatformBundle{}, fmt.Errorf("open platform bundle: %w", err)
		}
	}
	for _, v := range b.Values {
		if err := v.Verify(d); err != nil {
			return PlatformBundle{}, fmt.Errorf("open platform bundle: %w", err)
		}
	}
	if b.Enrols() {
		err = b.certified(d)
	}
	if err != nil {
		return PlatformBundle{}, fmt.Errorf("open platform bundle: %w", err)
	}
	return b, nil
}

// certified checks that the domain's root signed each certificate, for this platform.
func (b PlatformBundle) certified(d Domain) error {
	root, err := d.Certificate()
	if err != nil {
		return err
	}
	if k, _, err := ReadAuthority(root, d.Name, b.Authority); err != nil || k != d.Label {
		return errors.Join(errors.New("authority certificate is for another key"), err)
	}
	if _, _, err := ReadPlatform(root, d.Name, b.Name, b.Platform); err != nil {
		return err
	}
	for _, l := range b.Labels {
		for der, use := range map[*[]byte]x509.ExtKeyUsage{first(l.Chain): 0, first(l.Client): x509.ExtKeyUsageClientAuth} {
			if der == nil {
				continue
			}
			c, err := x509.ParseCertificate(*der)
			if err != nil {
				return fmt.Errorf("parse label certificate: %w", err)
			}
			if use == 0 && len(c.ExtKeyUsage) == 1 {
				use = c.ExtKeyUsage[0]
			}
			h, err := HolderOf(c, use)
			if err != nil || c.CheckSignatureFrom(root) != nil || h != (Holder{Domain: d.Name, Label: l.Label, Name: b.Name}) {
				return errors.Join(fmt.Errorf("label certificate is not the domain's, for label %q of %q", l.Label, b.Name), err)
			}
		}
	}
	return nil
}

func first(chain [][]byte) *[]byte {
	if len(chain) == 0 {
		return nil
	}
	return &chain[0]
}

// AsClient is the label certificate, DER, under which a label key signs for TLS clients; nil if its part is not that.
func (o OfLabel) AsClient() []byte {
	for _, chain := range [][][]byte{o.Client, o.Chain} {
		if len(chain) == 0 {
			continue
		}
		c, err := x509.ParseCertificate(chain[0])
		if err == nil && len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth {
			return bytes.Clone(chain[0])
		}
	}
	return nil
}
