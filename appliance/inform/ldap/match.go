package ldap

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// A match says whose an entry is: that decryptor's whose certificate has a name that the field holds. It is written
//
//	(nothing)        the entry's own name is the whole subject
//	FIELD            the field holds the whole subject
//	FIELD:cn         the field holds the one common name of the subject; FIELD:uid its user id
//	FIELD:mail       the field holds a mail name; also dns, uri, upn
//
// The certification authority vouches for these names. Which of them it checks well, whoever configures this must know.
type match struct{ field, what string }

const (
	wholeSubject = "subject"
	commonName   = "cn"
	userID       = "uid"
)

var (
	aliasForms  = []string{"mail", "dns", "uri", "upn"}
	subjectPart = map[string]asn1.ObjectIdentifier{commonName: {2, 5, 4, 3}, userID: {0, 9, 2342, 19200300, 100, 1, 1}}
)

func parseMatch(text string) (match, error) {
	if text == "" {
		return match{"", wholeSubject}, nil
	}
	name, what, told := strings.Cut(text, ":")
	if !told {
		what = wholeSubject
	}
	if _, part := subjectPart[what]; !isField(name) || told && what == wholeSubject || what != wholeSubject && !part && !slices.Contains(aliasForms, what) {
		return match{}, fmt.Errorf("name %.100q: want FIELD, or FIELD:cn, uid, mail, dns, uri or upn", text)
	}
	return match{name, what}, nil
}

// key is a value of the field in the form that is compared; ok is false for what is nobody's name.
func (m match) key(value string) (key string, ok bool) {
	switch m.what {
	case wholeSubject:
		n, err := parseName(value)
		return n.key(), err == nil
	case commonName, userID:
		value = fold(value)
	default:
		value = policy.NormalAlias(m.what, value)
	}
	return value, value != "" && len(value) <= policy.MaxItemText
}

// keys are those by which a subject is found.
func (m match) keys(s inform.Subject) (all []string) {
	for _, v := range m.names(s) {
		if key, ok := m.key(v); ok {
			all = append(all, key)
		}
	}
	return all
}

func (m match) names(s inform.Subject) (all []string) {
	if oid, ok := subjectPart[m.what]; ok {
		return onlyPart(s.Leaf, oid)
	}
	if m.what == wholeSubject {
		d, err := kra.DecryptorOf(s.Decryptor.Anchor(), kra.WholeName, s.Leaf)
		if err != nil {
			return nil
		}
		return []string{d.Name()}
	}
	for _, a := range s.Aliases {
		if a.Name == m.what {
			all = append(all, a.Value)
		}
	}
	return all
}

// onlyPart returns the one value of a type in the subject; two of them are none.
func onlyPart(leaf *x509.Certificate, oid asn1.ObjectIdentifier) (found []string) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(leaf.RawSubject, &rdns); err != nil || len(rest) > 0 {
		return nil
	}
	for _, set := range rdns {
		for _, a := range set {
			if text, ok := a.Value.(string); ok && a.Type.Equal(oid) {
				found = append(found, text)
			}
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found
}
