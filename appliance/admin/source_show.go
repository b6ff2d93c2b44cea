package admin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra"
)

func (s *step) sourceList() error {
	t := newTable("SOURCE", "KIND", "MAY ASSERT", "FROM")
	for _, o := range s.state().Sources() {
		t.row(string(o.Alias), string(o.Kind()), mayOf(o), from(o))
	}
	return t.print(s, "There are no sources. Add one with: source add")
}

func mayOf(o store.Source) string {
	if len(o.May) == 0 {
		return "nothing"
	}
	var out []string
	for _, k := range o.May {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}

// from says in one line where it is.
func from(o store.Source) string {
	place := func(url string) string {
		if url == "" {
			return "pasted"
		}
		return url
	}
	switch {
	case o.Attribute != nil:
		return subject(o.Attribute.Certs)
	case o.Directory != nil:
		return o.Directory.URL
	case o.Issuer != nil:
		return o.Issuer.Issuer
	case o.Repository != nil:
		return place(o.Repository.URL)
	case o.Service != nil:
		return o.Service.URL
	}
	return string(o.Revocation.Of) + ", " + place(o.Revocation.URL)
}

func subject(certs [][]byte) string {
	if len(certs) == 0 {
		return ""
	}
	c, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return "a malformed certificate"
	}
	return c.Subject.String()
}

// sourceShow describes a source. Of its secrets it says that they are set.
func (s *step) sourceShow(c console.SourceShow) error {
	o, ok := s.state().Source(c.Alias)
	if !ok {
		return fmt.Errorf("there is no source %q", c.Alias)
	}
	field(s, "source", string(o.Alias))
	field(s, "kind", string(o.Kind()))
	field(s, "may assert", mayOf(o))
	switch {
	case o.Attribute != nil:
		s.showAttribute(o.Attribute)
	case o.Directory != nil:
		s.showDirectory(o.Directory)
	case o.Issuer != nil:
		field(s, "issuer", o.Issuer.Issuer)
		field(s, "audience", o.Issuer.Audience)
		field(s, "keys", fmt.Sprintf("%d bytes, SHA-256 %x", len(o.Issuer.Keys), sha256.Sum256(o.Issuer.Keys)))
		s.showMap(o.Issuer.Map)
	case o.Repository != nil:
		s.showRepository(o.Repository)
	case o.Service != nil:
		s.showService(o.Service)
	case o.Revocation != nil:
		s.showRevocation(o.Revocation)
	}
	if feed := s.feed(o.Alias); feed != "" {
		return field(s, "at present", feed)
	}
	return nil
}

// feed says what became of a source that is read in the background.
func (s *step) feed(alias kra.Anchor) string {
	if s.a.c.Feed == nil {
		return ""
	}
	return printable(s.a.c.Feed(alias))
}

func (s *step) showCerts(name string, certs [][]byte) {
	for _, der := range certs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			field(s, name, "malformed")
			continue
		}
		field(s, name, fmt.Sprintf("%s, to %s, SHA-256 %x", printable(c.Subject.String()), stamp(c.NotAfter), sha256.Sum256(der)))
	}
}

func (s *step) showMap(all []store.Mapping) {
	for _, m := range all {
		field(s, "field", fmt.Sprintf("%s: %s", m.From, strings.TrimSpace(string(m.Kind)+" "+m.Name)))
	}
}

func (s *step) showAttribute(a *store.AttributeAuthority) {
	s.showCerts("certificate", a.Certs)
	field(s, "speaks of", "decryptors of "+string(a.Of))
	for _, p := range a.Clearances {
		var marks []string
		for _, l := range p.Levels {
			marks = append(marks, fmt.Sprintf("%d=%s", l.Bit, l.Level))
		}
		for _, c := range p.Categories {
			of := c.Type
			if len(c.Value) > 0 {
				of += ":" + hex.EncodeToString(c.Value)
			}
			marks = append(marks, of+"="+c.Compartment)
		}
		field(s, "clearances", p.Policy+": "+strings.Join(marks, " "))
	}
}

func (s *step) showDirectory(d *store.Directory) {
	field(s, "server", d.URL)
	s.showCerts("authority", d.CA)
	bind := "nobody"
	if d.Bind != "" {
		bind = d.Bind + ", with a password"
	}
	field(s, "binds as", bind)
	field(s, "base", d.Base)
	field(s, "filter", orElse(d.Filter, "all entries"))
	field(s, "name", orElse(d.Name, "the entry's distinguished name")+", of a decryptor of "+string(d.Of))
	field(s, "asked", fmt.Sprintf("every %d seconds; what it said lasts %d", d.Every, d.MaxAge))
	s.showMap(d.Map)
}

func (s *step) showRepository(r *store.Repository) {
	field(s, "key", fmt.Sprintf("SHA-256 %x", sha256.Sum256(r.Key)))
	if r.URL == "" {
		field(s, "entries", fmt.Sprintf("pasted, %d bytes, SHA-256 %x", len(r.Data), sha256.Sum256(r.Data)))
		return
	}
	field(s, "server", r.URL)
	s.showCerts("authority", r.CA)
	field(s, "asked", fmt.Sprintf("every %d seconds; what it said lasts %d", r.Every, r.MaxAge))
}

func (s *step) showService(v *store.Service) {
	field(s, "server", v.URL)
	s.showCerts("authority", v.CA)
	field(s, "asked", fmt.Sprintf("%s, %d milliseconds, %d questions at once", v.Mode, v.TimeoutMS, v.InFlight))
	payer := "who asks"
	if v.Charge == store.ChargePlatform {
		payer = "the platform, with a value that is not shown"
	}
	field(s, "charged", payer)
}

func (s *step) showRevocation(r *store.Revocation) {
	field(s, "of", string(r.Of))
	if r.URL == "" {
		field(s, "from", "pasted")
	} else {
		field(s, "from", fmt.Sprintf("%s, every %d seconds", r.URL, r.Every))
		s.showCerts("authority", r.CA)
	}
	if r.MaxAge > 0 {
		field(s, "counts", fmt.Sprintf("until its next is due, and at most %d seconds from its date on", r.MaxAge))
	}
	list, err := x509.ParseRevocationList(r.CRL)
	if err != nil {
		field(s, "list", "none yet: nobody whom it could revoke is let in")
		return
	}
	field(s, "list", fmt.Sprintf("of %s, next %s, %s", stamp(list.ThisUpdate), stamp(list.NextUpdate), count(len(list.RevokedCertificateEntries), "certificate", "certificates")))
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
