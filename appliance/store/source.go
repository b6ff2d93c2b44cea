package store

import (
	"github.com/keyrelease/krabox/kra"
)

// A Source is where something about decryptors comes from, or who else is asked: exactly one of its parts is set. Its
// alias stands for it in rules; certification authorities of decryptors share the name space.
type Source struct {
	Alias      kra.Anchor          `json:"alias"`
	May        []InformationKind   `json:"may"` // what its word counts for, in the order of the kinds
	Attribute  *AttributeAuthority `json:"attribute,omitempty"`
	Directory  *Directory          `json:"directory,omitempty"`
	Issuer     *TokenIssuer        `json:"issuer,omitempty"`
	Repository *Repository         `json:"repository,omitempty"`
	Service    *Service            `json:"service,omitempty"`
	Revocation *Revocation         `json:"revocation,omitempty"`
}

// An InformationKind is a kind of decryptor information. The zero kind is refused.
type InformationKind string

// The kinds, in their order.
const (
	GroupInformation     InformationKind = "group"
	RoleInformation      InformationKind = "role"
	AttributeInformation InformationKind = "attribute"
	ClearanceInformation InformationKind = "clearance"
	AliasInformation     InformationKind = "alias"
	DeviceInformation    InformationKind = "device"
)

// InformationKinds returns all kinds in their order.
func InformationKinds() []InformationKind {
	return []InformationKind{GroupInformation, RoleInformation, AttributeInformation, ClearanceInformation, AliasInformation, DeviceInformation}
}

// A SourceKind is what a source is, as the console calls it.
type SourceKind string

// The kinds of sources.
const (
	AttributeSource  SourceKind = "attribute"
	DirectorySource  SourceKind = "directory"
	IssuerSource     SourceKind = "issuer"
	RepositorySource SourceKind = "repository"
	ServiceSource    SourceKind = "service"
	RevocationSource SourceKind = "crl"
)

// An AttributeAuthority signs attribute certificates (RFC 5755).
type AttributeAuthority struct {
	Certs      [][]byte          `json:"certs"` // DER, of the authority itself
	Of         kra.Anchor        `json:"of"`    // the certification authority whose decryptors it speaks of
	Clearances []ClearancePolicy `json:"clearances"`
}

// A ClearancePolicy says in our words what the clearances of one policy mean (RFC 5755, section 4.4.6). A bit and a
// category that are not listed mean nothing.
type ClearancePolicy struct {
	Policy     string              `json:"policy"` // OID in dots
	Levels     []ClearanceLevel    `json:"levels"`
	Categories []ClearanceCategory `json:"categories"`
}

// A ClearanceLevel names the level that a bit of the class list stands for.
type ClearanceLevel struct {
	Bit   int    `json:"bit"`
	Level string `json:"level"`
}

// A ClearanceCategory names the compartment that a security category stands for.
type ClearanceCategory struct {
	Type        string `json:"type"`            // OID in dots
	Value       []byte `json:"value,omitempty"` // its DER; empty: whatever the value is
	Compartment string `json:"compartment"`
}

// A Mapping says which field of what a source tells becomes which kind of information.
type Mapping struct {
	Kind InformationKind `json:"kind"`
	Name string          `json:"name,omitempty"` // type of an attribute or device attribute, form of an alias; else empty
	From string          `json:"from"`           // attribute of a directory entry, claim of a token
}

// A Directory is an LDAP server, asked in the background.
type Directory struct {
	URL      string     `json:"url"`  // ldaps://
	CA       [][]byte   `json:"ca"`   // DER
	Bind     string     `json:"bind"` // distinguished name; empty: nobody
	Password Secret     `json:"password"`
	Base     string     `json:"base"`
	Filter   string     `json:"filter"` // empty: all entries
	Name     string     `json:"name"`   // attribute that holds the decryptor's name; empty: the entry's own distinguished name
	Of       kra.Anchor `json:"of"`     // alias of the certification authority whose decryptors it knows
	Every    int        `json:"every"`  // seconds between two looks
	MaxAge   int        `json:"max_age"`
	Map      []Mapping  `json:"map"`
}

// A TokenIssuer signs tokens (RFC 7519) that are bound to the decryptor's certificate.
type TokenIssuer struct {
	Issuer   string    `json:"issuer"`
	Audience string    `json:"audience"`
	Keys     []byte    `json:"keys"` // RFC 7517, as it was pasted
	Map      []Mapping `json:"map"`
}

// A Repository is a place of signed entries. Without a URL its entries are those that were pasted.
type Repository struct {
	URL    string   `json:"url"`
	CA     [][]byte `json:"ca"`
	Data   []byte   `json:"data"`
	Key    []byte   `json:"key"` // public, DER
	Every  int      `json:"every"`
	MaxAge int      `json:"max_age"` // seconds
}

// A ServiceMode is how a service is asked.
type ServiceMode string

// The modes of a service.
const (
	Reserve ServiceMode = "reserve" // reserve, then capture or cancel
	Verify  ServiceMode = "verify"  // one question
)

// A Payer is who is charged for a question to a service.
type Payer string

// Those who can pay.
const (
	ChargePlatform Payer = "platform" // this box, with the service's Value
	ChargeSubject  Payer = "subject"  // who asks, with a value that comes with the request
)

// A Service is asked over HTTPS whether somebody may have a key.
type Service struct {
	URL       string      `json:"url"`
	CA        [][]byte    `json:"ca"` // DER
	Mode      ServiceMode `json:"mode"`
	TimeoutMS int         `json:"timeout_ms"`
	InFlight  int         `json:"in_flight"`
	Charge    Payer       `json:"charge"`
	Value     Secret      `json:"value"` // that the platform presents
}

// A Revocation is where the list of an authority's revoked certificates comes from.
type Revocation struct {
	Of    kra.Anchor `json:"of"`  // a certification authority of decryptors, or an attribute authority
	URL   string     `json:"url"` // empty: pasted only
	CA    [][]byte   `json:"ca"`  // DER; of the server, if the URL is https
	CRL   []byte     `json:"crl"` // DER, pasted or last fetched; empty: none yet
	Every int        `json:"every"`

	MaxAge int `json:"max_age"` // seconds from a list's own date on, after which it is overdue; 0: when it says so itself, if it was pasted
}

// Secrets is how many secrets of the box the source holds: a password, or a value that is presented.
func (s Source) Secrets() (n int) {
	if s.Directory != nil && s.Directory.Password.size() > 0 {
		n++
	}
	if s.Service != nil && s.Service.Value.size() > 0 {
		n++
	}
	return n
}

// Kind says what the source is, or "" if not exactly one of its parts is set.
func (s Source) Kind() (kind SourceKind) {
	n := 0
	for _, p := range []struct {
		set  bool
		kind SourceKind
	}{
		{s.Attribute != nil, AttributeSource}, {s.Directory != nil, DirectorySource}, {s.Issuer != nil, IssuerSource},
		{s.Repository != nil, RepositorySource}, {s.Service != nil, ServiceSource}, {s.Revocation != nil, RevocationSource},
	} {
		if p.set {
			n, kind = n+1, p.kind
		}
	}
	if n != 1 {
		return ""
	}
	return kind
}

// Vouches reports whether the source can say anything about decryptors by itself.
func (k SourceKind) Vouches() bool {
	return k == AttributeSource || k == DirectorySource || k == IssuerSource
}
