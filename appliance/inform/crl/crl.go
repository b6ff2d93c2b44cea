// Package crl reads certificate revocation lists (RFC 5280, section 5): whole ones, signed by the very authority whose certificates they revoke.
package crl

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Limits of the parser. A list of the greatest size has some 200,000 entries.
const (
	MaxSize   = 8 << 20 // bytes
	maxSerial = 20      // octets of a serial number
)

// PEMType is the label of a list as text (RFC 7468).
const PEMType = "X509 CRL"

// Extensions of a list, and of its entries, that are understood. Of all others, one that is critical refuses the list; an
// issuing distribution point refuses it always, since such a list may be a part of one.
var (
	oidDelta  = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP    = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidReason = asn1.ObjectIdentifier{2, 5, 29, 21}
)

// A List is the verified list of one authority. It does not change.
type List struct {
	name    []byte // DER name of the issuer
	key     []byte // its SubjectPublicKeyInfo
	number  *big.Int
	from    time.Time
	until   time.Time
	revoked map[string]struct{} // by serial number, big-endian
}

// Parse reads a list, DER or PEM, and verifies that one of the issuers signed it.
func Parse(b []byte, issuers ...*x509.Certificate) (*List, error) {
	l, err := parse(b, issuers)
	if err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	return l, nil
}

func parse(b []byte, issuers []*x509.Certificate) (*List, error) {
	if len(b) > 2*MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	if p, rest := pem.Decode(b); p != nil {
		if p.Type != PEMType || len(p.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 {
			return nil, errors.New("want one PEM block " + PEMType)
		}
		b = p.Bytes
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	raw, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, err
	}
	if len(raw.Raw) != len(b) {
		return nil, errors.New("something follows it")
	}
	issuer, err := signer(raw, issuers)
	if err != nil {
		return nil, err
	}
	if err := checkExtensions(raw); err != nil {
		return nil, err
	}
	return newList(raw, issuer)
}

// signer finds who signed the list.
func signer(raw *x509.RevocationList, issuers []*x509.Certificate) (*x509.Certificate, error) {
	err := errors.New("is of another authority")
	for _, c := range issuers {
		if !bytes.Equal(raw.RawIssuer, c.RawSubject) {
			continue
		}
		if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCRLSign == 0 {
			err = errors.New("its issuer may not sign revocation lists: key usage is without cRLSign")
			continue
		}
		if err = c.CheckSignature(raw.SignatureAlgorithm, raw.RawTBSRevocationList, raw.Signature); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func checkExtensions(raw *x509.RevocationList) error {
	for _, e := range raw.Extensions {
		switch {
		case e.Id.Equal(oidDelta):
			return errors.New("is a delta list, which is not supported")
		case e.Id.Equal(oidIDP):
			return errors.New("has an issuing distribution point: indirect and partial lists are not supported")
		case e.Critical:
			return fmt.Errorf("has the unknown critical extension %v", e.Id)
		}
	}
	for _, r := range raw.RevokedCertificateEntries {
		for _, e := range r.Extensions {
			if e.Critical && !e.Id.Equal(oidReason) {
				return fmt.Errorf("has an entry with the unknown critical extension %v", e.Id)
			}
		}
	}
	return nil
}

func newList(raw *x509.RevocationList, issuer *x509.Certificate) (*List, error) {
	l := &List{name: bytes.Clone(issuer.RawSubject), key: bytes.Clone(issuer.RawSubjectPublicKeyInfo), number: raw.Number,
		from: raw.ThisUpdate, until: raw.NextUpdate, revoked: make(map[string]struct{}, len(raw.RevokedCertificateEntries))}
	if l.until.IsZero() {
		return nil, errors.New("does not say when the next one comes")
	}
	if l.until.Before(l.from) {
		return nil, errors.New("ends before it begins")
	}
	if l.number == nil {
		l.number = new(big.Int)
	}
	for _, r := range raw.RevokedCertificateEntries {
		if r.SerialNumber.Sign() < 0 || r.SerialNumber.BitLen() > 8*maxSerial {
			return nil, errors.New("has an entry with a malformed serial number")
		}
		l.revoked[string(r.SerialNumber.Bytes())] = struct{}{}
	}
	return l, nil
}

// Of reports whether the list is of the owner of c: the same name and the same key.
func (l *List) Of(c *x509.Certificate) bool {
	return bytes.Equal(l.name, c.RawSubject) && bytes.Equal(l.key, c.RawSubjectPublicKeyInfo)
}

// Revoked reports whether the list has the number.
func (l *List) Revoked(serial *big.Int) bool {
	_, ok := l.revoked[string(serial.Bytes())]
	return ok
}

// Len returns how many certificates are revoked.
func (l *List) Len() int { return len(l.revoked) }

// From returns when the list was made.
func (l *List) From() time.Time { return l.from }

// AtMost returns the list, as one that says nothing once it is older than age, whatever it says itself. It is as old as its
// own date says, not as the fetching of it: who answers for ever with yesterday's list, is believed no longer. Zero: no limit.
func (l *List) AtMost(age time.Duration) *List {
	c := *l
	if end := l.from.Add(age); age > 0 && end.Before(c.until) {
		c.until = end
	}
	return &c
}

// Until returns when the next list is due. After that this one says nothing.
func (l *List) Until() time.Time { return l.until }

// Stale reports whether the next list is overdue.
func (l *List) Stale(now time.Time) bool { return now.After(l.until) }

// Newer reports whether l was made after other, which may be nil. Of two lists of one time the higher number is newer.
func (l *List) Newer(other *List) bool {
	if other == nil {
		return true
	}
	if c := l.from.Compare(other.from); c != 0 {
		return c > 0
	}
	return l.number.Cmp(other.number) > 0
}
