package attrcert

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// context is the tag [n], and contextual [n] around other elements.
func context(n uint8) der.Tag    { return der.Tag(n).ContextSpecific() }
func contextual(n uint8) der.Tag { return context(n).Constructed() }

func malformed(what string) error { return errors.New("malformed " + what) }

// Parse reads a certificate in DER, of which there is one form.
func Parse(raw []byte) (Certificate, error) {
	if len(raw) > MaxSize {
		return Certificate{}, fmt.Errorf("read attribute certificate: %d bytes, at most %d are accepted", len(raw), MaxSize)
	}
	raw = bytes.Clone(raw)
	count := 0
	err := checkDER(raw, 0, &count)
	c := Certificate{raw: raw}
	if err == nil {
		err = c.read(raw)
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("read attribute certificate: %w", err)
	}
	return c, nil
}

// checkDER walks every element: definite lengths in their shortest form, nothing left over, bounds kept. What the rest
// of the parser passes over is then DER as well.
func checkDER(s cryptobyte.String, depth int, count *int) error {
	if depth > maxDepth {
		return errors.New("elements too deep within each other")
	}
	for !s.Empty() {
		var body cryptobyte.String
		var tag der.Tag
		if *count++; *count > maxElements {
			return fmt.Errorf("more than %d elements", maxElements)
		}
		if !s.ReadAnyASN1(&body, &tag) {
			return errors.New("not DER")
		}
		constructed, class := tag&0x20 != 0, tag>>6
		if class == 0 && constructed != (tag == der.SEQUENCE || tag == der.SET) {
			return errors.New("not DER")
		}
		if constructed {
			if err := checkDER(body, depth+1, count); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Certificate) read(in cryptobyte.String) error {
	var outer, info, alg cryptobyte.String
	var sig []byte
	if !in.ReadASN1(&outer, der.SEQUENCE) || !in.Empty() || !outer.ReadASN1Element(&info, der.SEQUENCE) ||
		!outer.ReadASN1Element(&alg, der.SEQUENCE) || !outer.ReadASN1BitStringAsBytes(&sig) || !outer.Empty() {
		return malformed("certificate")
	}
	c.tbs, c.signature = info, sig
	var err error
	if c.algorithm, err = algorithmOf(alg); err != nil {
		return err
	}
	return c.readInfo(info, alg)
}

// readInfo reads AttributeCertificateInfo (RFC 5755, section 4.1).
func (c *Certificate) readInfo(in, outerAlg cryptobyte.String) error {
	var info, h, issuer, alg, validity, attrs cryptobyte.String
	var version int
	c.serial = new(big.Int)
	if !in.ReadASN1(&info, der.SEQUENCE) || !info.ReadASN1Integer(&version) {
		return malformed("certificate")
	}
	if version != 1 {
		return errors.New("version is not 2")
	}
	if !info.ReadASN1(&h, der.SEQUENCE) {
		return malformed("holder")
	}
	if info.PeekASN1Tag(der.SEQUENCE) {
		return errors.New("issuer is in the form of version 1")
	}
	if !info.ReadASN1(&issuer, contextual(0)) {
		return malformed("issuer")
	}
	if !info.ReadASN1Element(&alg, der.SEQUENCE) || !bytes.Equal(alg, outerAlg) {
		return errors.New("signature algorithm is given twice, and differently")
	}
	if !info.ReadASN1Integer(c.serial) || c.serial.Sign() <= 0 || c.serial.BitLen() > 8*maxSerial {
		return malformed("serial number")
	}
	if !info.ReadASN1(&validity, der.SEQUENCE) || !info.ReadASN1(&attrs, der.SEQUENCE) {
		return malformed("certificate")
	}
	if info.PeekASN1Tag(der.BIT_STRING) {
		return errors.New("has an issuerUniqueID, which RFC 5755 forbids")
	}
	var exts cryptobyte.String
	some := !info.Empty()
	if some && (!info.ReadASN1(&exts, der.SEQUENCE) || exts.Empty() || !info.Empty()) {
		return malformed("extensions")
	}
	return c.readParts(h, issuer, validity, attrs, exts)
}

func (c *Certificate) readParts(h, issuer, validity, attrs, exts cryptobyte.String) (err error) {
	if c.holder, err = readHolder(h); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	if c.issuer, err = readIssuer(issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if c.from, c.until, err = readValidity(validity); err != nil {
		return err
	}
	if c.content, err = readAttributes(attrs, c.issuer); err != nil {
		return err
	}
	c.extensions, err = readExtensions(exts)
	return err
}

// readIssuer reads V2Form, of which only issuerName with one directory name is allowed (RFC 5755, section 4.2.3).
func readIssuer(in cryptobyte.String) ([]byte, error) {
	var names cryptobyte.String
	if !in.ReadASN1(&names, der.SEQUENCE) || !in.Empty() {
		return nil, errors.New("want a name and nothing else")
	}
	return oneDirectoryName(names)
}

// oneDirectoryName reads GeneralNames that are a single, not empty directory name.
func oneDirectoryName(names cryptobyte.String) ([]byte, error) {
	var explicit, name, rdns cryptobyte.String
	if !names.ReadASN1(&explicit, contextual(4)) || !names.Empty() {
		return nil, errors.New("want one directory name")
	}
	if !explicit.ReadASN1Element(&name, der.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("directory name")
	}
	body := name
	if !body.ReadASN1(&rdns, der.SEQUENCE) || rdns.Empty() {
		return nil, errors.New("directory name is empty")
	}
	return name, nil
}

// generalizedTime is the one form that RFC 5755 section 4.2.6 allows.
const generalizedTime = "20060102150405Z"

func readValidity(in cryptobyte.String) (from, until time.Time, err error) {
	for _, t := range []*time.Time{&from, &until} {
		var text cryptobyte.String
		if !in.ReadASN1(&text, der.GeneralizedTime) {
			return from, until, malformed("validity")
		}
		if *t, err = time.Parse(generalizedTime, string(text)); err != nil || t.Format(generalizedTime) != string(text) {
			return from, until, malformed("validity")
		}
	}
	if !in.Empty() || until.Before(from) {
		return from, until, malformed("validity")
	}
	return from, until, nil
}

// sorted reports whether the elements of a SET OF stand in DER's order, each once.
func sorted(set cryptobyte.String) bool {
	var before []byte
	for !set.Empty() {
		var e cryptobyte.String
		var tag der.Tag
		if !set.ReadAnyASN1Element(&e, &tag) || before != nil && bytes.Compare(before, e) >= 0 {
			return false
		}
		before = e
	}
	return true
}

func readOID(s *cryptobyte.String) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&oid) {
		return nil, malformed("object identifier")
	}
	return slices.Clip(oid), nil
}
