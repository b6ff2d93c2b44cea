package desk

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
)

// RevokedFile is the list of certificates that the root has taken back (RFC 5280), in PEM: `openssl verify -crl_check -CRLfile` reads it.
const RevokedFile = "root.crl"

// revocationList is the root's list that goes with permissions: every certificate of an enrolled platform that is revoked, and those
// of earlier lists whose platform is unknown by now.
func (d *Desk) revocationList(p label.Permissions) ([]byte, error) {
	issued, err := d.issued()
	if err != nil {
		return nil, err
	}
	old, err := d.lastList()
	if err != nil {
		return nil, err
	}
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: p.Issued, NextUpdate: p.Until}
	known := map[string]bool{}
	for _, c := range issued {
		known[c.cert.SerialNumber.String()] = true
		if e, ok := c.revokedBy(p); ok {
			t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.cert.SerialNumber, RevocationTime: e.Since})
		}
	}
	if old != nil {
		t.Number.Add(old.Number, t.Number)
		for _, e := range old.RevokedCertificateEntries {
			if !known[e.SerialNumber.String()] {
				t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, e)
			}
		}
	}
	slices.SortFunc(t.RevokedCertificateEntries, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	der, err := x509.CreateRevocationList(rand.Reader, t, d.root, d.issuer)
	if err != nil {
		return nil, fmt.Errorf("list revoked certificates: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// An issuedTo is a certificate that the root signed, for a platform by this name and, unless it is that of the attestation key, a label.
type issuedTo struct {
	name  string
	label label.ID
	cert  *x509.Certificate
}

// revokedBy finds the entry by which the certificate is revoked. The attestation key falls only with all labels.
func (c issuedTo) revokedBy(p label.Permissions) (label.Permission, bool) {
	key := label.Digest(sha256.Sum256(c.cert.RawSubjectPublicKeyInfo))
	for _, e := range p.Entries {
		if e.State == label.Revoked && (e.Name == "" || e.Name == c.name) && (e.Label == "" || e.Label == c.label) && (e.Key == label.Digest{} || e.Key == key) {
			return e, true
		}
	}
	return label.Permission{}, false
}

// issued are the certificates in the last bundles of all enrolled platforms.
func (d *Desk) issued() (out []issuedTo, err error) {
	boxes, err := d.books()
	if err != nil {
		return nil, err
	}
	if out, err = d.issuedToPlatforms(); err != nil {
		return nil, err
	}
	for _, e := range boxes {
		name := e.Box.Name
		for _, x := range append(labelled(*e), ofLabel{"", e.Platform}) {
			c, err := x509.ParseCertificate(x.der)
			if err != nil {
				return nil, fmt.Errorf("read certificate of %s: %w", name, err)
			}
			out = append(out, issuedTo{name, x.label, c})
		}
	}
	return out, nil
}

type ofLabel struct {
	label label.ID
	der   []byte
}

// labelled are the label certificates of a platform.
func labelled(e label.Enrolment) (out []ofLabel) {
	for _, o := range e.Labels {
		out = append(out, ofLabel{o.Label, o.Chain[0]})
		if len(o.Client) > 0 {
			out = append(out, ofLabel{o.Label, o.Client[0]})
		}
	}
	return out
}

func (d *Desk) lastList() (*x509.RevocationList, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, RevokedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list of revoked certificates: %w", err)
	}
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, fmt.Errorf("read list of revoked certificates: %s is not PEM", RevokedFile)
	}
	l, err := x509.ParseRevocationList(p.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read list of revoked certificates: %w", err)
	}
	if err := l.CheckSignatureFrom(d.root); err != nil {
		return nil, fmt.Errorf("read list of revoked certificates: it is not the root's: %w", err)
	}
	return l, nil
}

// KeyOf is how permissions name the key of a certificate.
func KeyOf(c *x509.Certificate) label.Digest { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
