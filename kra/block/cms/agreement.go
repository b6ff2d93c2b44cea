package cms

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra/block"
)

// An agreement is what the encrypted keys of one KeyAgreeRecipientInfo have in common, or err where an agent takes none
// of them.
type agreement struct {
	suite   block.Suite
	enc     []byte
	context []byte
	err     error
}

// parseAgreement reads a KeyAgreeRecipientInfo, RFC 5652 section 6.2.2, with the algorithms of RFC 5753 section 3.1.
func parseAgreement(in cryptobyte.String) (out []Recipient, err error) {
	var version int
	var from, ukm, keys cryptobyte.String
	var hasUKM bool
	if !in.ReadASN1Integer(&version) || version != 3 || !in.ReadASN1(&from, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, malformed("originator")
	}
	if !in.ReadOptionalASN1(&ukm, &hasUKM, asn1.Tag(1).ContextSpecific().Constructed()) {
		return nil, malformed("user keying material")
	}
	if hasUKM {
		var octets cryptobyte.String
		if !ukm.ReadASN1(&octets, asn1.OCTET_STRING) || !ukm.Empty() {
			return nil, malformed("user keying material")
		}
		ukm = octets
	}
	alg, err := readAlgorithm(&in)
	if err != nil {
		return nil, err
	}
	if !in.ReadASN1(&keys, asn1.SEQUENCE) || !in.Empty() || keys.Empty() {
		return nil, malformed("list of encrypted keys")
	}
	var common agreement
	if common.enc, common.err = ephemeral(from); common.err == nil {
		common.suite, common.context, common.err = alg.sharedInfo(len(common.enc), ukm, hasUKM)
	}
	for !keys.Empty() {
		r, err := common.parseKey(&keys)
		if err != nil {
			return nil, err
		}
		if out = append(out, r); len(out) > MaxRecipients {
			return nil, errTooMany
		}
	}
	return out, nil
}

// parseKey reads a RecipientEncryptedKey.
func (a agreement) parseKey(in *cryptobyte.String) (Recipient, error) {
	var body, key, id cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) {
		return Recipient{}, malformed("encrypted key")
	}
	r := Recipient{kind: "kari", err: a.err}
	var err error
	if tag := asn1.Tag(0).ContextSpecific().Constructed(); body.PeekASN1Tag(tag) {
		// RecipientKeyIdentifier: its date and other attribute name nothing that subjectKeyIdentifier does not.
		if !body.ReadASN1(&id, tag) {
			return Recipient{}, malformed("recipient's key identifier")
		}
		r.ref, err = parseName(&id, asn1.OCTET_STRING)
	} else {
		r.ref, err = parseName(&body, tag)
	}
	if err != nil {
		return Recipient{}, err
	}
	if !body.ReadASN1(&key, asn1.OCTET_STRING) || !body.Empty() {
		return Recipient{}, malformed("encrypted key")
	}
	if r.err == nil {
		r.wrap, r.err = block.NewWrap(a.suite, r.ref, a.enc, key, a.context)
	}
	return r, nil
}

// ephemeral returns the originator's point: an uncompressed one of P-256 or P-384. The curve need not be said.
func ephemeral(from cryptobyte.String) ([]byte, error) {
	errCurve := errors.New("key agreement is not with an ephemeral key on P-256 or P-384, an uncompressed point")
	var key cryptobyte.String
	if !from.ReadASN1(&key, asn1.Tag(1).ContextSpecific().Constructed()) || !from.Empty() {
		return nil, errCurve
	}
	alg, err := readAlgorithm(&key)
	if err != nil {
		return nil, err
	}
	var point []byte
	if !key.ReadASN1BitStringAsBytes(&point) || !key.Empty() {
		return nil, errCurve
	}
	curve, ok := curves[len(point)]
	if !ok || !alg.plain(oidEC) && (alg.id != oidEC || string(alg.params) != curve) {
		return nil, errCurve
	}
	return point, nil
}

// Bytes of uncompressed points.
const (
	point256 = 65
	point384 = 97
)

// curves are the curves' object identifiers by the size of an uncompressed point.
var curves = map[int]string{point256: oidP256, point384: oidP384}

// kekBits is the size of the key-encryption key that each key wrap takes.
var kekBits = map[string]uint32{oidWrap128: 128, oidWrap192: 192, oidWrap256: 256}

// sharedInfo returns the suite, for a point of that size, and ECC-CMS-SharedInfo, RFC 5753 section 7.2.
func (a algorithm) sharedInfo(point int, ukm []byte, hasUKM bool) (block.Suite, []byte, error) {
	suite, ok := agreements[point][a.id]
	if !ok {
		return 0, nil, fmt.Errorf("key agreement %s is not known; %s", oidText(a.id), adviceEC)
	}
	wrap, err := readAlgorithm(&a.params)
	if err != nil || len(a.params) != 0 {
		return 0, nil, malformed("key wrap algorithm")
	}
	bits, ok := kekBits[wrap.id]
	if !ok || !wrap.plain(wrap.id) {
		return 0, nil, fmt.Errorf("key wrap %s is not AES key wrap; %s", oidText(wrap.id), adviceEC)
	}
	var entity []byte
	if hasUKM {
		entity = wrapped(tagCons0, wrapped(tagOctets, ukm))
	}
	size := binary.BigEndian.AppendUint32(nil, bits)
	return suite, wrapped(tagSequence, wrap.raw, entity, wrapped(tagCons2, wrapped(tagOctets, size))), nil
}

// agreements are the suites by the size of a point and the key agreement's object identifier.
var agreements = map[int]map[string]block.Suite{
	point256: {oidECDHSHA256: block.SuiteECDHX963, oidECDHSHA1: block.SuiteECDHX963SHA1},
	point384: {oidECDHSHA256: block.SuiteECDHX963P384, oidECDHSHA384: block.SuiteECDHX963SHA384, oidECDHSHA1: block.SuiteECDHX963SHA1P384},
}
