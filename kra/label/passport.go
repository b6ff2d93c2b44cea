package label

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// A Passport is what the domain found a platform to be when it enrolled it. Model and serial number are what the platform
// said: a claim, which the domain has read and signed.
type Passport struct {
	EK     Name   `json:"ek"`  // endorsement key
	SRK    Name   `json:"srk"` // storage root key: sessions are salted to no other
	AK     Name   `json:"ak"`  // attestation key
	Model  string `json:"model"`
	Serial string `json:"serial"`
}

func (p Passport) check() error {
	if p.EK == (Name{}) || p.SRK == (Name{}) || p.AK == (Name{}) || p.EK == p.SRK || p.SRK == p.AK || p.AK == p.EK {
		return errors.New("passport must name three keys")
	}
	if !printable(p.Model, MaxDescription) || !printable(p.Serial, MaxDescription) {
		return fmt.Errorf("passport: model or serial number is not 1 to %d printable bytes", MaxDescription)
	}
	return nil
}

// AttestationKeyUsage is tcg-kp-AIKCertificate, the extended key usage of platform certificates (TCG OID registry).
var AttestationKeyUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 3}

// ReadAuthority checks the authority certificate of the domain of this name, DER, against its root, and gives K_label. Whether
// it is valid now is for a caller with a clock.
func ReadAuthority(root *x509.Certificate, domain string, der []byte) (Key, *x509.Certificate, error) {
	c, pub, err := readLeaf(root, der, Domain{Name: domain}.AuthorityURI())
	if err != nil {
		return Key{}, nil, fmt.Errorf("read authority certificate: %w", err)
	}
	k, err := NewKey(pub)
	if err != nil {
		return Key{}, nil, fmt.Errorf("read authority certificate: %w", err)
	}
	return k, c, nil
}

// ReadPlatform checks the platform certificate of a box, DER, against the root of its domain. Its key is the box's attestation
// key; its subject's serialNumber the Name of the endorsement key. Whether it is valid now is for a caller with a clock.
func ReadPlatform(root *x509.Certificate, domain, box string, der []byte) (*ecdsa.PublicKey, *x509.Certificate, error) {
	c, pub, err := readLeaf(root, der, Domain{Name: domain}.PlatformURI(box))
	if err != nil {
		return nil, nil, fmt.Errorf("read platform certificate: %w", err)
	}
	if len(c.ExtKeyUsage) != 0 || len(c.UnknownExtKeyUsage) != 1 || !c.UnknownExtKeyUsage[0].Equal(AttestationKeyUsage) {
		return nil, nil, errors.New("read platform certificate: it is not for an attestation key")
	}
	return pub, c, nil
}

// readLeaf reads a certificate that the root itself signed for a P-256 key, for signatures under exactly one name.
func readLeaf(root *x509.Certificate, der []byte, uri string) (*x509.Certificate, *ecdsa.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if err := c.CheckSignatureFrom(root); err != nil {
		return nil, nil, errors.New("it is not signed by the domain's root")
	}
	if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.UnhandledCriticalExtensions) > 0 {
		return nil, nil, errors.New("it is not for signatures only")
	}
	if len(c.URIs) != 1 || c.URIs[0].String() != uri || slices.Max([]int{len(c.DNSNames), len(c.IPAddresses), len(c.EmailAddresses)}) > 0 {
		return nil, nil, fmt.Errorf("its name is not %s", uri)
	}
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, errors.New("its key is not an ECDSA key")
	}
	return c, pub, nil
}

// certified checks the two certificates that vouch for what the bundle says, beside the label certificate.
func (e Enrolment) certified(d Domain) error {
	root, err := d.Certificate()
	if err != nil {
		return err
	}
	k, _, err := ReadAuthority(root, d.Name, e.Authority)
	if err != nil {
		return err
	}
	if k != d.Label {
		return errors.New("authority certificate is for another key")
	}
	_, c, err := ReadPlatform(root, d.Name, e.Box.Name, e.Platform)
	if err != nil {
		return err
	}
	if c.Subject.SerialNumber != e.Passport.EK.String() {
		return errors.New("platform certificate names another endorsement key than the passport")
	}
	return nil
}
