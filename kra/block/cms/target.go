package cms

import (
	"crypto"
	"crypto/sha1" // a subject key identifier is no seal
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/keyrelease/krabox/kra/block"
)

// A Target is a key pair that a message is encrypted to, and how the message names it. The zero Target is refused.
type Target struct {
	pub          crypto.PublicKey
	issuerSerial []byte // IssuerAndSerialNumber, or nil
	ski          []byte // else
	refs         []block.Ref
}

// ToCertificate returns the target of a certificate for an RSA key of 2048, 3072 or 4096 bits or one on P-256 or P-384. It is
// named by its subject key identifier, or where it has none by its issuer and serial number.
func ToCertificate(cert *x509.Certificate) (Target, error) {
	if _, err := suiteFor(cert.PublicKey); err != nil {
		return Target{}, err
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return Target{}, fmt.Errorf("name recipient: %w", err)
	}
	t := Target{pub: cert.PublicKey, refs: []block.Ref{block.IssuerSerialRef(cert.RawIssuer, serial)}}
	ref, err := block.SKIRef(cert.SubjectKeyId)
	if err != nil {
		t.issuerSerial = wrapped(tagSequence, cert.RawIssuer, serial)
		return t, nil
	}
	t.ski, t.refs = cert.SubjectKeyId, append(t.refs, ref)
	return t, nil
}

// ToKey returns the target of a key-release key, named by the subject key identifier of RFC 5280 section 4.2.1.2 (1), by
// which every agent knows its keys.
func ToKey(pub crypto.PublicKey) (Target, error) {
	if _, err := suiteFor(pub); err != nil {
		return Target{}, err
	}
	spki, err := block.MarshalPublicKey(pub)
	if err != nil {
		return Target{}, fmt.Errorf("name recipient: %w", err)
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return Target{}, fmt.Errorf("name recipient: %w", err)
	}
	ski := sha1.Sum(info.Key.Bytes)
	ref, err := block.SKIRef(ski[:])
	return Target{pub: pub, ski: ski[:], refs: []block.Ref{ref}}, err
}

func suiteFor(pub crypto.PublicKey) (block.Suite, error) {
	kind, err := block.SuiteOf(pub)
	switch {
	case err != nil:
		return 0, err
	case kind.Opens(block.SuiteOAEP):
		return block.SuiteOAEP, nil
	case kind.Opens(block.SuiteECDHX963):
		return block.SuiteECDHX963, nil
	case kind.Opens(block.SuiteECDHX963SHA384):
		return block.SuiteECDHX963SHA384, nil
	}
	return 0, fmt.Errorf("CMS does not encrypt to a key of suite %v", kind)
}

// oaepSHA256 is the AlgorithmIdentifier of RSAES-OAEP with SHA-256, RFC 4055.
var oaepSHA256 = func() []byte {
	hash := wrapped(tagSequence, []byte(oidSHA256), null)
	mask := wrapped(tagSequence, []byte(oidMGF1), hash)
	return wrapped(tagSequence, []byte(oidOAEP), wrapped(tagSequence, wrapped(tagCons0, hash), wrapped(tagCons1, mask)))
}()

// x963 are the AlgorithmIdentifiers of dhSinglePass-stdDH-sha256kdf-scheme, on P-384 -sha384kdf-scheme, with AES-256 key wrap, RFC 5753.
var x963 = map[block.Suite][]byte{
	block.SuiteECDHX963:       wrapped(tagSequence, []byte(oidECDHSHA256), wrapped(tagSequence, []byte(oidWrap256))),
	block.SuiteECDHX963SHA384: wrapped(tagSequence, []byte(oidECDHSHA384), wrapped(tagSequence, []byte(oidWrap256))),
}

var null = []byte{5, 0}

// info encrypts key and returns the RecipientInfo.
func (t Target) info(key []byte) ([]byte, error) {
	if t.pub == nil {
		return nil, errors.New("target is not set")
	}
	suite, err := suiteFor(t.pub)
	if err != nil {
		return nil, err
	}
	if suite == block.SuiteOAEP {
		w, err := block.Seal(suite, t.pub, key, nil)
		if err != nil {
			return nil, err
		}
		version, rid := byte(0), t.issuerSerial
		if rid == nil {
			version, rid = 2, wrapped(tagPrim0, t.ski)
		}
		return wrapped(tagSequence, []byte{tagInteger, 1, version}, rid, oaepSHA256, wrapped(tagOctets, w.Body())), nil
	}
	return t.agree(suite, key)
}

func (t Target) agree(suite block.Suite, key []byte) ([]byte, error) {
	in := cryptobyte.String(x963[suite])
	a, err := readAlgorithm(&in)
	if err != nil {
		return nil, err
	}
	size := point256
	if suite == block.SuiteECDHX963SHA384 {
		size = point384
	}
	_, context, err := a.sharedInfo(size, nil, false)
	if err != nil {
		return nil, err
	}
	w, err := block.Seal(suite, t.pub, key, context)
	if err != nil {
		return nil, err
	}
	point := wrapped(tagBits, append([]byte{0}, w.Enc()...))
	from := wrapped(tagCons0, wrapped(tagCons1, wrapped(tagSequence, []byte(oidEC)), point))
	rid := t.issuerSerial
	if rid == nil {
		rid = wrapped(tagCons0, wrapped(tagOctets, t.ski))
	}
	keys := wrapped(tagSequence, wrapped(tagSequence, rid, wrapped(tagOctets, w.Body())))
	return wrapped(tagCons1, []byte{tagInteger, 1, 3}, from, x963[suite], keys), nil
}

// Refs returns how messages may name the target.
func (t Target) Refs() []block.Ref { return slices.Clone(t.refs) }
