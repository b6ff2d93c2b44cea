package inform_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/repository"
)

// now is the time of every test here that has no clock of its own.
var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

type keyPair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate; without by, a self-signed one.
func issue(t testing.TB, by *keyPair, tmpl x509.Certificate) *keyPair {
	t.Helper()
	key := ecKey(t)
	if tmpl.SerialNumber == nil {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
		if err != nil {
			t.Fatal(err)
		}
		tmpl.SerialNumber = n
	}
	tmpl.NotBefore, tmpl.NotAfter = now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
	parent, signer := &tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &keyPair{c, key}
}

func authority(t testing.TB, by *keyPair, name string) *keyPair {
	t.Helper()
	return issue(t, by, x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)})
}

// A corp is the anchor "corp", the attribute authority "corp-aa" and the person alice.
type corp struct{ ca, aa, alice *keyPair }

func newCorp(t testing.TB) corp {
	t.Helper()
	c := corp{ca: authority(t, nil, "Corp CA")}
	c.aa = issue(t, c.ca, x509.Certificate{Subject: pkix.Name{CommonName: "Corp AA"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign, SubjectKeyId: []byte("aa")})
	c.alice = c.person(t, "alice")
	return c
}

func (c corp) person(t testing.TB, name string) *keyPair {
	t.Helper()
	return issue(t, c.ca, x509.Certificate{Subject: pkix.Name{CommonName: name}})
}

// of is what the port says of somebody under the anchor "corp".
func (c corp) of(t testing.TB, who *keyPair) inform.Presented {
	t.Helper()
	d, err := kra.DecryptorOf("corp", kra.WholeName, who.cert)
	if err != nil {
		t.Fatal(err)
	}
	return inform.Presented{Chain: []*x509.Certificate{who.cert, c.ca.cert}, Anchor: "corp", Decryptor: d, TLS: true}
}

var (
	everything = []policy.Kind{policy.Group, policy.Role, policy.Attribute, policy.Clearance, policy.Alias, policy.Device}
	policyOID  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	categories = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}
	teller     = "urn:example:role:teller"
)

func text(s string) []byte { return append([]byte{0x0c, byte(len(s))}, s...) }

// source is corp's attribute authority with a clearance policy.
func (c corp) source() inform.Authority {
	return inform.Authority{Alias: "corp-aa", May: everything, Of: "corp", Certificates: []*x509.Certificate{c.aa.cert},
		Clearances: []inform.ClearancePolicy{{Policy: policyOID, Levels: map[int]string{2: "restricted", 4: "secret"}, Categories: []inform.ClearanceCategory{
			{Type: categories, Value: text("C"), Compartment: "crypto"}, {Type: categories, Value: text("N"), Compartment: "nato"},
			{Type: append(categories[:len(categories):len(categories)], 1), Compartment: "any"}}}}}
}

// template is a certificate for alice: a group, a role, a clearance, an attribute.
func (c corp) template() attrcert.Template {
	return attrcert.Template{Holder: c.alice.cert, From: now.Add(-time.Hour), Until: now.Add(time.Hour), Groups: []string{"legal"}, Roles: []string{teller},
		Clearances: []attrcert.Clearance{{Policy: policyOID, Bits: []int{4}, Categories: []attrcert.Category{{Type: categories, Value: text("N")}, {Type: categories, Value: text("C")}}}},
		Attributes: []attrcert.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Values: []string{"Sales"}}}}
}

func (k *keyPair) attest(t testing.TB, tmpl attrcert.Template) []byte {
	t.Helper()
	raw, err := attrcert.Issue(tmpl, k.cert, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (k *keyPair) revoke(t testing.TB, at time.Time, until time.Time, serials ...*big.Int) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(at.Unix()), ThisUpdate: at, NextUpdate: until}
	for _, n := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: at})
	}
	// x509 signs lists for authorities only; that an attribute authority is none, is the point of it.
	by := *k.cert
	by.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, l, &by, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// keeper has these sources.
func keeper(t testing.TB, c inform.Config) *inform.Keeper {
	t.Helper()
	k := inform.NewKeeper(func() time.Time { return now }, nil)
	t.Cleanup(k.Close)
	if err := k.Configure(c); err != nil {
		t.Fatal(err)
	}
	return k
}

// tell writes information as lines: kind name value authority via, then who is missing.
func tell(in policy.Information) string {
	var b strings.Builder
	for _, i := range in.Items() {
		fmt.Fprintln(&b, strings.Join(strings.Fields(fmt.Sprint(i.Kind, " ", i.Name, " ", i.Value, " ", i.Authority, " ", i.Via)), " "))
	}
	for _, a := range in.Unavailable() {
		fmt.Fprintln(&b, "missing", a)
	}
	return b.String()
}

// resolve returns what is told, what was noted, and the error.
func resolve(t testing.TB, k *inform.Keeper, p inform.Presented) (string, string, error) {
	t.Helper()
	return resolveAt(k, p, now, true)
}

func resolveAt(k *inform.Keeper, p inform.Presented, at time.Time, trusted bool) (string, string, error) {
	var notes []string
	p.Note = func(s string) { notes = append(notes, s) }
	in, err := k.World().Resolve(p, at, trusted)
	return tell(in), strings.Join(notes, "\n"), err
}

// A staff is a directory of groups by name.
type staff map[string][]string

func (s staff) Sync(context.Context) (inform.Image, error) { return s, nil }

func (s staff) Lookup(who inform.Subject) (items []policy.Item, err error) {
	for _, g := range s[who.Decryptor.Name()] {
		items = append(items, policy.Item{Kind: policy.Group, Name: g})
	}
	for _, a := range who.Aliases {
		items = append(items, policy.Item{Kind: policy.Attribute, Name: "seen", Value: a.Name + ":" + a.Value})
	}
	return items, nil
}

// keyring signs a repository.
func keyring(t testing.TB) repository.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := repository.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publish makes the file of all entries of certificates and attribute certificates.
func publish(t testing.TB, s repository.Signer, from, until time.Time, people []*keyPair, attributes ...[]byte) []byte {
	t.Helper()
	var entries []repository.Entry
	add := func(e repository.Entry, err error) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	for _, p := range people {
		add(repository.Decryptor(p.cert))
	}
	for _, raw := range attributes {
		c, err := attrcert.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		add(repository.Attributes(c))
	}
	files, err := s.Publish(entries, from, until)
	if err != nil {
		t.Fatal(err)
	}
	return files[repository.AllFile]
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
