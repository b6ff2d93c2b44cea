package store

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// Limits of sources.
const (
	MaxSources    = 1000
	MaxMappings   = 64 // of one source
	MaxClearances = 16 // clearance policies of one authority
	maxCategories = 256
	maxClassBit   = 255
	maxField      = 1024 // bytes of an address, a name, a filter
	maxPins       = 8    // certificates of one source
	maxJWKS       = 64 << 10
	maxRepository = 1 << 20
	maxCRL        = 1 << 20
	maxPublicKey  = 4096
	maxSecret     = 1024
	minEvery      = 10 // seconds between two looks
	maxEvery      = 7 * 24 * 3600
	maxAge        = 366 * 24 * 3600
	minTimeout    = 10 // milliseconds
	maxTimeout    = 60_000
	maxInFlight   = 1024
)

// SourceSet makes or changes a source. What an alias stands for does not change: that takes another alias.
type SourceSet struct {
	Source Source `json:"source"`
}

func (SourceSet) kind() string { return "source-set" }

func (c SourceSet) apply(d *State) error {
	s := c.Source
	alias := string(s.Alias)
	old, known := d.sources.get(alias)
	switch {
	case kra.CheckName(alias) != nil:
		return invalid("source %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", alias, kra.MaxID)
	case d.anchors.has(alias), d.platforms.has(alias):
		return invalid("alias %q is taken by a certification authority", alias)
	case s.Kind() == "":
		return invalid("source %q: it must be exactly one thing", alias)
	case known && old.Kind() != s.Kind():
		return invalid("alias %q stands for a source of kind %s", alias, old.Kind())
	case !known && d.sources.size() >= MaxSources:
		return invalid("there are %d sources already, which is the limit", MaxSources)
	}
	if err := s.check(); err != nil {
		return err
	}
	if err := s.checkAgainst(d); err != nil {
		return err
	}
	d.sources.put(alias, s)
	return nil
}

func (s Source) fault(format string, a ...any) error {
	return invalid("source %q: "+format, append([]any{s.Alias}, a...)...)
}

// check holds the source to its limits, whatever else there is.
func (s Source) check() error {
	if err := s.checkMay(); err != nil {
		return err
	}
	switch s.Kind() {
	case AttributeSource:
		return s.checkAttribute(s.Attribute)
	case DirectorySource:
		return s.checkDirectory(s.Directory)
	case IssuerSource:
		return s.checkIssuer(s.Issuer)
	case RepositorySource:
		return s.checkRepository(s.Repository)
	case ServiceSource:
		return s.checkService(s.Service)
	case RevocationSource:
		return s.checkRevocation(s.Revocation)
	}
	return s.fault("it is of no kind")
}

func (s Source) checkMay() error {
	if vouches := s.Kind().Vouches(); vouches != (len(s.May) > 0) {
		if vouches {
			return s.fault("its word counts for nothing; say what it may assert")
		}
		return s.fault("a source of kind %s asserts nothing", s.Kind())
	}
	at := -1
	for _, k := range s.May {
		i := slices.Index(InformationKinds(), k)
		if i <= at {
			return s.fault("unknown, repeated or misplaced kind of information %.40q", k)
		}
		at = i
	}
	return nil
}

func (s Source) checkAttribute(a *AttributeAuthority) error {
	if len(a.Certs) == 0 {
		return s.fault("it has no certificate")
	}
	if err := s.checkPins(a.Certs); err != nil {
		return err
	}
	if kra.CheckName(string(a.Of)) != nil {
		return s.fault("whose decryptors it speaks of is not set: source add attribute ALIAS may KINDS of ANCHOR")
	}
	if len(a.Clearances) > MaxClearances {
		return s.fault("more than %d clearance policies", MaxClearances)
	}
	for i, p := range a.Clearances {
		if slices.ContainsFunc(a.Clearances[:i], func(q ClearancePolicy) bool { return q.Policy == p.Policy }) {
			return s.fault("clearance policy %s is there twice", p.Policy)
		}
		if err := s.checkClearance(p); err != nil {
			return err
		}
	}
	return nil
}

func (s Source) checkClearance(p ClearancePolicy) error {
	if !isOID(p.Policy) {
		return s.fault("clearance policy %.80q: want an OID in dots", p.Policy)
	}
	if len(p.Levels) > maxClassBit+1 || len(p.Categories) > maxCategories {
		return s.fault("clearance policy %s: too many levels or categories", p.Policy)
	}
	for i, l := range p.Levels {
		if l.Bit < 0 || l.Bit > maxClassBit || i > 0 && l.Bit <= p.Levels[i-1].Bit || kra.CheckName(l.Level) != nil {
			return s.fault("clearance policy %s: bit %d, level %.80q: out of range, out of order or no name", p.Policy, l.Bit, l.Level)
		}
	}
	for _, c := range p.Categories {
		if !isOID(c.Type) || len(c.Value) > maxField || kra.CheckName(c.Compartment) != nil {
			return s.fault("clearance policy %s: category %.80q: want an OID and a compartment's name", p.Policy, c.Type)
		}
	}
	return nil
}

func (s Source) checkDirectory(x *Directory) error {
	switch {
	case !isURL(x.URL, "ldaps"):
		return s.fault("want an address such as ldaps://ldap.example.com")
	case len(x.CA) == 0:
		return s.fault("the certification authority of the server is missing")
	case !isText(x.Bind, maxField), !isText(x.Filter, maxField), x.Base == "" || !isText(x.Base, maxField):
		return s.fault("base, filter and name to bind as are lines of at most %d bytes; the base cannot be empty", maxField)
	case !isText(x.Name, maxField) || strings.ContainsAny(x.Name, " ()=,"):
		return s.fault("%.80q is not the name of an attribute", x.Name)
	case kra.CheckName(string(x.Of)) != nil:
		return s.fault("whose decryptors it knows is not set")
	case (x.Bind == "") != (x.Password.size() == 0) || x.Password.size() > maxSecret:
		return s.fault("a name to bind as and a password belong together; a password has at most %d bytes", maxSecret)
	case x.Every < minEvery || x.Every > maxEvery || x.MaxAge < x.Every || x.MaxAge > maxAge:
		return s.fault("it is asked every %d to %d seconds, and what it said lasts longer than that", minEvery, maxEvery)
	}
	if err := s.checkPins(x.CA); err != nil {
		return err
	}
	return s.checkMap(x.Map)
}

func (s Source) checkIssuer(x *TokenIssuer) error {
	if x.Issuer == "" || x.Audience == "" || !isText(x.Issuer, maxField) || !isText(x.Audience, maxField) {
		return s.fault("issuer and audience are lines of 1 to %d bytes", maxField)
	}
	if len(x.Keys) > maxJWKS || !isKeySet(x.Keys) {
		return s.fault("want its public keys as a JSON Web Key Set of at most %d bytes", maxJWKS)
	}
	return s.checkMap(x.Map)
}

// isKeySet accepts what looks like a JWK set of public keys; who uses them, parses them.
func isKeySet(b []byte) bool {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if json.Unmarshal(b, &set) != nil || len(set.Keys) == 0 {
		return false
	}
	for _, k := range set.Keys {
		if _, private := k["d"]; private || k["kty"] == "oct" {
			return false
		}
	}
	return true
}

func (s Source) checkMap(all []Mapping) error {
	if len(all) > MaxMappings {
		return s.fault("more than %d mappings", MaxMappings)
	}
	for i, m := range all {
		named := m.Kind == AttributeInformation || m.Kind == DeviceInformation || m.Kind == AliasInformation
		switch {
		case !slices.Contains(s.May, m.Kind):
			return s.fault("it may not assert a %.40q", m.Kind)
		case named != (m.Name != "") || !isText(m.Name, maxField):
			return s.fault("%s from %.80q: attributes, device attributes and aliases have a name, the others have none", m.Kind, m.From)
		case m.From == "" || !isText(m.From, maxField):
			return s.fault("%s %.80q: from what is missing", m.Kind, m.Name)
		case slices.Contains(all[:i], m):
			return s.fault("%s %.80q from %.80q is there twice", m.Kind, m.Name, m.From)
		}
	}
	return nil
}

func (s Source) checkRepository(x *Repository) error {
	switch {
	case (x.URL == "") == (len(x.Data) == 0) || x.URL != "" && !isURL(x.URL, "https"):
		return s.fault("want an address such as https://keys.example.com/, or what was pasted")
	case x.URL != "" && len(x.CA) == 0:
		return s.fault("the certification authority of the server is missing")
	case len(x.Data) > maxRepository:
		return s.fault("longer than %d bytes", maxRepository)
	case x.URL != "" && (x.Every < minEvery || x.Every > maxEvery || x.MaxAge < x.Every), x.MaxAge < 0 || x.MaxAge > maxAge:
		return s.fault("it is asked every %d to %d seconds, and what it said lasts longer than that", minEvery, maxEvery)
	}
	if _, err := x509.ParsePKIXPublicKey(x.Key); err != nil || len(x.Key) > maxPublicKey {
		return s.fault("its public key is missing or malformed")
	}
	return s.checkPins(x.CA)
}

func (s Source) checkService(x *Service) error {
	switch {
	case !isURL(x.URL, "https"):
		return s.fault("want an address such as https://pay.example.com/kra")
	case len(x.CA) == 0:
		return s.fault("the certification authority of the server is missing")
	case x.Mode != Reserve && x.Mode != Verify:
		return s.fault("unknown mode %.40q", x.Mode)
	case x.Charge != ChargePlatform && x.Charge != ChargeSubject:
		return s.fault("who is charged is not set")
	case x.TimeoutMS < minTimeout || x.TimeoutMS > maxTimeout || x.InFlight < 1 || x.InFlight > maxInFlight:
		return s.fault("it is waited for %d to %d milliseconds, with 1 to %d questions in flight", minTimeout, maxTimeout, maxInFlight)
	case x.Value.size() > maxSecret || x.Charge == ChargeSubject && x.Value.size() > 0:
		return s.fault("only the platform has a value of its own, of at most %d bytes", maxSecret)
	}
	return s.checkPins(x.CA)
}

func (s Source) checkRevocation(x *Revocation) error {
	switch {
	case x.URL == "" && len(x.CRL) == 0:
		return s.fault("want an address or a list")
	case x.URL != "" && !isURL(x.URL, "http") && !isURL(x.URL, "https"):
		return s.fault("want an address such as http://ca.example.com/people.crl")
	case isURL(x.URL, "https") && len(x.CA) == 0:
		return s.fault("the certification authority of the server is missing")
	case x.URL != "" && (x.Every < minEvery || x.Every > maxEvery):
		return s.fault("it is fetched every %d to %d seconds", minEvery, maxEvery)
	case x.URL != "" && x.MaxAge < x.Every, x.MaxAge < 0 || x.MaxAge > maxAge:
		return s.fault("a list that is fetched counts longer than until the next look, and at most %d seconds", maxAge)
	case len(x.CRL) > maxCRL:
		return s.fault("longer than %d bytes", maxCRL)
	}
	if _, err := x509.ParseRevocationList(x.CRL); err != nil && len(x.CRL) > 0 {
		return s.fault("not a list of revoked certificates")
	}
	return s.checkPins(x.CA)
}

func (s Source) checkPins(certs [][]byte) error {
	if len(certs) > maxPins {
		return s.fault("more than %d certificates", maxPins)
	}
	for i, der := range certs {
		cert, err := x509.ParseCertificate(der)
		if err != nil || len(der) > maxCertificate {
			return s.fault("certificate %d is malformed", i+1)
		}
		if err := kra.CheckCertificateKey(cert); err != nil {
			return s.fault("certificate %d: %v: to verify by it takes too long", i+1, err)
		}
		if slices.ContainsFunc(certs[:i], func(x []byte) bool { return slices.Equal(x, der) }) {
			return s.fault("certificate %d is there twice", i+1)
		}
	}
	return nil
}

// checkAgainst holds the source to what else is in the state.
func (s Source) checkAgainst(d *State) error {
	if s.Attribute != nil && !d.anchors.has(string(s.Attribute.Of)) {
		return s.fault("there is no certification authority %q of whose decryptors it could speak", s.Attribute.Of)
	}
	if s.Directory != nil && !d.anchors.has(string(s.Directory.Of)) {
		return s.fault("there is no certification authority %q whose decryptors it could know", s.Directory.Of)
	}
	if s.Revocation == nil {
		return nil
	}
	if of, ok := d.sources.get(string(s.Revocation.Of)); !d.anchors.has(string(s.Revocation.Of)) && (!ok || of.Attribute == nil) {
		return s.fault("there is no certification or attribute authority %.80q", s.Revocation.Of)
	}
	for _, other := range d.sources.all() {
		if other.Alias != s.Alias && other.Revocation != nil && other.Revocation.Of == s.Revocation.Of {
			return s.fault("the list of %q is %q already", s.Revocation.Of, other.Alias)
		}
	}
	return nil
}

// SourceRemove removes a source that no rule, role or other source names.
type SourceRemove struct {
	Alias kra.Anchor `json:"alias"`
}

func (SourceRemove) kind() string { return "source-remove" }

func (c SourceRemove) apply(d *State) error {
	if !d.sources.has(string(c.Alias)) {
		return invalid("there is no source %.80q", c.Alias)
	}
	if users := d.usersOfAuthority(c.Alias); len(users) > 0 {
		return invalid("source %q is in use by %s", c.Alias, joined(users))
	}
	d.sources.remove(string(c.Alias))
	return nil
}

// usersOfAuthority names the rules, roles and sources that name an authority or a service, a few of them.
func (s *State) usersOfAuthority(alias kra.Anchor) (users []string) {
	for _, r := range s.rules.all() {
		if quotes(r.Expr, string(alias)) {
			users = append(users, "rule "+r.Name)
		}
	}
	for _, r := range s.roles.all() {
		if slices.ContainsFunc(r.Needs, func(n Need) bool { return n.Authority == alias }) {
			users = append(users, "role "+r.Name)
		}
	}
	for _, o := range s.sources.all() {
		if o.Revocation != nil && o.Revocation.Of == alias || o.Directory != nil && o.Directory.Of == alias ||
			o.Attribute != nil && o.Attribute.Of == alias {
			users = append(users, "source "+string(o.Alias))
		}
	}
	return few(users)
}

// quotes reports whether a rule holds a name as a quoted word.
func quotes(expr, name string) bool {
	return strings.Contains(expr, `"`+name+`"`) || strings.Contains(expr, "'"+name+"'")
}

func isURL(s, scheme string) bool {
	u, err := url.Parse(s)
	return err == nil && isText(s, maxField) && u.Scheme == scheme && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

func isOID(s string) bool {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return false
		}
		oid = append(oid, int(n))
	}
	_, err := asn1.Marshal(oid)
	return err == nil && len(s) <= maxField
}
