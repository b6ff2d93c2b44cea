package cms

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra/block"
)

// A Recipient is one encrypted key of a message: the key for one key pair, password or shared key.
type Recipient struct {
	kind string
	ref  block.Ref
	wrap block.Wrap
	err  error // why it has no wrap
}

// Kind names the recipient as RFC 5652 does: ktri, kari, kekri, pwri or ori.
func (r Recipient) Kind() string { return r.kind }

// Ref returns how the message names the key, zero where it does not name a key pair.
func (r Recipient) Ref() block.Ref { return r.ref }

// Wrap returns the encrypted key, or an error that says why an agent does not take it.
func (r Recipient) Wrap() (block.Wrap, error) { return r.wrap, r.err }

// others are the recipients that have nothing to do with key pairs, by their tags.
var others = map[asn1.Tag]string{
	asn1.Tag(2).ContextSpecific().Constructed(): "kekri",
	asn1.Tag(3).ContextSpecific().Constructed(): "pwri",
	asn1.Tag(4).ContextSpecific().Constructed(): "ori",
}

var errNotKeyPair = errors.New("recipient is not a key pair")

// parseRecipient reads a RecipientInfo. What is malformed is an error; what is only for others passes through.
func parseRecipient(info cryptobyte.String) ([]Recipient, error) {
	var body cryptobyte.String
	var tag asn1.Tag
	if !info.ReadAnyASN1(&body, &tag) || !info.Empty() {
		return nil, malformed("recipient")
	}
	switch tag {
	case asn1.SEQUENCE:
		r, err := parseTransport(body)
		return []Recipient{r}, err
	case asn1.Tag(1).ContextSpecific().Constructed():
		return parseAgreement(body)
	}
	if name, ok := others[tag]; ok {
		return []Recipient{{kind: name, err: errNotKeyPair}}, nil
	}
	return nil, fmt.Errorf("tag %#02x is not of a recipient", uint8(tag))
}

// parseTransport reads a KeyTransRecipientInfo, RFC 5652 section 6.2.1.
func parseTransport(in cryptobyte.String) (Recipient, error) {
	var version int
	var key cryptobyte.String
	r := Recipient{kind: "ktri"}
	if !in.ReadASN1Integer(&version) || version != 0 && version != 2 {
		return Recipient{}, malformed("version")
	}
	ref, err := parseName(&in, asn1.Tag(0).ContextSpecific())
	if err != nil {
		return Recipient{}, err
	}
	alg, err := readAlgorithm(&in)
	if err != nil {
		return Recipient{}, err
	}
	if !in.ReadASN1(&key, asn1.OCTET_STRING) || !in.Empty() {
		return Recipient{}, malformed("encrypted key")
	}
	r.ref = ref
	suite, err := alg.oaep()
	if r.err = err; err == nil {
		r.wrap, r.err = block.NewWrap(suite, ref, nil, key, nil)
	}
	return r, nil
}

// parseName reads how a recipient is named: by its certificate's issuer and serial number, or under tag by its subject
// key identifier. The name is zero where the identifier has a length that nobody gives one.
func parseName(in *cryptobyte.String, tag asn1.Tag) (block.Ref, error) {
	var ski cryptobyte.String
	if in.PeekASN1Tag(tag) {
		if !in.ReadASN1(&ski, tag) {
			return block.Ref{}, malformed("subject key identifier")
		}
		ref, _ := block.SKIRef(ski)
		return ref, nil
	}
	var name, issuer, serial cryptobyte.String
	if !in.ReadASN1(&name, asn1.SEQUENCE) || !name.ReadASN1Element(&issuer, asn1.SEQUENCE) || !name.ReadASN1Element(&serial, asn1.INTEGER) || !name.Empty() {
		return block.Ref{}, malformed("issuer and serial number")
	}
	return block.IssuerSerialRef(issuer, serial), nil
}

// An algorithm is an AlgorithmIdentifier.
type algorithm struct {
	id     string // element
	params cryptobyte.String
	raw    []byte
}

func readAlgorithm(in *cryptobyte.String) (a algorithm, err error) {
	var raw, body, id cryptobyte.String
	if !in.ReadASN1Element(&raw, asn1.SEQUENCE) {
		return a, malformed("algorithm")
	}
	a.raw = raw
	if !raw.ReadASN1(&body, asn1.SEQUENCE) || !body.ReadASN1Element(&id, asn1.OBJECT_IDENTIFIER) {
		return a, malformed("algorithm")
	}
	a.id, a.params = string(id), body
	return a, nil
}

// plain reports whether the algorithm is id and has no parameters but NULL.
func (a algorithm) plain(id string) bool {
	return a.id == id && (len(a.params) == 0 || string(a.params) == "\x05\x00")
}

var errOAEP = errors.New("RSA-OAEP is not with SHA-256 or SHA-1 for both hashes and with the empty label; " + adviceRSA)

// oaep returns which RSAES-OAEP this is, RFC 4055 section 4.1, or why none that is taken.
func (a algorithm) oaep() (block.Suite, error) {
	switch a.id {
	case oidRSA:
		return 0, errors.New("RSA PKCS#1 v1.5 is refused: its padding tells strangers about the key; " + adviceRSA)
	case oidOAEP:
	default:
		return 0, fmt.Errorf("key transport %s is not known; %s", oidText(a.id), adviceRSA)
	}
	var params, field cryptobyte.String
	p := a.params
	if !p.ReadASN1(&params, asn1.SEQUENCE) || !p.Empty() {
		return 0, errOAEP
	}
	hashes := [2]string{oidSHA1, oidSHA1} // the defaults
	for n := range uint8(3) {
		var there bool
		if !params.ReadOptionalASN1(&field, &there, asn1.Tag(n).ContextSpecific().Constructed()) || there && !oaepField(n, field, &hashes) {
			return 0, errOAEP
		}
	}
	if !params.Empty() {
		return 0, errOAEP
	}
	switch hashes {
	case [2]string{oidSHA256, oidSHA256}:
		return block.SuiteOAEP, nil
	case [2]string{oidSHA1, oidSHA1}:
		return block.SuiteOAEPSHA1, nil
	}
	return 0, errOAEP
}

// oaepField reads one of hashAlgorithm and maskGenAlgorithm into hashes, or checks pSourceAlgorithm: only its default is
// ours.
func oaepField(n uint8, field cryptobyte.String, hashes *[2]string) bool {
	a, err := readAlgorithm(&field)
	if err != nil || !field.Empty() {
		return false
	}
	switch n {
	case 0:
		hashes[0] = a.id
		return a.plain(a.id)
	case 1:
		hash, err := readAlgorithm(&a.params)
		hashes[1] = hash.id
		return err == nil && a.id == oidMGF1 && len(a.params) == 0 && hash.plain(hash.id)
	}
	return a.id == oidPEmpty && string(a.params) == "\x04\x00"
}
