package block

import (
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"filippo.io/age/plugin"
)

// MaxTagged is how many keys an agent lets stock age stanzas name. Such a stanza carries no key id but four bytes, which
// each of the keys must be tried against, at a hash or two each.
const MaxTagged = 256

// MaxTags is how many stanzas of one header an agent tries so, the first ones. One header costs it 16 times 256 trials at most.
const MaxTags = 16

// The stanzas of tagged recipients, C2SP age.md and age's package tag: the type of the stanza, and HPKE's info, which is
// the salt of the tag too.
const (
	typeP256Tag   = "p256tag"
	typeHybridTag = "mlkem768p256tag"
	tagContext    = "age-encryption.org/"
)

// The types of the recipients, as Bech32 has them behind "age1".
const (
	recipientP256   = "tag"
	recipientHybrid = "tagpq"
)

var errNoRecipient = errors.New("key has no age recipient: it is neither P-256 nor hybrid")

// A Tagged is a key as far as a tag shows it. NewTagged makes one; no tag is the zero Tagged's.
type Tagged struct {
	id    KeyID
	suite Suite
	hint  [4]byte // SHA-256 of the compressed point, cut
}

// NewTagged returns what tags are matched against for pub, a P-256 key or a *HybridKey.
func NewTagged(pub crypto.PublicKey) (Tagged, error) {
	id, err := KeyIDOf(pub)
	if err != nil {
		return Tagged{}, err
	}
	p, ok := pointOf(pub)
	if !ok || p.Curve() != ecdh.P256() {
		return Tagged{}, errNoRecipient
	}
	t := Tagged{id: id, suite: SuiteP256Tag}
	h := p.Bytes()
	if _, ok := pub.(*HybridKey); ok {
		t.suite = SuiteHybridTag // whose hint is of the uncompressed point
	} else {
		h = compress(p)
	}
	sum := sha256.Sum256(h)
	copy(t.hint[:], sum[:])
	return t, nil
}

// KeyID returns the id of the key.
func (t Tagged) KeyID() KeyID { return t.id }

// MatchTag returns the keys among those given whose tag the wrap carries, in their order. Two may: a tag has four bytes.
func MatchTag(w Wrap, among []Tagged) []KeyID {
	if w.ref.kind != RefTag {
		return nil
	}
	begun := beginTag(w.suite, w.enc)
	var ids []KeyID
	for _, t := range among {
		if t.suite == w.suite && string(endTag(begun, t.hint)) == w.ref.value {
			ids = append(ids, t.id)
		}
	}
	return ids
}

// beginTag hashes what the tags of one stanza have in common: HKDF-Extract of enc ‖ hint with the stanza's context as salt.
func beginTag(s Suite, enc []byte) hash.Cloner {
	h := hmac.New(sha256.New, []byte(tagContext+s.String()))
	h.Write(enc)
	return h.(hash.Cloner)
}

func endTag(begun hash.Cloner, hint [4]byte) []byte {
	h, err := begun.Clone()
	if err != nil {
		panic("HMAC with SHA-256 cannot be cloned")
	}
	h.Write(hint[:])
	return h.Sum(nil)[:tagSize]
}

// AgeRecipient returns the age recipient of a P-256 key, age1tag1…, or of a *HybridKey, age1tagpq1…: stock age encrypts to
// it without a plugin since 1.3.
func AgeRecipient(pub crypto.PublicKey) (string, error) {
	if k, ok := pub.(*HybridKey); ok {
		return plugin.EncodeRecipient(recipientHybrid, k.raw), nil
	}
	p, ok := pointOf(pub)
	if !ok || p.Curve() != ecdh.P256() {
		return "", errNoRecipient
	}
	return plugin.EncodeRecipient(recipientP256, compress(p)), nil
}

// ParseAgeRecipient reads the form that AgeRecipient writes.
func ParseAgeRecipient(s string) (crypto.PublicKey, error) {
	kind, raw, err := plugin.ParseRecipient(s)
	if err != nil {
		return nil, fmt.Errorf("read age recipient: %w", err)
	}
	var pub crypto.PublicKey
	switch kind {
	case recipientP256:
		pub, err = decompress(raw)
	case recipientHybrid:
		pub, err = NewHybridKey(raw)
	default:
		return nil, fmt.Errorf("read age recipient: %.20q is not a tagged one", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("read age recipient: %w", err)
	}
	if again, err := AgeRecipient(pub); err != nil || again != s {
		return nil, errors.New("read age recipient: not in its one form")
	}
	return pub, nil
}

// compress writes a point as SEC 1 section 2.3.3 does compressed.
func compress(p *ecdh.PublicKey) []byte {
	b := p.Bytes()
	return append([]byte{2 | b[pointSize-1]&1}, b[1:33]...)
}

func decompress(b []byte) (*ecdh.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b)
	if x == nil {
		return nil, errors.New("not a compressed point of P-256")
	}
	raw := make([]byte, pointSize)
	raw[0] = 4
	x.FillBytes(raw[1:33])
	y.FillBytes(raw[33:])
	return ecdh.P256().NewPublicKey(raw)
}
