package kra

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// A Decryptor is somebody who may ask for keys: a name and the trust anchor that vouches for it. The same name under two
// anchors is two decryptors. The zero Decryptor is nobody and equals no decryptor that a rule can name.
type Decryptor struct {
	anchor Anchor
	name   string // RFC 4514, in the one form of formatName
}

// A Naming says which part of a certificate's subject is the decryptor's name. It is a property of the anchor.
type Naming uint8

// The namings. Zero is not set and is refused.
const (
	WholeName  Naming = iota + 1 // the whole distinguished name
	CommonName                   // the one CN of the distinguished name
)

// DecryptorOf names the holder of a certificate that was verified under the anchor.
func DecryptorOf(a Anchor, n Naming, cert *x509.Certificate) (Decryptor, error) {
	if !isID(string(a)) {
		return Decryptor{}, errors.New("name decryptor: anchor has no alias")
	}
	name, err := subject(cert.RawSubject, n)
	if err != nil {
		return Decryptor{}, fmt.Errorf("name decryptor: %w", err)
	}
	return Decryptor{a, name}, nil
}

// ParseDecryptor reads what String wrote: the anchor's alias, a colon, and the name as RFC 4514 text in its one form.
func ParseDecryptor(s string) (Decryptor, error) {
	alias, name, ok := strings.Cut(s, ":")
	if !ok {
		return Decryptor{}, fmt.Errorf("parse decryptor %q: want ALIAS:NAME, such as corp:CN=alice,O=Example", clip(s))
	}
	a, err := ParseAnchor(alias)
	if err != nil {
		return Decryptor{}, fmt.Errorf("parse decryptor: %w", err)
	}
	if err := checkName(name); err != nil {
		return Decryptor{}, fmt.Errorf("parse decryptor: %w", err)
	}
	return Decryptor{a, name}, nil
}

// Anchor returns the alias of the trust anchor.
func (d Decryptor) Anchor() Anchor { return d.anchor }

// Name returns the name without the anchor's alias.
func (d Decryptor) Name() string { return d.name }

// Valid reports whether d is somebody.
func (d Decryptor) Valid() bool { return d.anchor != "" && d.name != "" }

// String returns the decryptor's identifier, alias:name.
func (d Decryptor) String() string {
	if !d.Valid() {
		return ""
	}
	return string(d.anchor) + ":" + d.name
}

// Claimed reports whether the claim in a request's body is about d. The empty claim is about whoever the channel says.
// A name never contains a colon before its first equals sign, so that the two forms cannot be taken for each other.
func (d Decryptor) Claimed(claim string) bool {
	return claim == "" || d.Valid() && (claim == d.name || claim == d.String())
}
