package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
)

const testKeySet = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// sources are good ones, one of each kind; certs are those of an authority.
func sources(t testing.TB, ca, leaf []byte) map[SourceKind]Source {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return map[SourceKind]Source{
		AttributeSource: {Alias: "corp-aa", May: []InformationKind{GroupInformation, ClearanceInformation},
			Attribute: &AttributeAuthority{Certs: [][]byte{leaf}, Of: "corp", Clearances: []ClearancePolicy{{Policy: "1.2.840.99",
				Levels:     []ClearanceLevel{{Bit: 1, Level: "unclassified"}, {Bit: 4, Level: "secret"}},
				Categories: []ClearanceCategory{{Type: "1.2.840.99.1", Compartment: "crypto"}}}}}},
		DirectorySource: {Alias: "corp-ldap", May: []InformationKind{GroupInformation, AttributeInformation},
			Directory: &Directory{URL: "ldaps://ldap.example.com", CA: [][]byte{ca}, Bind: "cn=kra,dc=example", Password: NewSecret([]byte("very-hidden")),
				Base: "ou=people,dc=example", Of: "corp", Every: 300, MaxAge: 900,
				Map: []Mapping{{Kind: GroupInformation, From: "memberOf"}, {Kind: AttributeInformation, Name: "department", From: "departmentNumber"}}}},
		IssuerSource: {Alias: "idp", May: []InformationKind{RoleInformation}, Issuer: &TokenIssuer{Issuer: "https://idp.example.com",
			Audience: "kra", Keys: []byte(testKeySet), Map: []Mapping{{Kind: RoleInformation, From: "roles"}}}},
		RepositorySource: {Alias: "keys", Repository: &Repository{URL: "https://keys.example.com/", CA: [][]byte{ca}, Key: spki, Every: 300, MaxAge: 3600}},
		ServiceSource: {Alias: "credit", Service: &Service{URL: "https://pay.example.com/kra", CA: [][]byte{ca}, Mode: Reserve, TimeoutMS: 500,
			InFlight: 16, Charge: ChargePlatform, Value: NewSecret([]byte("very-hidden"))}},
		RevocationSource: {Alias: "corp-crl", Revocation: &Revocation{Of: "corp", URL: "http://ca.example.com/people.crl", Every: 3600, MaxAge: 7 * 24 * 3600}},
	}
}

// copyOf lets f change a deep copy of a source.
func copyOf(t testing.TB, s Source, f func(*Source)) SourceSet {
	t.Helper()
	b, err := EncodeChange(SourceSet{s})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseChange(b)
	if err != nil {
		t.Fatal(err)
	}
	set := c.(SourceSet)
	f(&set.Source)
	return set
}

// worldOfSources is a state with an authority, the sources, a role and groups.
func worldOfSources(t testing.TB) (*State, map[SourceKind]Source) {
	t.Helper()
	ca, leaf, _, _ := authority(t)
	all := sources(t, ca, leaf)
	changes := []Change{OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}, AnchorAdd{"corp", kra.WholeName, ca}}
	for _, k := range []SourceKind{AttributeSource, DirectorySource, IssuerSource, RepositorySource, ServiceSource, RevocationSource} {
		changes = append(changes, SourceSet{all[k]})
	}
	s, err := Apply(newState(), append(changes,
		RoleSet{"teller", []Need{{Kind: AttributeInformation, Name: "department", Value: "sales", Authority: "corp-ldap"}, {Kind: GroupInformation, Name: "staff"}}},
		RoleSet{"clerk", []Need{{Kind: RoleInformation, Name: "teller"}}},
		RuleAdd{"sales", `attributes.has("department","sales","corp-ldap")`}, RuleAdd{"paid", `external.allows("credit")`},
		GroupAdd{"staff", "corp:CN=alice"}, GroupAdd{"legal", ""}, GroupNest{"staff", "legal"}, MaintainerAdd{"staff", "corp:CN=mia"},
		OfficerAdd{Name: "mick", Hash: "$argon2id$x", Group: "legal", Duty: Maintainer}, AccessAdd{"legal-team", ""},
	)...)
	if err != nil {
		t.Fatal(err)
	}
	return s, all
}

// TestInvalidSources: each is refused with a text that says why, and leaves no trace.
func TestInvalidSources(t *testing.T) {
	base, all := worldOfSources(t)
	set := func(k SourceKind, f func(*Source)) Change { return copyOf(t, all[k], f) }
	long := strings.Repeat("x", maxField+1)
	for _, c := range []struct {
		change Change
		want   string
	}{
		{set(AttributeSource, func(s *Source) { s.Alias = "Corp" }), "want a-z"},
		{set(AttributeSource, func(s *Source) { s.Alias = "corp" }), "taken by a certification authority"},
		{set(AttributeSource, func(s *Source) { s.Alias = "idp" }), "of kind issuer"},
		{set(AttributeSource, func(s *Source) { s.Issuer = all[IssuerSource].Issuer }), "exactly one thing"},
		{SourceSet{Source{Alias: "nothing", May: []InformationKind{GroupInformation}}}, "exactly one thing"},
		{set(AttributeSource, func(s *Source) { s.May = nil }), "counts for nothing"},
		{set(AttributeSource, func(s *Source) { s.May = []InformationKind{"wisdom"} }), "unknown, repeated or misplaced"},
		{set(AttributeSource, func(s *Source) { s.May = []InformationKind{GroupInformation, GroupInformation} }), "unknown, repeated or misplaced"},
		{set(AttributeSource, func(s *Source) { s.May = []InformationKind{RoleInformation, GroupInformation} }), "unknown, repeated or misplaced"},
		{set(ServiceSource, func(s *Source) { s.May = []InformationKind{GroupInformation} }), "asserts nothing"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Certs = nil }), "no certificate"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Certs = [][]byte{{1}} }), "certificate 1 is malformed"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Certs = append(s.Attribute.Certs, s.Attribute.Certs[0]) }), "certificate 2 is there twice"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Certs = make([][]byte, maxPins+1) }), "more than 8 certificates"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Policy = "1.2.x" }), "want an OID"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Policy = "01.2" }), "want an OID"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances = append(s.Attribute.Clearances, s.Attribute.Clearances[0]) }), "is there twice"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Levels[0].Bit = 5 }), "out of order"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Levels[0].Bit = -1 }), "out of range"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Levels[0].Level = "" }), "no name"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Clearances[0].Categories[0].Type = "" }), "want an OID and a compartment"},
		{set(AttributeSource, func(s *Source) { s.Attribute.Of = "other" }), `no certification authority "other"`},
		{set(AttributeSource, func(s *Source) { s.Attribute.Of = "" }), "source add attribute ALIAS may KINDS of ANCHOR"},
		{set(DirectorySource, func(s *Source) { s.Directory.URL = "ldap://ldap.example.com" }), "ldaps://"},
		{set(DirectorySource, func(s *Source) { s.Directory.URL = "ldaps://user:pass@ldap.example.com" }), "ldaps://"},
		{set(DirectorySource, func(s *Source) { s.Directory.CA = nil }), "authority of the server"},
		{set(DirectorySource, func(s *Source) { s.Directory.Base = "" }), "base cannot be empty"},
		{set(DirectorySource, func(s *Source) { s.Directory.Filter = "(a\n)" }), "lines of at most"},
		{set(DirectorySource, func(s *Source) { s.Directory.Name = "uid)(" }), "not the name of an attribute"},
		{set(DirectorySource, func(s *Source) { s.Directory.Of = "other" }), `no certification authority "other"`},
		{set(DirectorySource, func(s *Source) { s.Directory.Of = "" }), "not set"},
		{set(DirectorySource, func(s *Source) { s.Directory.Password = Secret{} }), "belong together"},
		{set(DirectorySource, func(s *Source) { s.Directory.Bind = "" }), "belong together"},
		{set(DirectorySource, func(s *Source) { s.Directory.Every = 1 }), "asked every 10"},
		{set(DirectorySource, func(s *Source) { s.Directory.MaxAge = 299 }), "lasts longer"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map[0].Kind = RoleInformation }), "may not assert"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map[0].Name = "legal" }), "have a name"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map[1].Name = "" }), "have a name"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map[1].From = "" }), "from what is missing"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map = append(s.Directory.Map, s.Directory.Map[0]) }), "is there twice"},
		{set(DirectorySource, func(s *Source) { s.Directory.Map = make([]Mapping, MaxMappings+1) }), "more than 64 mappings"},
		{set(IssuerSource, func(s *Source) { s.Issuer.Issuer = "" }), "issuer and audience"},
		{set(IssuerSource, func(s *Source) { s.Issuer.Audience = long }), "issuer and audience"},
		{set(IssuerSource, func(s *Source) { s.Issuer.Keys = []byte("{}") }), "JSON Web Key Set"},
		{set(IssuerSource, func(s *Source) { s.Issuer.Keys = []byte(`{"keys":[{"kty":"OKP","d":"AA"}]}`) }), "JSON Web Key Set"},
		{set(IssuerSource, func(s *Source) { s.Issuer.Keys = []byte(`{"keys":[{"kty":"oct","k":"AA"}]}`) }), "JSON Web Key Set"},
		{set(RepositorySource, func(s *Source) { s.Repository.URL = "http://keys.example.com/" }), "https://"},
		{set(RepositorySource, func(s *Source) { s.Repository.Data = []byte("x") }), "or what was pasted"},
		{set(RepositorySource, func(s *Source) { s.Repository.CA = nil }), "authority of the server"},
		{set(RepositorySource, func(s *Source) { s.Repository.Key = []byte("x") }), "public key"},
		{set(RepositorySource, func(s *Source) { s.Repository.MaxAge = 1 }), "lasts longer"},
		{set(ServiceSource, func(s *Source) { s.Service.URL = "http://pay.example.com" }), "https://"},
		{set(ServiceSource, func(s *Source) { s.Service.CA = nil }), "authority of the server"},
		{set(ServiceSource, func(s *Source) { s.Service.Mode = "" }), "unknown mode"},
		{set(ServiceSource, func(s *Source) { s.Service.Charge = "nobody" }), "who is charged"},
		{set(ServiceSource, func(s *Source) { s.Service.TimeoutMS = 0 }), "milliseconds"},
		{set(ServiceSource, func(s *Source) { s.Service.InFlight = maxInFlight + 1 }), "in flight"},
		{set(ServiceSource, func(s *Source) { s.Service.Charge = ChargeSubject }), "only the platform"},
		{set(RevocationSource, func(s *Source) { s.Revocation.URL = "" }), "an address or a list"},
		{set(RevocationSource, func(s *Source) { s.Revocation.URL = "file:///etc/passwd" }), "want an address"},
		{set(RevocationSource, func(s *Source) { s.Revocation.URL = "https://ca.example.com/x" }), "authority of the server"},
		{set(RevocationSource, func(s *Source) { s.Revocation.Every = 0 }), "fetched every"},
		{set(RevocationSource, func(s *Source) { s.Revocation.MaxAge = 0 }), "counts longer"},
		{set(RevocationSource, func(s *Source) { s.Revocation.MaxAge = maxAge + 1 }), "at most"},
		{set(RevocationSource, func(s *Source) { s.Revocation.CRL = []byte("x") }), "not a list"},
		{set(RevocationSource, func(s *Source) { s.Revocation.Of = "idp" }), "no certification or attribute authority"},
		{set(RevocationSource, func(s *Source) { s.Alias = "second-crl" }), `is "corp-crl" already`},
		{SourceRemove{"other"}, `no source "other"`},
		{SourceRemove{"corp-ldap"}, "in use by role teller, rule sales"},
		{SourceRemove{"credit"}, "in use by rule paid"},
		{AnchorRemove{"corp"}, "in use by source corp-aa, source corp-crl, source corp-ldap"},
		{RoleSet{"Teller", nil}, "want a-z"},
		{RoleSet{"teller", nil}, "want 1 to 32"},
		{RoleSet{"teller", make([]Need, MaxNeeds+1)}, "want 1 to 32"},
		{RoleSet{"teller", []Need{{Kind: "wisdom"}}}, "unknown kind"},
		{RoleSet{"teller", []Need{{Kind: ClearanceInformation, Name: "x", Value: "secret"}}}, "cannot be"},
		{RoleSet{"teller", []Need{{Kind: GroupInformation}}}, "cannot be"},
		{RoleSet{"teller", []Need{{Kind: AttributeInformation, Name: "department"}}}, "cannot be"},
		{RoleSet{"teller", []Need{{Kind: GroupInformation, Name: "x", Authority: "other"}}}, `no authority "other"`},
		{RoleSet{"teller", []Need{{Kind: GroupInformation, Name: "x"}, {Kind: GroupInformation, Name: "x"}}}, "twice"},
		{RoleRemove{"other"}, `no role "other"`},
		{RoleRemove{"teller"}, "in use by role clerk"},
		{GroupNest{"other", "staff"}, `no group "other"`},
		{GroupNest{"staff", "other"}, `no group "other"`},
		{GroupNest{"staff", "legal"}, "already"},
		{GroupUnnest{"legal", "staff"}, "is not in group"},
		{MaintainerAdd{"staff", "mia"}, "want ALIAS:NAME"},
		{MaintainerAdd{"staff", "corp:CN=mia"}, "already"},
		{MaintainerAdd{"other", "corp:CN=mia"}, `no group "other"`},
		{MaintainerRemove{"staff", "corp:CN=bob"}, "does not maintain"},
		{GroupEdit{"staff", nil, nil, 2, "corp:CN=mia"}, "want 1 to"},
		{GroupEdit{"staff", []string{"corp:CN=bob"}, nil, 2, "corp:CN=alice"}, "does not maintain"},
		{GroupEdit{"legal", []string{"corp:CN=bob"}, nil, 2, "corp:CN=mia"}, "does not maintain"},
		{GroupEdit{"staff", []string{"corp:CN=bob"}, nil, 1, "corp:CN=mia"}, "of version 1"},
		{GroupEdit{"staff", []string{"corp:CN=bob", "corp:CN=alice"}, nil, 2, "corp:CN=mia"}, "already"},
		{GroupEdit{"staff", nil, []string{"corp:CN=bob"}, 2, "corp:CN=mia"}, "is not in group"},
		{GroupRemove{"staff", ""}, "in use by group legal, role teller"},
		{GroupRemove{"legal", ""}, "in use by maintainer mick"},
		{OfficerAdd{Name: "mona", Hash: "$argon2id$x", Group: "other", Duty: Maintainer}, `no group "other"`},
		{OfficerRemove{"alice"}, "the last one"},
		{AccessLogic{"legal-team", "prolog", nil}, "unknown logic"},
		{AccessLogic{"nobody", Cedar, nil}, "no access identifier"},
		{AccessDelivery{"legal-team", "pigeon"}, "unknown delivery"},
		{AccessDelivery{"nobody", ToAnyone}, "no access identifier"},
		{AccessPortion{"legal-team", "half"}, "unknown portion"},
		{AccessPortion{"nobody", AnyPortion}, "no access identifier"},
		{LevelsSet{[]string{"a", "a"}}, "each once"},
		{LevelsSet{make([]string, MaxLevels+1)}, "too many"},
	} {
		got, err := Apply(base, c.change)
		var i *Invalid
		if !errors.As(err, &i) || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s %.60q: error %v", c.change.kind(), c.want, err)
		}
	}
	if again := rebuild(t, base); again != base.tree.root(mark{}) {
		t.Error("refused changes left traces in the state")
	}
}

// TestSourcesStay: what was set comes back, also through its JSON, and what an edit asks for happens.
func TestSourcesStay(t *testing.T) {
	base, all := worldOfSources(t)
	for kind, s := range all {
		if s.Kind() != kind {
			t.Errorf("source %s is a %q, want %q", s.Alias, s.Kind(), kind)
		}
		got, ok := base.Source(s.Alias)
		want, err := EncodeChange(SourceSet{s})
		if err != nil {
			t.Fatal(err)
		}
		have, err := EncodeChange(SourceSet{got})
		if err != nil || !ok || !bytes.Equal(have, want) {
			t.Errorf("source %s comes back as %s, %v", s.Alias, have, err)
		}
	}
	next, err := Apply(base, GroupEdit{"staff", []string{"corp:CN=bob"}, []string{"corp:CN=alice"}, 2, "corp:CN=mia"},
		AccessLogic{"legal-team", Cedar, []string{"permit(principal, action, resource);"}}, AccessDelivery{"legal-team", ToAnyone},
		LevelsSet{[]string{"open", "closed"}}, GroupUnnest{"staff", "legal"}, MaintainerRemove{"staff", "corp:CN=mia"})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := next.Group("staff")
	if fmt.Sprint(g) != "{staff [corp:CN=bob] [] [] 4}" {
		t.Errorf("group staff is %v", g)
	}
	a, _ := next.Access("legal-team")
	if a.Logic != Cedar || a.Delivery != ToAnyone || len(a.Lists) != 1 || fmt.Sprint(next.Levels()) != "[open closed]" {
		t.Errorf("access %+v, levels %v", a, next.Levels())
	}
}

// TestGroupVersionNeverReturns: a statement about a group is not good for one of the same name that is made later.
func TestGroupVersionNeverReturns(t *testing.T) {
	s := newState()
	seen := map[uint64]bool{}
	for range 5 {
		for _, c := range []Change{GroupAdd{"legal", ""}, GroupAdd{"legal", "corp:CN=alice"}, GroupRemove{"legal", "corp:CN=alice"}} {
			var err error
			if s, err = Apply(s, c); err != nil {
				t.Fatal(err)
			}
			g, _ := s.Group("legal")
			if seen[g.Version] {
				t.Fatalf("version %d of the group is there again", g.Version)
			}
			seen[g.Version] = true
		}
		var err error
		if s, err = Apply(s, GroupRemove{"legal", ""}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMaintainerStaysOne: a new passphrase does not make a maintainer an administrator.
func TestMaintainerStaysOne(t *testing.T) {
	base, _ := worldOfSources(t)
	next, err := Apply(base, OfficerPassphrase{"mick", "$argon2id$y"}, OfficerFailures{Name: "mick", Failures: 3})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := next.Officer("mick"); o.Group != "legal" || o.Hash != "$argon2id$y" {
		t.Errorf("officer mick is %+v", o)
	}
}

// TestSourceSecretsDoNotPrint: neither the state nor a change shows them by fmt.
func TestSourceSecretsDoNotPrint(t *testing.T) {
	base, all := worldOfSources(t)
	for _, v := range []any{base, all, SourceSet{all[DirectorySource]}, all[ServiceSource].Service, *all[DirectorySource].Directory} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "very-hidden") || strings.Contains(text, fmt.Sprintf("%x", "very-hidden")) {
				t.Errorf("%s prints a secret", verb)
			}
		}
	}
}

// TestRevocationListIsKept: a list that was fetched takes the place of the last.
func TestRevocationListIsKept(t *testing.T) {
	base, all := worldOfSources(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	next, err := Apply(base, copyOf(t, all[RevocationSource], func(s *Source) { s.Revocation.CRL = crl }))
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := next.Source("corp-crl"); !bytes.Equal(s.Revocation.CRL, crl) {
		t.Error("the list is not there")
	}
	if s, _ := base.Source("corp-crl"); len(s.Revocation.CRL) != 0 {
		t.Error("the state before has moved")
	}
}
