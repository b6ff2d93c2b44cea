package ldap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/inform/ldap"
	"github.com/keyrelease/krabox/appliance/inform/ldap/ldaptest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// usual is how most tests read a directory.
func usual(s *ldaptest.Server) ldap.Config {
	return ldap.Config{URL: s.URL, Roots: []*x509.Certificate{s.Root}, Bind: ldaptest.Admin, Password: func() []byte { return []byte(ldaptest.Secret) },
		Base: ldaptest.People, Name: "mail:mail", Map: []ldap.Mapping{
			{Kind: policy.Group, From: "memberOf:" + ldaptest.Groups},
			{Kind: policy.Attribute, Name: "department", From: "departmentNumber"},
			{Kind: policy.Clearance, From: "employeeType"},
			{Kind: policy.Alias, Name: "mail", From: "mail"},
		}}
}

func newServer(t testing.TB, c ldap.Config) *ldap.Server {
	t.Helper()
	s, err := ldap.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sync(t testing.TB, c ldap.Config) inform.Image {
	t.Helper()
	i, err := newServer(t, c).Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// who makes a subject of a certificate with that name and those mail addresses.
func who(t testing.TB, name pkix.Name, mails ...string) inform.Subject {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, EmailAddresses: mails, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	d, err := kra.DecryptorOf("corp", kra.WholeName, leaf)
	if err != nil {
		t.Fatal(err)
	}
	return inform.Subject{Decryptor: d, Leaf: leaf, Aliases: inform.Aliases(leaf, func(s string) { t.Error(s) })}
}

func mail(t testing.TB, addresses ...string) inform.Subject {
	return who(t, pkix.Name{CommonName: "somebody"}, addresses...)
}

// tell writes what an image says of somebody.
func tell(i inform.Image, s inform.Subject) string {
	items, err := i.Lookup(s)
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, x := range items {
		out = append(out, strings.Trim(fmt.Sprintf("%v %s=%s", x.Kind, x.Name, x.Value), "="))
	}
	return strings.Join(out, ", ")
}

func TestEntriesOfARealDirectory(t *testing.T) {
	s := ldaptest.New(t)
	bob := s.Person("bob", "mail=Bob@Example.com", "mail=bob@old.example.com", "departmentNumber=sales", "departmentNumber=42", "employeeType=secret/crypto,nato")
	eve := s.Person("eve", "mail=eve@example.com")
	s.Group("legal", bob)
	s.Group("all staff", bob, eve)
	// A group of the same name where anybody may make groups.
	s.Add("ou=clubs,"+ldaptest.Groups, "organizationalUnit")
	s.Add("cn=legal,ou=clubs,"+ldaptest.Groups, "groupOfNames", "member="+eve)
	s.Add("cn=legal,"+ldaptest.People, "groupOfNames", "member="+eve)
	i := sync(t, usual(s))
	const all = "group all staff, group legal, attribute department=42, attribute department=sales, clearance =secret/crypto,nato, alias mail=Bob@example.com, alias mail=bob@old.example.com"
	for _, x := range []struct {
		who  inform.Subject
		want string
	}{
		{mail(t, "Bob@example.com"), all},
		{mail(t, "Bob@EXAMPLE.com"), all},
		{mail(t, "bob@old.example.com", "Bob@example.com"), all},
		{mail(t, "bob@example.com"), ""}, // the part before @ is for the mail server to compare
		{mail(t, "eve@example.com"), "group all staff, alias mail=eve@example.com"},
		{mail(t, "eve@example.com", "Bob@example.com"), "error: directory has several entries of that name"},
		{mail(t, "mallory@example.com"), ""},
		{mail(t), ""},
	} {
		if got := sorted(tell(i, x.who)); got != sorted(x.want) {
			t.Errorf("%v:\n got %s\nwant %s", x.who.Aliases, got, sorted(x.want))
		}
	}
}

func sorted(s string) string {
	words := strings.Split(s, ", ")
	for i := range words {
		for j := range i {
			if words[i] < words[j] {
				words[i], words[j] = words[j], words[i]
			}
		}
	}
	return strings.Join(words, ", ")
}

// Whose an entry is: by its own name, by a field that holds the subject, by parts of the subject.
func TestWhoseAnEntryIs(t *testing.T) {
	s := ldaptest.New(t)
	s.Person("bob", "departmentNumber=sales", "description=CN=bob,O=Example", "mail=same@example.com")
	s.Person("eve", "departmentNumber=audit", "description=not a name", "mail=same@example.com")
	uid := func(v string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: v}
	}
	dc := func(v string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: v}
	}
	ou := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "People"}
	ldapStyle := func(id string) pkix.Name {
		return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{dc("com"), dc("EXAMPLE"), ou, uid(id)}}
	}
	for _, x := range []struct {
		match string
		who   inform.Subject
		want  string
	}{
		{"", who(t, ldapStyle("bob")), "attribute department=sales"},
		{"", who(t, ldapStyle("Eve")), "attribute department=audit"},
		{"", who(t, ldapStyle("nobody")), ""},
		{"", who(t, pkix.Name{CommonName: "bob"}), ""},
		{"", who(t, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{dc("com"), dc("example"), uid("bob")}}), ""},
		{"description", who(t, pkix.Name{CommonName: "bob", Organization: []string{"Example"}}), "attribute department=sales"},
		{"description", who(t, pkix.Name{CommonName: "bob", Organization: []string{"Example, Inc"}}), ""},
		{"uid:cn", who(t, pkix.Name{CommonName: "bob"}), "attribute department=sales"},
		{"uid:cn", who(t, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{uid("bob")}}), ""},
		{"uid:cn", who(t, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "bob"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "eve"}}}), ""},
		{"uid:uid", who(t, ldapStyle("eve")), "attribute department=audit"},
		{"mail:mail", mail(t, "same@example.com"), "error: directory has several entries of that name"},
	} {
		c := usual(s)
		c.Name, c.Map = x.match, c.Map[1:2]
		if got := tell(sync(t, c), x.who); got != x.want {
			t.Errorf("%s, %v: %q; want %q", x.match, x.who.Decryptor, got, x.want)
		}
	}
}

// Groups that list their members, without memberOf; a filter; more entries than fit a page.
func TestGroupsThatListMembers(t *testing.T) {
	s := ldaptest.New(t)
	const crowd = 1100
	id := func(i int) string { return fmt.Sprintf("p%04d", i) }
	s.Crowd(crowd, id)
	s.Group("legal", "uid="+id(crowd-1)+","+ldaptest.People, "UID="+id(3)+", OU=People, DC=example, DC=com")
	s.Add("cn=unique,"+ldaptest.Groups, "groupOfUniqueNames", "uniqueMember=uid="+id(3)+","+ldaptest.People)
	c := usual(s)
	c.Name, c.Filter, c.Map = "uid:cn", "(!(uid="+id(4)+"))", []ldap.Mapping{{Kind: policy.Group, From: "in:" + ldaptest.Groups},
		{Kind: policy.Attribute, Name: "id", From: "UID"}}
	i := sync(t, c)
	for n, want := range map[int]string{3: "group legal, group unique, attribute id=p0003", crowd - 1: "group legal, attribute id=p1099", 4: "", 700: "attribute id=p0700"} {
		if got := tell(i, who(t, pkix.Name{CommonName: id(n)})); sorted(got) != sorted(want) {
			t.Errorf("%s: %q; want %q", id(n), got, want)
		}
	}
}

// What cannot be used closes the one entry, not the directory. A value that is no word of any rule closes nothing: whoever asks leaves it out.
func TestUnusableEntries(t *testing.T) {
	s := ldaptest.New(t)
	s.Person("long", "departmentNumber="+strings.Repeat("x", policy.MaxItemText+1))
	s.Person("clear", "employeeType=not a clearance!")
	s.Person("good", "departmentNumber=sales")
	many := []string{}
	for i := range 201 {
		many = append(many, fmt.Sprint("departmentNumber=", i))
	}
	s.Person("many", many...)
	c := usual(s)
	c.Name = "uid:cn"
	i := sync(t, c)
	for uid, want := range map[string]string{"long": "attribute department=x", "clear": "clearance =not", "many": "more than 200", "good": "attribute department=sales"} {
		got := tell(i, who(t, pkix.Name{CommonName: uid}))
		if !strings.Contains(got, want) || strings.HasPrefix(got, "error:") != (uid == "many") {
			t.Errorf("%s: %.200q; want %q", uid, got, want)
		}
	}
}

func TestConfigurationRefused(t *testing.T) {
	root := peertest.NewAuthority(t).Root
	good := ldap.Config{URL: "ldaps://ldap.example.com", Roots: []*x509.Certificate{root}, Base: "dc=example"}
	if _, err := ldap.New(good); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*ldap.Config){
		"in the clear":         func(c *ldap.Config) { c.URL = "ldap://ldap.example.com" },
		"a path":               func(c *ldap.Config) { c.URL += "/dc=other" },
		"no host":              func(c *ldap.Config) { c.URL = "ldaps://" },
		"no authority":         func(c *ldap.Config) { c.Roots = nil },
		"no base":              func(c *ldap.Config) { c.Base = "" },
		"no such base":         func(c *ldap.Config) { c.Base = "example" },
		"an open filter":       func(c *ldap.Config) { c.Filter = "(uid=*" },
		"a name, no password":  func(c *ldap.Config) { c.Bind = "cn=kra" },
		"a name of what":       func(c *ldap.Config) { c.Name = "uid:what" },
		"a name of nothing":    func(c *ldap.Config) { c.Name = ":cn" },
		"a field with options": func(c *ldap.Config) { c.Map = []ldap.Mapping{{Kind: policy.Group, From: "cn;lang-en"}} },
		"a field under what":   func(c *ldap.Config) { c.Map = []ldap.Mapping{{Kind: policy.Group, From: "memberOf:groups"}} },
		"no kind":              func(c *ldap.Config) { c.Map = []ldap.Mapping{{From: "cn"}} },
		"many fields":          func(c *ldap.Config) { c.Map = make([]ldap.Mapping, 65) },
	} {
		c := good
		edit(&c)
		if _, err := ldap.New(c); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

// rawName is CN=cn,DC=dc in DER.
func rawName(t testing.TB, cn, dc string) []byte {
	t.Helper()
	b, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: dc}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
