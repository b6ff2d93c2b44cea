package ldap

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"
)

const (
	maxName  = 1024 // bytes of a distinguished name
	maxParts = 64   // of one
)

// A name is a distinguished name, each part in one form: types by one word in lower case, values as caseIgnoreMatch
// compares them (RFC 4517 section 4.2.11; X.509 names are compared so too, RFC 5280 section 7.1), but for what is not ASCII:
// that is compared byte by byte, so that no letter stands for one that only looks like it.
type name struct {
	parts []string
	first string // value of the first part as it was written; empty if that part has several
}

// key is the whole name in its one form. No two different names have the same.
func (n name) key() string { return strings.Join(n.parts, ",") }

// under reports whether n is directly under base.
func (n name) under(base []string) bool {
	return len(n.parts) == len(base)+1 && slices.Equal(n.parts[1:], base)
}

// parseName reads RFC 4514 text.
func parseName(text string) (name, error) {
	if len(text) > maxName {
		return name{}, fmt.Errorf("distinguished name is longer than %d bytes", maxName)
	}
	dn, err := goldap.ParseDN(text)
	if err != nil {
		return name{}, fmt.Errorf("no distinguished name: %w", err)
	}
	if len(dn.RDNs) == 0 || len(dn.RDNs) > maxParts {
		return name{}, errors.New("no distinguished name")
	}
	var n name
	for i, rdn := range dn.RDNs {
		var all []string
		for _, a := range rdn.Attributes {
			if a.Value == "" {
				return name{}, errors.New("a part of the distinguished name is empty")
			}
			all = append(all, typeName(a.Type)+"="+strconv.Quote(fold(a.Value)))
		}
		slices.Sort(all)
		n.parts = append(n.parts, strings.Join(all, "+"))
		if i == 0 && len(rdn.Attributes) == 1 {
			n.first = rdn.Attributes[0].Value
		}
	}
	return n, nil
}

// otherTypes are the ways to write a type besides the one that kra.Decryptor writes, in lower case.
var otherTypes = map[string]string{
	"commonname": "cn", "2.5.4.3": "cn", "localityname": "l", "2.5.4.7": "l", "stateorprovincename": "st", "2.5.4.8": "st",
	"organizationname": "o", "2.5.4.10": "o", "organizationalunitname": "ou", "2.5.4.11": "ou", "countryname": "c", "2.5.4.6": "c",
	"streetaddress": "street", "2.5.4.9": "street", "domaincomponent": "dc", "0.9.2342.19200300.100.1.25": "dc",
	"userid": "uid", "0.9.2342.19200300.100.1.1": "uid", "2.5.4.5": "serialnumber",
	"e": "emailaddress", "email": "emailaddress", "1.2.840.113549.1.9.1": "emailaddress",
}

func typeName(t string) string {
	t = lower(strings.TrimSpace(t))
	if one, ok := otherTypes[t]; ok {
		return one
	}
	return t
}

// fold leaves out what a directory does not compare, in ASCII only: case, and how much space there is.
func fold(s string) string {
	return lower(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " "))
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
