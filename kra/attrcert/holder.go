package attrcert

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// A holder is whom a certificate speaks of (RFC 5755, section 4.2.2): the certificate with that issuer and number, or the
// subject with that name. If both are given, both must fit.
type holder struct {
	issuer []byte // DER name; nil: not given
	serial *big.Int
	entity []byte // DER GeneralName; nil: not given
}

func readHolder(in cryptobyte.String) (h holder, err error) {
	var base, names cryptobyte.String
	var hasBase, hasEntity bool
	if !in.ReadOptionalASN1(&base, &hasBase, contextual(0)) || !in.ReadOptionalASN1(&names, &hasEntity, contextual(1)) {
		return h, malformed("name")
	}
	if in.PeekASN1Tag(contextual(2)) {
		return h, errors.New("is named by the digest of an object (objectDigestInfo), which is not supported")
	}
	if !in.Empty() {
		return h, malformed("name")
	}
	if !hasBase && !hasEntity {
		return h, errors.New("has no name")
	}
	if hasBase {
		if err := h.readBase(base); err != nil {
			return h, err
		}
	}
	if hasEntity {
		h.entity, err = oneName(names)
	}
	return h, err
}

// readBase reads IssuerSerial.
func (h *holder) readBase(in cryptobyte.String) (err error) {
	var names cryptobyte.String
	h.serial = new(big.Int)
	if !in.ReadASN1(&names, der.SEQUENCE) || !in.ReadASN1Integer(h.serial) || h.serial.Sign() < 0 {
		return malformed("issuer and serial number")
	}
	if !in.Empty() {
		return errors.New("has an issuerUID, which is not supported")
	}
	h.issuer, err = oneDirectoryName(names)
	return err
}

// oneName reads GeneralNames with exactly one name that a certificate can have: e-mail, DNS, directory name or URI.
func oneName(names cryptobyte.String) ([]byte, error) {
	var name, body cryptobyte.String
	var tag der.Tag
	if !names.ReadAnyASN1Element(&name, &tag) || !names.Empty() {
		return nil, errors.New("want one entity name")
	}
	if tag == contextual(4) {
		if _, err := oneDirectoryName(name); err != nil {
			return nil, err
		}
		return name, nil
	}
	text := name
	if tag != context(1) && tag != context(2) && tag != context(6) || !text.ReadASN1(&body, tag) || body.Empty() {
		return nil, errors.New("entity name is no directory name, e-mail address, DNS name or URI")
	}
	return name, nil
}

// is reports whether a public-key certificate is the holder's. Names are compared byte by byte.
func (h holder) is(cert *x509.Certificate) bool {
	if h.issuer == nil && h.entity == nil {
		return false
	}
	if h.issuer != nil && (!bytes.Equal(h.issuer, cert.RawIssuer) || h.serial.Cmp(cert.SerialNumber) != 0) {
		return false
	}
	return h.entity == nil || h.named(cert)
}

// named reports whether the entity name is the subject or one of its alternative names.
func (h holder) named(cert *x509.Certificate) bool {
	name := cryptobyte.String(h.entity)
	var subject cryptobyte.String
	if name.ReadASN1(&subject, contextual(4)) {
		if bytes.Equal(subject, cert.RawSubject) {
			return true
		}
	}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		in, names := cryptobyte.String(e.Value), cryptobyte.String(nil)
		if !in.ReadASN1(&names, der.SEQUENCE) {
			return false
		}
		for !names.Empty() {
			var n cryptobyte.String
			var tag der.Tag
			if !names.ReadAnyASN1Element(&n, &tag) {
				return false
			}
			if bytes.Equal(n, h.entity) {
				return true
			}
		}
	}
	return false
}

// A HolderKey finds the certificates that may speak of somebody, in an index. Whether one does, Verify finds out.
type HolderKey string

// Keys returns what the certificate can be found by: its holder's name, or issuer and number.
func (c Certificate) Keys() []HolderKey {
	switch {
	case c.holder.issuer != nil:
		return []HolderKey{baseKey(c.holder.issuer, c.holder.serial)}
	case c.holder.entity != nil:
		return []HolderKey{HolderKey(c.holder.entity)}
	}
	return nil
}

func baseKey(issuer []byte, serial *big.Int) HolderKey {
	return HolderKey("\x00" + serial.Text(16) + "\x00" + string(issuer))
}

// HolderKeys returns the keys of the certificates that may speak of the owner of cert.
func HolderKeys(cert *x509.Certificate) []HolderKey {
	keys := []HolderKey{baseKey(cert.RawIssuer, cert.SerialNumber), HolderKey(generalName(contextual(4), cert.RawSubject))}
	for _, e := range cert.Extensions {
		in, names := cryptobyte.String(e.Value), cryptobyte.String(nil)
		if !e.Id.Equal(oidSubjectAltName) || !in.ReadASN1(&names, der.SEQUENCE) {
			continue
		}
		for !names.Empty() {
			var n cryptobyte.String
			var tag der.Tag
			if !names.ReadAnyASN1Element(&n, &tag) {
				break
			}
			keys = append(keys, HolderKey(n))
		}
	}
	return keys
}

func generalName(tag der.Tag, body []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(body) })
	return b.BytesOrPanic()
}
