package label

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Holder is whom a label certificate speaks for: a platform of a domain, as a label.
type Holder struct {
	Domain string
	Label  ID
	Name   string

	// Unmeasured: the label key is held by something that measures no software, such as an HSM. It is as good as the word of whoever
	// runs it, and confirms nothing.
	Unmeasured bool
}

// UnmeasuredURI is the name in the label certificate of a key that no TPM holds: kra://DOMAIN/unmeasured/LABEL/NAME.
func (d Domain) UnmeasuredURI(l ID, name string) string {
	return "kra://" + d.Name + unmeasured + string(l) + "/" + name
}

const (
	measured   = "/label/"
	unmeasured = "/unmeasured/"
)

// URI is the name in the label certificate, and the only one in the leaves that its key signs for TLS clients.
func (h Holder) URI() string {
	if h.Unmeasured {
		return Domain{Name: h.Domain}.UnmeasuredURI(h.Label, h.Name)
	}
	return Domain{Name: h.Domain}.LabelURI(h.Label, h.Name)
}

// Subject is what a leaf of the holder is called. It says nothing that its URI does not.
func (h Holder) Subject() pkix.Name {
	return pkix.Name{Organization: []string{h.Domain}, CommonName: h.Name}
}

// IsLabel says whether a certificate claims to be one of a label, of whatever domain. Nobody's name is to be believed below it.
func IsLabel(c *x509.Certificate) bool {
	for _, u := range c.URIs {
		if s := u.String(); strings.HasPrefix(s, "kra://") && (strings.Contains(s, measured) || strings.Contains(s, unmeasured)) {
			return true
		}
	}
	return false
}

// HolderOf reads whom a label certificate speaks for: an authority of path length 0, for the one use, with the one name. That the
// domain's root signed it, is for the caller.
func HolderOf(c *x509.Certificate, use x509.ExtKeyUsage) (Holder, error) {
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || !c.MaxPathLenZero:
		return Holder{}, errors.New("read label certificate: it is not an authority of path length 0")
	case len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != use || len(c.UnknownExtKeyUsage) > 0:
		return Holder{}, errors.New("read label certificate: it is for another part of the service")
	case len(c.URIs) != 1 || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) > 0:
		return Holder{}, errors.New("read label certificate: it has not the one name of a label")
	}
	return parseHolder(c.URIs[0].String())
}

func parseHolder(uri string) (Holder, error) {
	fail := func() (Holder, error) {
		return Holder{}, fmt.Errorf("read label certificate: %.120q is not kra://DOMAIN/label/LABEL/NAME", uri)
	}
	parts := strings.Split(uri, "/")
	if len(parts) != 6 || parts[0] != "kra:" || parts[1] != "" {
		return fail()
	}
	h := Holder{Domain: parts[2], Label: ID(parts[4]), Name: parts[5], Unmeasured: "/"+parts[3]+"/" == unmeasured}
	if !hostName(h.Domain) || !namePattern.MatchString(parts[4]) || !namePattern.MatchString(h.Name) || h.URI() != uri {
		return fail()
	}
	return h, nil
}

// CheckLeaf holds the certificate of a platform's TLS client key to what a label key signs for it: no authority, for TLS clients only, with
// the holder's names and no others. Whoever it names is the holder; one that names somebody else is refused.
func (h Holder) CheckLeaf(leaf *x509.Certificate) error {
	want, err := asn1.Marshal(h.Subject().ToRDNSequence())
	if err != nil {
		return fmt.Errorf("read platform's leaf: %w", err)
	}
	switch {
	case leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature:
		return errors.New("read platform's leaf: it is not for signatures only")
	case !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(leaf.UnknownExtKeyUsage) > 0:
		return errors.New("read platform's leaf: it is not for TLS clients only")
	case len(leaf.URIs) != 1 || leaf.URIs[0].String() != h.URI() || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0:
		return fmt.Errorf("read platform's leaf: it has other names than %s", h.URI())
	case !bytes.Equal(leaf.RawSubject, want):
		return fmt.Errorf("read platform's leaf: it is for %.120q, its label key speaks for %s of %s only", leaf.Subject.String(), h.Name, h.Domain)
	}
	return nil
}

// KeyOf is the SHA-256 of a certificate's SubjectPublicKeyInfo, by which permissions name a key.
func KeyOf(c *x509.Certificate) Digest { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
