package inform

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra/policy"
)

// Forms of aliases.
const (
	formMail = "mail"
	formDNS  = "dns"
	formURI  = "uri"
	formUPN  = "upn" // a user principal name
)

const (
	spiffeScheme = "spiffe:"
	maxSPIFFE    = 2048 // bytes of a SPIFFE id
)

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidPrincipalName  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// aliases takes the other names in the leaf, on the word of the anchor that vouches for its first one. They last as long
// as the chain, which was verified: they have no lifetime of their own.
func (r *resolver) aliases() {
	via := policy.Presented
	if r.p.TLS {
		via = policy.Channel
	}
	for _, a := range Aliases(r.p.Chain[0], func(s string) { r.note("%s", s) }) {
		a.Authority, a.Via = r.p.Anchor, via
		r.items = append(r.items, a)
	}
}

// Aliases returns the alternative names of a certificate: mail, dns, uri, upn. Authority and Via are left empty. What it
// leaves out goes to note.
func Aliases(cert *x509.Certificate, note func(string)) []policy.Item {
	var names cryptobyte.String
	for _, e := range cert.Extensions {
		in := cryptobyte.String(e.Value)
		if e.Id.Equal(oidSubjectAltName) && !in.ReadASN1(&names, der.SEQUENCE) {
			return nil // cannot be: x509 has read it
		}
	}
	var all []policy.Item
	uris := 0
	for !names.Empty() {
		var body cryptobyte.String
		var tag der.Tag
		if !names.ReadAnyASN1(&body, &tag) {
			return nil
		}
		form, value := aliasOf(tag, body)
		if form == formURI {
			uris++
		}
		if form == "" || value == "" {
			continue
		}
		if len(value) > policy.MaxItemText || !utf8.ValidString(value) {
			note(fmt.Sprintf("%s name in the certificate is too long or not UTF-8", form))
			continue
		}
		all = append(all, policy.Item{Kind: policy.Alias, Name: form, Value: value})
	}
	kept := all[:0]
	for _, a := range all {
		if why := spiffeFault(a, uris); why != "" {
			note(fmt.Sprintf("%.80q in the certificate %s", a.Value, why))
			continue
		}
		kept = append(kept, a)
	}
	return kept
}

// aliasOf reads one GeneralName; the text of mail, DNS and URI is ASCII, as x509 has checked.
func aliasOf(tag der.Tag, body cryptobyte.String) (form, value string) {
	switch tag {
	case der.Tag(1).ContextSpecific():
		return formMail, policy.NormalAlias(formMail, string(body))
	case der.Tag(2).ContextSpecific():
		return formDNS, policy.NormalAlias(formDNS, string(body))
	case der.Tag(6).ContextSpecific():
		return formURI, string(body)
	case der.Tag(0).ContextSpecific().Constructed():
		return formUPN, principalName(body)
	}
	return "", ""
}

// principalName reads OtherName if it is a user principal name.
func principalName(in cryptobyte.String) string {
	var oid asn1.ObjectIdentifier
	var explicit, text cryptobyte.String
	if !in.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidPrincipalName) || !in.ReadASN1(&explicit, der.Tag(0).ContextSpecific().Constructed()) ||
		!in.Empty() || !explicit.ReadASN1(&text, der.UTF8String) || !explicit.Empty() {
		return ""
	}
	return string(text)
}

// spiffeFault says why a SPIFFE id does not count (SPIFFE-ID sections 2.1 to 2.4, X509-SVID section 2), or "".
func spiffeFault(a policy.Item, uris int) string {
	if a.Name != formURI || !strings.EqualFold(a.Value[:min(len(a.Value), len(spiffeScheme))], spiffeScheme) {
		return ""
	}
	if uris != 1 {
		return "is a SPIFFE id beside another URI"
	}
	rest, ok := strings.CutPrefix(a.Value, spiffeScheme+"//")
	domain, path, hasPath := strings.Cut(rest, "/")
	if !ok || domain == "" || len(a.Value) > maxSPIFFE || !only(domain, isDomainChar) {
		return "is no SPIFFE id"
	}
	if !hasPath {
		return ""
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || !only(segment, isPathChar) {
			return "is no SPIFFE id"
		}
	}
	return ""
}

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isDomainChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

func isPathChar(c byte) bool { return isDomainChar(c) || c >= 'A' && c <= 'Z' }
