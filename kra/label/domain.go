package label

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A Domain is the public part of the organisation that owns a box. It is in the image and therefore in PCR 11: a box
// can be taken into service by its domain only.
type Domain struct {
	Name     string `json:"name"`     // [a-z0-9.-], at most 63
	Root     []byte `json:"root"`     // X.509 certificate, DER
	Label    Key    `json:"label"`    // K_label
	Recovery Key    `json:"recovery"` // K_recovery
	Escrow   string `json:"escrow"`   // age recipient that the owner's secrets are encrypted to
}

// Key is the domain key of a signatory, or the zero key.
func (d Domain) Key(s Signatory) Key {
	switch s {
	case ByLabel:
		return d.Label
	case ByRecovery:
		return d.Recovery
	}
	return Key{}
}

// Certificate is the root, parsed.
func (d Domain) Certificate() (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(d.Root)
	if err != nil {
		return nil, fmt.Errorf("parse domain root: %w", err)
	}
	return c, nil
}

func (d Domain) check() error {
	c, err := d.Certificate()
	switch {
	case err != nil:
		return err
	case !hostName(d.Name):
		return errors.New("name: want a host name of [a-z0-9.-], at most 63")
	case !c.IsCA || !c.BasicConstraintsValid:
		return errors.New("root is not a certificate authority")
	case d.Label.IsZero() || d.Recovery.IsZero() || d.Label == d.Recovery:
		return errors.New("label and recovery key must be two keys")
	case !strings.HasPrefix(d.Escrow, "age1") || !printable(d.Escrow, MaxDescription):
		return errors.New("escrow is not an age recipient")
	}
	return nil
}

// hostName says that a name can be the authority of a URI, which a name constraint is about.
// CheckName says whether a domain may be called so.
func CheckName(name string) error {
	if !hostName(name) {
		return errors.New("name: want a host name of [a-z0-9.-], at most 63")
	}
	return nil
}

func hostName(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil && domainPattern.MatchString(s) && !strings.Contains(s, "..")
}

// Bytes is the one JSON form.
func (d Domain) Bytes() []byte { return encode(d) }

// Hash is the SHA-256 of the one JSON form.
func (d Domain) Hash() Digest { return sha256.Sum256(d.Bytes()) }

// ParseDomain reads the one JSON form.
func ParseDomain(b []byte) (Domain, error) {
	var d Domain
	if err := decode(b, &d, func() error { return d.check() }); err != nil {
		return Domain{}, fmt.Errorf("parse domain: %w", err)
	}
	return d, nil
}

// AuthorityURI is the name in the certificate of K_label: kra://DOMAIN/authority/label.
func (d Domain) AuthorityURI() string { return "kra://" + d.Name + "/authority/label" }

// PlatformURI is the name in the certificate of a box's attestation key: kra://DOMAIN/platform/BOX.
func (d Domain) PlatformURI(box string) string { return "kra://" + d.Name + "/platform/" + box }

// KeyReleaseURI is the name in a key-release certificate: kra://DOMAIN/ACCESS-ID.
func (d Domain) KeyReleaseURI(access string) string { return "kra://" + d.Name + "/" + access }

// ReceiptURI is the name in a receipt key's certificate: kra://DOMAIN/receipt/BOX.
func (d Domain) ReceiptURI(box string) string { return "kra://" + d.Name + "/receipt/" + box }

// ImportURI is the name in the certificate of the key to which private keys are wrapped for a box: kra://DOMAIN/import/BOX.
func (d Domain) ImportURI(box string) string { return "kra://" + d.Name + "/import/" + box }

// LabelURI is the name in a label certificate: kra://DOMAIN/label/LABEL/BOX.
func (d Domain) LabelURI(l ID, box string) string {
	return "kra://" + d.Name + "/label/" + string(l) + "/" + box
}
