package kra

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// attribute is one AttributeTypeAndValue of a distinguished name, the value still in DER.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type relativeName []attribute

// attributeTypes are the types written by a short name: those of RFC 4514 section 3, and two that persons carry.
var attributeTypes = [...]struct {
	short string
	oid   asn1.ObjectIdentifier
}{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}},
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}},
	{"STREET", asn1.ObjectIdentifier{2, 5, 4, 9}},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}},
	{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}},
	{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}},
	{"emailAddress", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}},
}

// shortName returns the short name of a type, or "".
func shortName(oid asn1.ObjectIdentifier) string {
	for _, t := range attributeTypes {
		if t.oid.Equal(oid) {
			return t.short
		}
	}
	return ""
}

// typeOf returns the type with that short name, or nil.
func typeOf(short string) asn1.ObjectIdentifier {
	for _, t := range attributeTypes {
		if t.short == short {
			return t.oid
		}
	}
	return nil
}

// subject renders a DER name as RFC 4514 text.
func subject(der []byte, n Naming) (string, error) {
	var rdns []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) != 0 {
		return "", errors.New("subject is no distinguished name")
	}
	parts := make([]string, 0, len(rdns))
	for i := len(rdns) - 1; i >= 0; i-- { // RFC 4514 2.1: last first
		var set relativeName
		if rest, err := asn1.UnmarshalWithParams(rdns[i].FullBytes, &set, "set"); err != nil || len(rest) != 0 || len(set) == 0 {
			return "", errors.New("subject has a malformed part")
		}
		parts = append(parts, set.format())
	}
	name := strings.Join(parts, ",")
	if n == CommonName {
		name = onlyCommonName(parts)
	} else if n != WholeName {
		return "", errors.New("anchor has no naming")
	}
	if name == "" {
		return "", errors.New("subject has no name that this anchor uses")
	}
	if len(name) > MaxName {
		return "", fmt.Errorf("subject is longer than %d bytes", MaxName)
	}
	return name, nil
}

// onlyCommonName returns the CN part. Two of them, or one that shares its part with another attribute, are none: whom
// would they name?
func onlyCommonName(parts []string) string {
	found := ""
	for _, p := range parts {
		if !strings.HasPrefix(p, "CN=") {
			continue
		}
		if found != "" {
			return ""
		}
		found = p
	}
	if splitUnescaped(found, '+') != nil {
		return ""
	}
	return found
}

func (r relativeName) format() string {
	parts := make([]string, len(r))
	for i, a := range r {
		parts[i] = a.format()
	}
	return strings.Join(parts, "+")
}

func (a attribute) format() string {
	var text string
	short := shortName(a.Type)
	_, err := asn1.Unmarshal(a.Value.FullBytes, &text)
	if short == "" || err != nil || text == "" || !utf8.ValidString(text) {
		if short == "" {
			short = a.Type.String()
		}
		return short + "=#" + hex.EncodeToString(a.Value.FullBytes) // RFC 4514 2.4
	}
	return short + "=" + escape(text)
}

// escape writes a value as RFC 4514 2.4 says; what cannot be printed is written in hexadecimal.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case strings.ContainsRune(`"+,;<>\`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r != ' ' && !unicode.IsPrint(r):
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, "\\%02x", c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
