package block

import (
	"crypto/sha1" // a subject key identifier is no seal
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A RefKind is the kind of index that a header names a key by. Zero is not a kind.
type RefKind uint8

const (
	RefKeyID        RefKind = iota + 1 // KeyID
	RefSKI                             // subject key identifier of a certificate, 1 to MaxSKI bytes
	RefIssuerSerial                    // SHA-256 of a certificate's issuer, DER, and its serial number, DER
	RefThumbprint                      // SHA-256 thumbprint of a JWK, RFC 7638
	RefTag                             // 4 bytes of a stock age stanza, which each tagged key must be tried against
)

// MaxSKI is how many bytes a subject key identifier has at most.
const MaxSKI = 64

const tagSize = 4

// refNames are the kinds in text, by kind.
var refNames = [...]string{RefKeyID: "id", RefSKI: "ski", RefIssuerSerial: "issuer-serial", RefThumbprint: "thumbprint", RefTag: "tag"}

var errRef = errors.New("key reference is not KIND:VALUE")

// A Ref is how a header names a key: an index and nothing about who may use the key. It is comparable. The zero Ref
// names nothing.
type Ref struct {
	kind  RefKind
	value string
}

// KeyIDRef names a key by its id.
func KeyIDRef(id KeyID) Ref { return Ref{RefKeyID, string(id[:])} }

// SKIRef names a key by the subject key identifier of its certificate.
func SKIRef(ski []byte) (Ref, error) { return newRef(RefSKI, ski) }

// IssuerSerialRef names a key by its certificate's issuer and serial number, each a DER value.
func IssuerSerialRef(issuer, serial []byte) Ref {
	h := sha256.New()
	h.Write(issuer)
	h.Write(serial)
	return Ref{RefIssuerSerial, string(h.Sum(nil))}
}

// ThumbprintRef names a key by the thumbprint of its JWK.
func ThumbprintRef(t [sha256.Size]byte) Ref { return Ref{RefThumbprint, string(t[:])} }

func newRef(k RefKind, value []byte) (Ref, error) {
	r := Ref{k, string(value)}
	if !r.valid() {
		return Ref{}, errRef
	}
	return r, nil
}

func (r Ref) valid() bool {
	switch r.kind {
	case RefKeyID:
		return len(r.value) == sha256.Size && KeyID([]byte(r.value)) != KeyID{}
	case RefSKI:
		return len(r.value) >= 1 && len(r.value) <= MaxSKI
	case RefIssuerSerial, RefThumbprint:
		return len(r.value) == sha256.Size
	case RefTag:
		return len(r.value) == tagSize
	}
	return false
}

// Kind returns what kind of index it is.
func (r Ref) Kind() RefKind { return r.kind }

// KeyID returns the id, where that is what the header names the key by.
func (r Ref) KeyID() (KeyID, bool) {
	if r.kind != RefKeyID {
		return KeyID{}, false
	}
	return KeyID([]byte(r.value)), true
}

// String is the kind, a colon, and the value: a thumbprint in unpadded base64url, all others in lower-case hexadecimal.
func (r Ref) String() string {
	switch {
	case !r.valid():
		return ""
	case r.kind == RefThumbprint:
		return refNames[r.kind] + ":" + base64.RawURLEncoding.EncodeToString([]byte(r.value))
	}
	return refNames[r.kind] + ":" + hex.EncodeToString([]byte(r.value))
}

// ParseRef reads the form that String writes.
func ParseRef(s string) (Ref, error) {
	name, text, _ := strings.Cut(s, ":")
	if len(text) > hex.EncodedLen(MaxSKI) {
		return Ref{}, errRef
	}
	for k, n := range refNames {
		if n == "" || n != name {
			continue
		}
		value, err := hex.DecodeString(text)
		if RefKind(k) == RefThumbprint {
			value, err = base64.RawURLEncoding.Strict().DecodeString(text)
		}
		r := Ref{RefKind(k), string(value)}
		if err != nil || !r.valid() || r.String() != s {
			return Ref{}, fmt.Errorf("%w: %s is malformed", errRef, n)
		}
		return r, nil
	}
	return Ref{}, errRef
}

// MarshalText makes String the form in JSON, also of map keys.
func (r Ref) MarshalText() ([]byte, error) {
	if !r.valid() {
		return nil, errRef
	}
	return []byte(r.String()), nil
}

// UnmarshalText is ParseRef for encoding/json.
func (r *Ref) UnmarshalText(b []byte) error {
	v, err := ParseRef(string(b))
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// RefsOf returns the names that follow from a SubjectPublicKeyInfo alone: the key id; the subject key identifiers that
// certificates are given by RFC 5280 section 4.2.1.2 (1), SHA-1, and by RFC 7093 section 2 (1), SHA-256 cut to 20 bytes; and,
// for a key that has a JWK, its thumbprint.
func RefsOf(spki []byte) ([]Ref, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) != 0 || len(info.Key.Bytes) == 0 {
		return nil, errSPKI
	}
	short, long := sha1.Sum(info.Key.Bytes), sha256.Sum256(info.Key.Bytes)
	refs := []Ref{KeyIDRef(KeyIDOfSPKI(spki)), {RefSKI, string(short[:])}, {RefSKI, string(long[:len(short)])}}
	pub, err := ParsePublicKey(spki)
	if err != nil {
		return nil, err
	}
	if t, ok := thumbprint(pub, info.Key.Bytes); ok {
		refs = append(refs, ThumbprintRef(t))
	}
	return refs, nil
}
