package attrcert

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Extensions that are understood (RFC 5755, section 4.3). CRL distribution points are only known to be there: where a CRL
// comes from, the verifier's configuration says alone.
var (
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidTargets      = asn1.ObjectIdentifier{2, 5, 29, 55}
	oidNoRevocation = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidPoints       = asn1.ObjectIdentifier{2, 5, 29, 31}
)

// extensions are what the extensions say.
type extensions struct {
	noRevocation bool
	points       bool
	targeted     bool
	targets      []string // DNS names and URIs of the verifiers meant
	keyID        []byte   // of the issuer's certificate; nil: not given
	keyIssuer    []byte   // DER name; nil: not given
	keySerial    *big.Int
}

func readExtensions(in cryptobyte.String) (x extensions, err error) {
	var seen []string
	for !in.Empty() {
		var e, value cryptobyte.String
		critical := false
		if !in.ReadASN1(&e, der.SEQUENCE) {
			return x, malformed("extension")
		}
		oid, err := readOID(&e)
		if err != nil {
			return x, err
		}
		if e.PeekASN1Tag(der.BOOLEAN) && (!e.ReadASN1Boolean(&critical) || !critical) || !e.ReadASN1(&value, der.OCTET_STRING) || !e.Empty() {
			return x, fmt.Errorf("extension %v: malformed", oid)
		}
		if slices.Contains(seen, oid.String()) || len(seen) == maxExtensions {
			return x, fmt.Errorf("extension %v stands twice, or after %d others", oid, maxExtensions)
		}
		seen = append(seen, oid.String())
		if err := x.read(oid, critical, value); err != nil {
			return x, fmt.Errorf("extension %v: %w", oid, err)
		}
	}
	if x.noRevocation && x.points {
		return x, errors.New("says both that it cannot be revoked and where its revocation is published")
	}
	return x, nil
}

func (x *extensions) read(oid asn1.ObjectIdentifier, critical bool, value cryptobyte.String) error {
	count := 0
	switch {
	case oid.Equal(oidNoRevocation):
		x.noRevocation = true
		if !bytes.Equal(value, []byte{byte(der.NULL), 0}) {
			return malformed("value")
		}
		return nil
	case oid.Equal(oidTargets):
		x.targeted = true
		return errors.Join(checkDER(value, 0, &count), x.readTargets(value))
	case oid.Equal(oidAuthorityKey):
		return errors.Join(checkDER(value, 0, &count), x.readAuthorityKey(value))
	case oid.Equal(oidPoints):
		x.points = true
		return checkDER(value, 0, &count)
	case critical:
		return errors.New("is critical and unknown")
	}
	return nil
}

// readTargets reads SEQUENCE OF Targets. Of the targets, those that are no DNS name and no URI are nobody here.
func (x *extensions) readTargets(in cryptobyte.String) error {
	var all cryptobyte.String
	if !in.ReadASN1(&all, der.SEQUENCE) || !in.Empty() || all.Empty() {
		return malformed("targets")
	}
	for !all.Empty() {
		var targets cryptobyte.String
		if !all.ReadASN1(&targets, der.SEQUENCE) {
			return malformed("targets")
		}
		for !targets.Empty() {
			var target, name cryptobyte.String
			var kind, tag der.Tag
			if !targets.ReadAnyASN1(&target, &kind) {
				return malformed("targets")
			}
			if kind != contextual(0) && kind != contextual(1) { // targetName, targetGroup
				continue
			}
			if !target.ReadAnyASN1(&name, &tag) || !target.Empty() {
				return malformed("targets")
			}
			if tag == context(2) || tag == context(6) {
				x.targets = append(x.targets, string(name))
			}
		}
	}
	return nil
}

// readAuthorityKey reads AuthorityKeyIdentifier (RFC 5280, section 4.2.1.1).
func (x *extensions) readAuthorityKey(in cryptobyte.String) (err error) {
	var v, id, names, serial cryptobyte.String
	var hasID, hasIssuer, hasSerial bool
	if !in.ReadASN1(&v, der.SEQUENCE) || !in.Empty() || !v.ReadOptionalASN1(&id, &hasID, context(0)) ||
		!v.ReadOptionalASN1(&names, &hasIssuer, contextual(1)) {
		return malformed("key identifier")
	}
	if v.PeekASN1Tag(context(2)) {
		hasSerial = v.ReadASN1Element(&serial, context(2))
	}
	if !v.Empty() || hasIssuer != hasSerial {
		return malformed("key identifier")
	}
	if hasID {
		x.keyID = id
	}
	if hasIssuer {
		if x.keyIssuer, err = oneDirectoryName(names); err != nil {
			return err
		}
		retagged := cryptobyte.String(append([]byte{byte(der.INTEGER)}, serial[1:]...))
		x.keySerial = new(big.Int)
		if !retagged.ReadASN1Integer(x.keySerial) {
			return malformed("key identifier")
		}
	}
	return nil
}

// signer reports whether the extensions allow c to be the issuer's certificate. strongSwan names a key by its SHA-1
// (RFC 5280, section 4.2.1.2) whatever its certificate says.
func (x *extensions) signer(c *x509.Certificate) bool {
	if x.keyID != nil && !bytes.Equal(x.keyID, c.SubjectKeyId) && !bytes.Equal(x.keyID, keyHash(c)) {
		return false
	}
	return x.keyIssuer == nil || bytes.Equal(x.keyIssuer, c.RawIssuer) && x.keySerial.Cmp(c.SerialNumber) == 0
}

func keyHash(c *x509.Certificate) []byte {
	var info, key cryptobyte.String
	var bits []byte
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	if !in.ReadASN1(&info, der.SEQUENCE) || !info.ReadASN1(&key, der.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil
	}
	sum := sha1.Sum(bits)
	return sum[:]
}
