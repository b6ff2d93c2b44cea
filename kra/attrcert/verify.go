package attrcert

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Why a certificate is refused, where a caller branches.
var (
	ErrIssuer      = errors.New("is not issued by this authority")
	ErrHolder      = errors.New("speaks of somebody else")
	ErrTarget      = errors.New("is meant for another verifier")
	ErrNoList      = errors.New("can be revoked, and no revocation list of its issuer is known")
	ErrRevoked     = errors.New("is revoked")
	ErrExpired     = errors.New("is expired")
	ErrNotYetValid = errors.New("is not valid yet")
)

// A Check is what a certificate is verified against.
type Check struct {
	Issuer  *x509.Certificate // of an authority that the verifier trusts to issue attribute certificates
	Holder  *x509.Certificate // whose owner the certificate must speak of
	Targets []string          // names of the verifier: DNS names and URIs

	// Revoked returns ErrRevoked for the number of a revoked certificate of the issuer, another error if that is not
	// known. Nil: there is no list, and only a certificate that cannot be revoked passes.
	Revoked func(serial *big.Int) error
}

// A Verified is what an authority says of a holder. Only Verify makes one. Whether its time has come, ValidAt says.
type Verified struct {
	content
	from, until time.Time
}

// IssuedBy reports whether the certificate says to be issued by the owner of c.
func (c Certificate) IssuedBy(issuer *x509.Certificate) bool {
	return c.issuer != nil && bytes.Equal(c.issuer, issuer.RawSubject) && c.extensions.signer(issuer)
}

// A Signed is a certificate whose issuer and signature were verified. Only SignedBy makes one.
type Signed struct {
	c      Certificate
	issuer *x509.Certificate
}

// SignedBy verifies that the owner of issuer signed the certificate and may issue such. That is the slow part, and the same
// for every request.
func (c Certificate) SignedBy(issuer *x509.Certificate) (Signed, error) {
	if !c.IssuedBy(issuer) {
		return Signed{}, refused(ErrIssuer)
	}
	if err := CheckIssuer(issuer); err != nil {
		return Signed{}, refused(err)
	}
	if err := issuer.CheckSignature(c.algorithm.x509, c.tbs, c.signature); err != nil {
		return Signed{}, refused(fmt.Errorf("signature: %w", err))
	}
	return Signed{c, issuer}, nil
}

func refused(err error) error { return fmt.Errorf("verify attribute certificate: %w", err) }

// Certificate returns what was verified.
func (s Signed) Certificate() Certificate { return s.c }

// Verify checks everything but the time: issuer, signature, holder, target, revocation.
func (c Certificate) Verify(k Check) (Verified, error) {
	s, err := c.SignedBy(k.Issuer)
	if err != nil {
		return Verified{}, err
	}
	return s.Verify(k)
}

// Verify checks what remains besides the time: holder, target, revocation. The check's issuer is not looked at.
func (s Signed) Verify(k Check) (Verified, error) {
	if err := s.verify(k); err != nil {
		return Verified{}, refused(err)
	}
	v := Verified{s.c.content, s.c.from, s.c.until}
	if s.issuer.NotBefore.After(v.from) {
		v.from = s.issuer.NotBefore
	}
	if s.issuer.NotAfter.Before(v.until) {
		v.until = s.issuer.NotAfter
	}
	return v, nil
}

func (s Signed) verify(k Check) error {
	c := s.c
	if s.issuer == nil {
		return ErrIssuer
	}
	if !c.holder.is(k.Holder) {
		return ErrHolder
	}
	if c.extensions.targeted && !slices.ContainsFunc(c.extensions.targets, func(t string) bool { return slices.Contains(k.Targets, t) }) {
		return ErrTarget
	}
	if c.extensions.noRevocation {
		return nil
	}
	if k.Revoked == nil {
		return ErrNoList
	}
	return k.Revoked(c.Serial())
}

// From and Until return when the certificate is valid, its issuer's certificate being so too.
func (v Verified) From() time.Time { return v.from }

// Until returns the last second of validity.
func (v Verified) Until() time.Time { return v.until }

// ValidAt returns ErrNotYetValid or ErrExpired outside the validity. The zero Verified is expired.
func (v Verified) ValidAt(now time.Time) error {
	now = now.Truncate(time.Second)
	switch {
	case now.After(v.until):
		return ErrExpired
	case now.Before(v.from):
		return ErrNotYetValid
	}
	return nil
}

// Groups returns the holder's groups. The caller must not write to them, nor to what the methods below return.
func (v Verified) Groups() []string { return v.groups }

// Roles returns the URIs of the holder's roles.
func (v Verified) Roles() []string { return v.roles }

// Clearances returns the holder's clearances.
func (v Verified) Clearances() []Clearance { return v.clearances }

// Attributes returns attributes of other types that have string values.
func (v Verified) Attributes() []Attribute { return v.others }

// Ignored says what the certificate has besides, in words for a log.
func (v Verified) Ignored() []string { return v.ignored }
