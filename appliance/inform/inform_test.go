package inform_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/policy"
)

const said = "group legal corp-aa presented\nrole urn:example:role:teller corp-aa presented\nattribute 2.5.4.11 Sales corp-aa presented\nclearance secret/crypto,nato corp-aa presented\n"

func TestAttributeCertificates(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{Names: []string{"kra://acme/box1"}, Authorities: []inform.Authority{c.source()}})
	with := func(edit func(*attrcert.Template)) []byte {
		tmpl := c.template()
		edit(&tmpl)
		return c.aa.attest(t, tmpl)
	}
	stranger := newCorp(t) // the same names, other keys
	mallory := c.person(t, "mallory")
	damaged := with(func(*attrcert.Template) {})
	damaged[len(damaged)-1] ^= 1
	cases := map[string]struct {
		raw  []byte
		want string
		note string
		err  string
	}{
		"valid":   {with(func(*attrcert.Template) {}), said, "", ""},
		"by name": {with(func(x *attrcert.Template) { x.ByName = true }), said, "", ""},
		"for us":  {with(func(x *attrcert.Template) { x.Targets = []string{"kra://acme/box1"} }), said, "", ""},
		// Time, revocation and target make it absent.
		"expired":         {with(func(x *attrcert.Template) { x.From, x.Until = now.Add(-2*time.Hour), now.Add(-time.Hour) }), "", "corp-aa is expired", ""},
		"not valid yet":   {with(func(x *attrcert.Template) { x.From = now.Add(time.Minute) }), "", "corp-aa is not valid yet", ""},
		"for another box": {with(func(x *attrcert.Template) { x.Targets = []string{"kra://acme/box2"} }), "", "corp-aa is meant for another", ""},
		// What it would say cannot be known.
		"revocable without list": {with(func(x *attrcert.Template) { x.Revocable = true }), "missing corp-aa\n", "no revocation list", ""},
		// What is wrong refuses the request.
		"wrong holder":            {with(func(x *attrcert.Template) { x.Holder = mallory.cert }), "", "", "somebody else"},
		"wrong issuer":            {mallory.attest(t, c.template()), "", "", "no attribute authority that this box knows"},
		"wrong issuer, same name": {stranger.aa.attest(t, c.template()), "", "", "signature"},
		"issued by the anchor":    {c.ca.attest(t, c.template()), "", "", "no attribute authority that this box knows"},
		"issued by alice herself": {c.alice.attest(t, c.template()), "", "", "no attribute authority that this box knows"},
		"damaged":                 {damaged, "", "", "attribute certificate 1: "},
		"malformed":               {[]byte{0x30, 0x80, 0, 0}, "", "", "not DER"},
		"empty":                   {nil, "", "", "malformed"},
		"revocable at a place": {with(func(x *attrcert.Template) {
			x.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: []byte{0x30, 0}}}
			x.Revocable = true
		}), "missing corp-aa\n", "no revocation list", ""},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			p := c.of(t, c.alice)
			p.Attributes = [][]byte{x.raw}
			got, notes, err := resolve(t, k, p)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) || got != "" {
					t.Fatalf("Resolve = %q, %v; want %q", got, err, x.err)
				}
				return
			}
			if err != nil || got != x.want || !strings.Contains(notes, x.note) || x.note == "" && notes != "" {
				t.Errorf("Resolve = %v\n%swant\n%s\nnotes %q; want %q", err, got, x.want, notes, x.note)
			}
		})
	}
	p := c.of(t, c.alice)
	p.Attributes = slices.Repeat([][]byte{with(func(*attrcert.Template) {})}, 17)
	if _, _, err := resolve(t, k, p); err == nil || !strings.Contains(err.Error(), "at most 16") {
		t.Errorf("17 certificates: %v", err)
	}
}

// What a requester says of himself counts for nothing: only what a configured authority signed, for the kinds that it may
// assert, about the very owner of the verified certificate.
func TestAssertedAloneCountsForNothing(t *testing.T) {
	c := newCorp(t)
	tmpl := c.template()
	boast := issue(t, c.ca, x509.Certificate{Subject: pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"group legal", "clearance secret"}},
		EmailAddresses: []string{"role@example.com"}})
	tmpl.Holder = boast.cert
	self := boast.attest(t, tmpl)

	if got, _, err := resolve(t, keeper(t, inform.Config{}), c.of(t, boast)); err != nil || got != "alias mail role@example.com corp channel\n" {
		t.Errorf("from the certificate: %q, %v; want only its other name", got, err)
	}
	p := c.of(t, boast)
	p.Attributes = [][]byte{self}
	for what, k := range map[string]*inform.Keeper{"no source": keeper(t, inform.Config{}), "other sources": keeper(t, inform.Config{Authorities: []inform.Authority{c.source()}})} {
		if got, _, err := resolve(t, k, p); err == nil || got != "" {
			t.Errorf("attribute certificate of his own, %s: %q, %v; want an error", what, got, err)
		}
	}
	// In a repository, anybody's word may lie; nobody's word counts for more there.
	s := keyring(t)
	conf := inform.Config{Authorities: []inform.Authority{c.source()}, Repositories: []inform.Repository{{Alias: "repo", Key: s.Key(),
		Pasted: publish(t, s, now, now.Add(time.Hour), nil, self)}}}
	if got, notes, err := resolve(t, keeper(t, conf), c.of(t, boast)); err != nil || strings.Contains(got, "corp-aa") || !strings.Contains(notes, "no attribute authority") {
		t.Errorf("in the repository: %q, %q, %v; want nothing and a note", got, notes, err)
	}
	// Nor do tokens of an issuer that is not configured.
	p = c.of(t, boast)
	p.Tokens = []string{"eyJhbGciOiJub25lIn0.eyJncm91cHMiOlsibGVnYWwiXX0."}
	if got, _, err := resolve(t, keeper(t, conf), p); err == nil || got != "" {
		t.Errorf("token: %q, %v; want an error", got, err)
	}
}

// An authority's word counts only for the kinds that it may assert.
func TestMayLimits(t *testing.T) {
	c := newCorp(t)
	p := c.of(t, c.alice)
	p.Attributes = [][]byte{c.aa.attest(t, c.template())}
	for _, kind := range []policy.Kind{policy.Group, policy.Role, policy.Attribute, policy.Clearance} {
		source := c.source()
		source.May = []policy.Kind{kind}
		got, notes, err := resolve(t, keeper(t, inform.Config{Authorities: []inform.Authority{source}}), p)
		if err != nil || strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, kind.String()) || strings.Count(notes, "may not assert") != 3 {
			t.Errorf("may assert a %v: %q, %v, noted %q", kind, got, err, notes)
		}
	}
	source := c.source()
	source.May = nil
	if got, _, err := resolve(t, keeper(t, inform.Config{Authorities: []inform.Authority{source}}), p); err != nil || got != "" {
		t.Errorf("may assert nothing: %q, %v", got, err)
	}
}

// An authority speaks of one anchor's decryptors: who has the same name under another, or a certificate of the same issuer's
// name and number, is somebody else.
func TestSameNameUnderAnotherAnchor(t *testing.T) {
	c, partner := newCorp(t), newCorp(t)
	named, numbered := c.template(), c.template()
	named.ByName = true
	source := c.source()
	k := keeper(t, inform.Config{Authorities: []inform.Authority{source}, Directories: []inform.Directory{
		{Alias: "ldap", May: everything, Of: "corp", Server: staff{"CN=alice": {"board"}}, Every: time.Hour, MaxAge: time.Hour}}})
	twin := issue(t, partner.ca, x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, SerialNumber: c.alice.cert.SerialNumber})
	d, err := kra.DecryptorOf("partner", kra.WholeName, twin.cert)
	if err != nil {
		t.Fatal(err)
	}
	p := inform.Presented{Chain: []*x509.Certificate{twin.cert, partner.ca.cert}, Anchor: "partner", Decryptor: d, TLS: true}
	if got, _, err := resolve(t, k, p); err != nil || got != "" {
		t.Errorf("directory speaks of another alice: %q, %v", got, err)
	}
	for how, tmpl := range map[string]attrcert.Template{"name": named, "issuer and number": numbered} {
		raw := c.aa.attest(t, tmpl)
		p.Attributes = [][]byte{raw}
		if got, _, err := resolve(t, k, p); err == nil || got != "" {
			t.Errorf("attribute certificate of another alice, by %s: %q, %v; want an error", how, got, err)
		}
		ours := c.of(t, c.alice)
		ours.Attributes = p.Attributes
		if got, _, err := resolve(t, k, ours); err != nil || !strings.Contains(got, "group legal corp-aa presented") {
			t.Errorf("attribute certificate of alice, by %s: %q, %v", how, got, err)
		}
		s := keyring(t)
		found := keeper(t, inform.Config{Authorities: []inform.Authority{source}, Repositories: []inform.Repository{{Alias: "repo", Key: s.Key(),
			Pasted: publish(t, s, now, now.Add(time.Hour), nil, raw)}}})
		p.Attributes = nil
		if got, _, err := resolve(t, found, p); err != nil || got != "" {
			t.Errorf("in the repository, by %s: %q, %v; want nothing", how, got, err)
		}
	}
	p.Anchor = "corp"
	if _, _, err := resolve(t, k, p); err == nil {
		t.Error("the anchor is not the decryptor's, and that passes")
	}
}

func TestClearances(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{Authorities: []inform.Authority{c.source()}})
	other := append(slices.Clip(categories), 1)
	cases := map[string]struct {
		clearance attrcert.Clearance
		want      string
		note      string
	}{
		"a level":               {attrcert.Clearance{Policy: policyOID, Bits: []int{4}}, "secret", ""},
		"two levels":            {attrcert.Clearance{Policy: policyOID, Bits: []int{2, 4}}, "restricted secret", ""},
		"a bit without meaning": {attrcert.Clearance{Policy: policyOID, Bits: []int{2, 5}}, "restricted", "bit 5"},
		"no bit has meaning":    {attrcert.Clearance{Policy: policyOID, Bits: []int{1}}, "", "bit 1"},
		"no bit":                {attrcert.Clearance{Policy: policyOID}, "", ""},
		"another policy":        {attrcert.Clearance{Policy: other, Bits: []int{4}}, "", "unknown policy"},
		"any value":             {attrcert.Clearance{Policy: policyOID, Bits: []int{4}, Categories: []attrcert.Category{{Type: other, Value: []byte{5, 0}}}}, "secret/any", ""},
		"an unknown category":   {attrcert.Clearance{Policy: policyOID, Bits: []int{4}, Categories: []attrcert.Category{{Type: categories, Value: text("X")}}}, "secret", "security category"},
	}
	for name, x := range cases {
		tmpl := attrcert.Template{Holder: c.alice.cert, From: now, Until: now, Clearances: []attrcert.Clearance{x.clearance}}
		p := c.of(t, c.alice)
		p.Attributes = [][]byte{c.aa.attest(t, tmpl)}
		got, notes, err := resolve(t, k, p)
		var levels []string
		for line := range strings.Lines(got) {
			levels = append(levels, strings.Fields(line)[1])
		}
		if err != nil || strings.Join(levels, " ") != x.want || !strings.Contains(notes, x.note) || x.note == "" && notes != "" {
			t.Errorf("%s: %q, %v, noted %q; want %q", name, levels, err, notes, x.want)
		}
	}
}

// While the clock is untrusted, what has a lifetime is there with it, for rules to err.
func TestUntrustedClock(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{Authorities: []inform.Authority{c.source()}})
	p := c.of(t, c.alice)
	tmpl := c.template()
	tmpl.From, tmpl.Until = now.Add(-2*time.Hour), now.Add(-time.Hour)
	p.Attributes = [][]byte{c.aa.attest(t, tmpl)}
	in, err := k.World().Resolve(p, now, false)
	if err != nil || len(in.Items()) != 4 {
		t.Fatalf("Resolve = %v, %d items; want 4", err, len(in.Items()))
	}
	for _, i := range in.Items() {
		if !i.From.Equal(tmpl.From) || !i.Until.Equal(tmpl.Until) {
			t.Errorf("%v %s is from %v until %v", i.Kind, i.Name, i.From, i.Until)
		}
	}
}

func TestAliases(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{})
	upn := []byte("\x30\x24\xa0\x22\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03\xa0\x14\x0c\x12alice@corp.example")
	cases := map[string]struct {
		tmpl x509.Certificate
		want string
		note string
	}{
		"none":                {x509.Certificate{}, "", ""},
		"mail":                {x509.Certificate{EmailAddresses: []string{"Alice@Example.COM"}}, "alias mail Alice@example.com corp channel\n", ""},
		"DNS":                 {x509.Certificate{DNSNames: []string{"A.example.COM"}}, "alias dns a.example.com corp channel\n", ""},
		"URI":                 {x509.Certificate{URIs: []*url.URL{mustURL("https://example.com/alice")}}, "alias uri https://example.com/alice corp channel\n", ""},
		"SPIFFE":              {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org/ns/pay/sa/web")}}, "alias uri spiffe://example.org/ns/pay/sa/web corp channel\n", ""},
		"UPN":                 {x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: upn}}}, "alias upn alice@corp.example corp channel\n", ""},
		"UPN that is no text": {x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: bytes.Replace(upn, []byte("alice"), []byte("al\xffce"), 1)}}}, "", "not UTF-8"},
		"SPIFFE beside another URI": {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org/web"), mustURL("https://example.com/")}},
			"alias uri https://example.com/ corp channel\n", "beside another"},
		"SPIFFE with a port":    {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org:80/web")}}, "", "no SPIFFE id"},
		"SPIFFE with a query":   {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org/web?x")}}, "", "no SPIFFE id"},
		"SPIFFE with dots":      {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org/a/../b")}}, "", "no SPIFFE id"},
		"SPIFFE ends in slash":  {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://example.org/web/")}}, "", "no SPIFFE id"},
		"SPIFFE in upper case":  {x509.Certificate{URIs: []*url.URL{mustURL("spiffe://Example.org/web")}}, "", "no SPIFFE id"},
		"SPIFFE without domain": {x509.Certificate{URIs: []*url.URL{mustURL("spiffe:///web")}}, "", "no SPIFFE id"},
	}
	for name, x := range cases {
		x.tmpl.Subject = pkix.Name{CommonName: "alice"}
		got, notes, err := resolve(t, k, c.of(t, issue(t, c.ca, x.tmpl)))
		if err != nil || got != x.want || !strings.Contains(notes, x.note) || x.note == "" && notes != "" {
			t.Errorf("%s: %q, %v, noted %q; want %q", name, got, err, notes, x.want)
		}
	}
	p := c.of(t, issue(t, c.ca, x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, EmailAddresses: []string{"a@example.com"}}))
	p.TLS = false
	if got, _, err := resolve(t, k, p); err != nil || got != "alias mail a@example.com corp presented\n" {
		t.Errorf("certificate in the request: %q, %v", got, err)
	}
}

// A badge is a token that says a group, for one certificate.
type badge struct{ holder *x509.Certificate }

func (badge) Issued(token string) bool { return strings.HasPrefix(token, "badge ") }

func (b badge) Verify(token string, leaf *x509.Certificate) ([]policy.Item, error) {
	if !leaf.Equal(b.holder) {
		return nil, errors.New("bound to another certificate")
	}
	return []policy.Item{{Kind: policy.Group, Name: strings.TrimPrefix(token, "badge "), Authority: "forged", Via: policy.Channel, Until: now}}, nil
}

func TestTokensAndDirectories(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{
		Issuers:     []inform.Issuer{{Alias: "idp", May: everything, Verifier: badge{c.alice.cert}}},
		Directories: []inform.Directory{{Alias: "ldap", May: everything, Of: "corp", Server: staff{"CN=alice": {"legal", "board"}}, Every: time.Hour, MaxAge: time.Hour}},
	})
	waitFor(t, func() bool { got, _, _ := resolve(t, k, c.of(t, c.alice)); return !strings.Contains(got, "missing") })
	p := c.of(t, c.alice)
	p.Tokens = []string{"badge visitors"}
	want := "group visitors idp token\ngroup board ldap directory\ngroup legal ldap directory\n"
	if got, notes, err := resolve(t, k, p); err != nil || got != want || notes != "" {
		t.Errorf("Resolve = %q, %v, noted %q; want %q", got, err, notes, want)
	}
	bob := c.of(t, c.person(t, "bob"))
	if got, _, err := resolve(t, k, bob); err != nil || got != "" {
		t.Errorf("bob: %q, %v; want nothing", got, err)
	}
	bob.Tokens = p.Tokens
	if got, _, err := resolve(t, k, bob); err == nil || got != "" {
		t.Errorf("bob with alice's token: %q, %v; want an error", got, err)
	}
	p.Tokens = slices.Repeat(p.Tokens, 9)
	if _, _, err := resolve(t, k, p); err == nil {
		t.Error("nine tokens are taken")
	}
	mail := c.of(t, issue(t, c.ca, x509.Certificate{Subject: pkix.Name{CommonName: "carol"}, EmailAddresses: []string{"c@example.com"}}))
	if got, _, _ := resolve(t, k, mail); !strings.Contains(got, "attribute seen mail:c@example.com ldap") {
		t.Errorf("a directory does not see the other names: %q", got)
	}
}

// waitFor waits for background work that needs no time of its own.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 6000 { // half a minute on a busy machine
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never happens")
}

// Attribute certificates and certificates are looked up in the repository (E-27, E-28).
func TestRepository(t *testing.T) {
	c := newCorp(t)
	s := keyring(t)
	raw := c.aa.attest(t, c.template())
	expired := c.template()
	expired.Groups, expired.From, expired.Until = []string{"former"}, now.Add(-2*time.Hour), now.Add(-time.Hour)
	source := func(b []byte) inform.Config {
		return inform.Config{Authorities: []inform.Authority{c.source()}, Repositories: []inform.Repository{{Alias: "repo", Key: s.Key(), Pasted: b}}}
	}
	file := publish(t, s, now.Add(-time.Minute), now.Add(time.Hour), []*keyPair{c.alice}, raw, c.aa.attest(t, expired))
	k := keeper(t, source(file))
	want := strings.ReplaceAll(said, "presented", "repository")
	if got, notes, err := resolve(t, k, c.of(t, c.alice)); err != nil || got != want || !strings.Contains(notes, "is expired") {
		t.Errorf("Resolve = %q, %v, noted %q; want %q", got, err, notes, want)
	}
	if got, _, err := resolve(t, k, c.of(t, c.person(t, "bob"))); err != nil || got != "" {
		t.Errorf("bob: %q, %v", got, err)
	}
	typed := bytes.TrimSpace(bytes.ReplaceAll(file, []byte("\n"), []byte("\r\n")))
	if got, _, err := resolve(t, keeper(t, source(typed)), c.of(t, c.alice)); err != nil || got != want {
		t.Errorf("pasted on a terminal: %q, %v; want %q", got, err, want)
	}
	p := c.of(t, c.alice)
	p.Attributes = [][]byte{raw}
	if got, _, err := resolve(t, k, p); err != nil || got != said {
		t.Errorf("presented as well: %q, %v; want it once", got, err)
	}
	for _, claim := range []string{"CN=alice", "corp:CN=alice"} {
		if got := k.World().Certificates(claim); len(got) != 1 || !got[0][0].Equal(c.alice.cert) {
			t.Errorf("Certificates(%q) = %d", claim, len(got))
		}
	}
	for _, claim := range []string{"CN=bob", "alice", "", ":", "corp:"} {
		if got := k.World().Certificates(claim); len(got) != 0 {
			t.Errorf("Certificates(%q) = %d; want none", claim, len(got))
		}
	}

	// Unsigned, wrongly signed or old: the repository is not there, and what the authority might have said there is missing.
	stranger := publish(t, keyring(t), now, now.Add(time.Hour), []*keyPair{c.alice}, raw)
	for what, b := range map[string][]byte{"signed by a stranger": stranger, "changed": append(slices.Clone(file[:len(file)-9]), file[len(file)-8:]...),
		"expired": publish(t, s, now.Add(-time.Hour), now.Add(-time.Minute), []*keyPair{c.alice}, raw), "empty": nil} {
		k := keeper(t, source(b))
		if got, _, err := resolve(t, k, c.of(t, c.alice)); err != nil || got != "missing corp-aa\n" {
			t.Errorf("%s: %q, %v; want the authority missing", what, got, err)
		}
		if len(k.World().Certificates("CN=alice")) != 0 && what != "expired" {
			t.Errorf("%s: gives certificates", what)
		}
		if got, _, err := resolve(t, k, p); err != nil || got != said+"missing corp-aa\n" {
			t.Errorf("%s, but presented: %q, %v; want the authority missing still", what, got, err)
		}
	}
}

// Revocable attribute certificates and their list.
func TestAttributeCertificateRevoked(t *testing.T) {
	c := newCorp(t)
	tmpl := c.template()
	tmpl.Revocable, tmpl.Serial = true, big.NewInt(77)
	p := c.of(t, c.alice)
	p.Attributes = [][]byte{c.aa.attest(t, tmpl)}
	forever := c.of(t, c.alice)
	forever.Attributes = [][]byte{c.aa.attest(t, c.template())}
	cases := map[string]struct {
		list []byte
		want string
		note string
	}{
		"not on the list":    {c.aa.revoke(t, now, now.Add(time.Hour), big.NewInt(78)), said, ""},
		"on the list":        {c.aa.revoke(t, now, now.Add(time.Hour), big.NewInt(77)), "", "is revoked"},
		"list is overdue":    {c.aa.revoke(t, now.Add(-2*time.Hour), now.Add(-time.Hour)), "missing corp-aa\n", "overdue"},
		"list is too old":    {c.aa.revoke(t, now.Add(-25*time.Hour), now.AddDate(10, 0, 0)), "missing corp-aa\n", "overdue"},
		"list is missing":    {nil, "missing corp-aa\n", "missing"},
		"list of a stranger": {newCorp(t).aa.revoke(t, now, now.Add(time.Hour)), "missing corp-aa\n", "missing"},
	}
	for name, x := range cases {
		k := keeper(t, inform.Config{Authorities: []inform.Authority{c.source()},
			Revocations: []inform.Revocation{{Alias: "aa-crl", Of: "corp-aa", Anchors: []*x509.Certificate{c.aa.cert}, Pasted: x.list, MaxAge: 24 * time.Hour}}})
		if got, notes, err := resolve(t, k, p); err != nil || got != x.want || !strings.Contains(notes, x.note) {
			t.Errorf("%s: %q, %v, noted %q; want %q", name, got, err, notes, x.want)
		}
		if got, _, err := resolve(t, k, forever); err != nil || got != said {
			t.Errorf("%s, but it cannot be revoked: %q, %v", name, got, err)
		}
	}
}

// A signature is verified once in a World; holder, time, target, revocation and anchor every time.
func TestVerifiedBeforeIsNotEnough(t *testing.T) {
	c := newCorp(t)
	tmpl := c.template()
	tmpl.Revocable, tmpl.Serial = true, big.NewInt(77)
	source := c.source()
	conf := inform.Config{Authorities: []inform.Authority{source}, Revocations: []inform.Revocation{{Alias: "aa-crl", Of: "corp-aa",
		Anchors: []*x509.Certificate{c.aa.cert}, Pasted: c.aa.revoke(t, now, now.Add(time.Minute))}}}
	k := keeper(t, conf)
	p := c.of(t, c.alice)
	p.Attributes = [][]byte{c.aa.attest(t, tmpl)}
	for range 2 {
		if got, _, err := resolve(t, k, p); err != nil || got != said {
			t.Fatalf("Resolve = %q, %v", got, err)
		}
	}
	if _, notes, err := resolveAt(k, p, now.Add(2*time.Minute), true); err != nil || !strings.Contains(notes, "overdue") {
		t.Errorf("list overdue: %v, noted %q", err, notes)
	}
	mallory := c.of(t, c.person(t, "mallory"))
	mallory.Attributes = p.Attributes
	if got, _, err := resolve(t, k, mallory); err == nil || got != "" {
		t.Errorf("mallory with alice's: %q, %v; want an error", got, err)
	}
	partner := p
	d, err := kra.DecryptorOf("partner", kra.WholeName, c.alice.cert)
	if err != nil {
		t.Fatal(err)
	}
	partner.Anchor, partner.Decryptor = "partner", d
	if got, _, err := resolve(t, k, partner); err == nil || got != "" {
		t.Errorf("under another anchor: %q, %v; want an error", got, err)
	}
	conf.Revocations[0].Pasted, conf.Revocations[0].Stamp = c.aa.revoke(t, now, now.Add(time.Minute), big.NewInt(77)), "renewed"
	if err := k.Configure(conf); err != nil {
		t.Fatal(err)
	}
	if got, notes, err := resolve(t, k, p); err != nil || got != "" || !strings.Contains(notes, "is revoked") {
		t.Errorf("revoked: %q, %v, noted %q", got, err, notes)
	}
	if err := k.Configure(inform.Config{}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := resolve(t, k, p); err == nil || got != "" {
		t.Errorf("authority removed: %q, %v; want an error", got, err)
	}
}

func TestCheckConfig(t *testing.T) {
	c := newCorp(t)
	good := c.source()
	ca := c.source()
	ca.Certificates = []*x509.Certificate{c.ca.cert}
	cases := map[string]inform.Config{
		"an alias twice":      {Authorities: []inform.Authority{good, good}},
		"no alias":            {Authorities: []inform.Authority{{Of: "corp", Certificates: good.Certificates}}},
		"no certificate":      {Authorities: []inform.Authority{{Alias: "corp-aa", Of: "corp"}}},
		"of every anchor":     {Authorities: []inform.Authority{{Alias: "corp-aa", Certificates: good.Certificates}}},
		"an authority's CA":   {Authorities: []inform.Authority{ca}},
		"directory of nobody": {Directories: []inform.Directory{{Alias: "ldap", Server: staff{}, Every: time.Hour, MaxAge: time.Hour}}},
		"no verifier":         {Issuers: []inform.Issuer{{Alias: "idp"}}},
		"no repository key":   {Repositories: []inform.Repository{{Alias: "repo"}}},
		"list of nobody":      {Revocations: []inform.Revocation{{Alias: "crl", Of: "corp"}}},
	}
	for name, x := range cases {
		if x.Check() == nil {
			t.Errorf("%s: passes", name)
		}
	}
	for _, u := range []string{"ftp://x/y", "file:///etc/passwd", "http://", "https://u:p@x/y", "x"} {
		if (inform.Config{Revocations: []inform.Revocation{{Alias: "crl", Of: "corp", Anchors: []*x509.Certificate{c.ca.cert}, URL: u, Every: time.Hour}}}).Check() == nil {
			t.Errorf("address %q is taken", u)
		}
	}
}
