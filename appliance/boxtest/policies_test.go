package boxtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// The security policy of the test's clearances, and a category of it.
var (
	policyOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99, 1}
	cryptoOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99, 2}
)

// presenting is a client that shows attribute certificates with each request.
func presenting(t testing.TB, b *boxtest.Box, who tls.Certificate, attributes ...[]byte) *client.Agent {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := client.ParseTrust(root)
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.NewAgent(client.Config{URL: "https://" + b.Up().Release.String(), Trust: trust, Certificate: &who, Delivery: client.Delivery{Attributes: attributes}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// TestFivePoliciesOnTheConsole: one rule list that names persons, a group within a group, a role, place and time, and a
// clearance, all defined on the console in one line each. All five must be met; each alone keeps the key in the box. What
// the console says of each rule is what the port decides.
func TestFivePoliciesOnTheConsole(t *testing.T) {
	b := boxtest.Start(t)
	b.Do("time set "+time.Now().UTC().Format(time.RFC3339), "yes")
	b.Trust("corp")
	aa, aaKey := attributeAuthority(t)
	for _, line := range []string{
		`access add legal-team "Legal team"`,
		"key generate p256 for legal-team",
		"group add lawyers corp:CN=bob,O=Example",
		"group add legal corp:CN=nobody,O=Example",
		"group nest lawyers in legal",
		`rule add person id "corp:CN=bob,O=Example" "corp:CN=alice,O=Example"`,
		"rule add counsel group legal",
		`rule add office when "Mon-Sun 00:00-24:00 UTC" from 127.0.0.0/8`,
	} {
		b.Do(line)
	}
	b.Do("source add attribute corp-aa may role,attribute,clearance of corp", pemText("CERTIFICATE", aa.Raw))
	for _, line := range []string{
		"source clearance corp-aa 1.3.6.1.4.1.99.1 1=unclassified 4=secret 1.3.6.1.4.1.99.2=crypto",
		"role add teller needs role:" + teller + "@corp-aa group:legal",
		"rule add at_the_till role teller",
		"rule add cleared clearance secret/crypto",
		"access lists legal-team is person && counsel && at_the_till && office && cleared",
	} {
		b.Do(line)
	}
	bob, carol := b.Person("bob"), b.Person("carol")
	attest := func(who *x509.Certificate, role string, bit int, categories ...attrcert.Category) []byte {
		raw, err := attrcert.Issue(attrcert.Template{Holder: who, From: time.Now().Add(-time.Minute), Until: time.Now().Add(time.Hour), Roles: []string{role},
			Clearances: []attrcert.Clearance{{Policy: policyOID, Bits: []int{bit}, Categories: categories}}}, aa, aaKey)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	inCrypto := attrcert.Category{Type: cryptoOID, Value: []byte{5, 0}}
	h, _ := header(t, presenting(t, b, bob), "for five reasons")
	good := presenting(t, b, bob, attest(bob.Leaf, teller, 4, inCrypto))
	expect := func(when string, a *client.Agent, released bool) {
		t.Helper()
		answers, err := a.Release(t.Context(), []block.Header{h})
		if err == nil {
			err = answers[0].Err
		}
		if released && err != nil || !released && !errors.Is(err, client.ErrRefused) {
			t.Errorf("%s: %v; want released: %v", when, err, released)
		}
	}
	expect("bob with all five", good, true)
	expect("bob, who shows nothing", presenting(t, b, bob), false)
	expect("carol with bob's role and clearance, but none of the persons", presenting(t, b, carol, attest(carol.Leaf, teller, 4, inCrypto)), false)
	expect("bob with another role", presenting(t, b, bob, attest(bob.Leaf, "urn:example:role:clerk", 4, inCrypto)), false)
	expect("bob with a lower clearance", presenting(t, b, bob, attest(bob.Leaf, teller, 1, inCrypto)), false)
	expect("bob outside of the compartment", presenting(t, b, bob, attest(bob.Leaf, teller, 4)), false)

	for _, change := range []struct{ what, away, back string }{
		{"another person", `rule set person id "corp:CN=alice,O=Example"`, `rule set person id "corp:CN=bob,O=Example"`},
		{"no member of the inner group", "group remove lawyers corp:CN=bob,O=Example", "group add lawyers corp:CN=bob,O=Example"},
		{"the group no longer within", "group unnest lawyers from legal", "group nest lawyers in legal"},
		{"elsewhere", `rule set office from 192.0.2.0/24`, `rule set office from 127.0.0.0/8`},
		{"too late", `rule set office until 2020-01-01T00:00:00Z`, `rule set office when "Mon-Sun 00:00-24:00 UTC"`},
		{"a role that needs more", "role set teller needs role:" + teller + "@corp-aa group:legal role:urn:x@corp-aa", "role set teller needs role:" + teller + "@corp-aa group:legal"},
		{"a higher clearance", "rule set cleared clearance top-secret", "rule set cleared clearance secret"},
	} {
		b.Do(change.away, "yes")
		expect(change.what, good, false)
		b.Do(change.back, "yes")
		expect("not "+change.what, good, true)
	}

	with := " with role:" + teller + "@corp-aa clearance:secret/crypto@corp-aa"
	shown := b.Do("access test legal-team as corp:CN=bob,O=Example from 127.0.0.1" + with)
	for _, rule := range []string{"person ", "counsel ", "at_the_till ", "office ", "cleared "} {
		if line := lineOf(shown, rule); !strings.Contains(line, "true") {
			t.Errorf("of %s the console says %q in\n%s", rule, line, shown)
		}
	}
	if !strings.Contains(shown, "Allowed: corp:CN=bob,O=Example belongs to legal-team.") {
		t.Errorf("the console says\n%s", shown)
	}
	b.Do("access lists legal-team is cleared && office && person")
	b.Do(`rule set office when "Mon-Sun 00:00-24:00 UTC" from 127.0.0.0/8`)
	shown = b.Do("access test legal-team as corp:CN=bob,O=Example with clearance:restricted@corp-aa")
	if line := lineOf(shown, "cleared "); !strings.Contains(line, "false") || !strings.Contains(shown, "Refused") {
		t.Errorf("the console says\n%s", shown)
	}
	shown = b.Do("access test legal-team as corp:CN=bob,O=Example with clearance:secret@corp-aa")
	if line := lineOf(shown, "office "); !strings.Contains(line, "error") || !strings.Contains(shown, "Refused") {
		t.Errorf("the console says\n%s", shown)
	}
	if out := b.Do("who-am-i corp:CN=bob,O=Example from 127.0.0.1" + with); !strings.Contains(out, "legal-team") {
		t.Errorf("who-am-i says\n%s", out)
	}
	b.Do("access lists legal-team is person && counsel && at_the_till && office && cleared")
	expect("again", good, true)
	b.Do("source add crl dead of corp at http://127.0.0.1:9/none.crl")
	expect("a list that cannot be had", good, false)
	if out := b.Do("source show dead"); !strings.Contains(out, "nothing was read yet") {
		t.Errorf("the console says of it\n%s", out)
	}
	verifyLog(t, b)
}

func lineOf(shown, begin string) string {
	for l := range strings.SplitSeq(shown, "\n") {
		if strings.HasPrefix(l, begin) {
			return l
		}
	}
	return ""
}

// TestMaintainerOverThePort: a maintainer changes a group of a box with a certificate only, and who joined gets the key.
func TestMaintainerOverThePort(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	b.Do("group add lawyers corp:CN=nobody,O=Example")
	b.Do("group add board corp:CN=nobody,O=Example")
	b.Do("rule add lawyers group lawyers")
	b.Do("access lists legal-team is lawyers")
	b.Do("group maintainer lawyers add corp:CN=mia,O=Example")
	mia, carol := b.Person("mia"), b.Person("carol")
	agent, reader := b.Agent(&mia), b.Agent(&carol)
	h, _ := header(t, agent, "for lawyers")
	ask := func() error {
		answers, err := reader.Release(t.Context(), []block.Header{h})
		if err == nil {
			err = answers[0].Err
		}
		return err
	}
	who, err := kra.ParseDecryptor("corp:CN=carol,O=Example")
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, client.ErrRefused) {
		t.Errorf("before she joined: %v", err)
	}
	if g, err := agent.EditGroup(t.Context(), "lawyers", []kra.Decryptor{who}, nil); err != nil || g.Size != 2 {
		t.Fatalf("EditGroup = %+v, %v", g, err)
	}
	if err := ask(); err != nil {
		t.Errorf("after she joined: %v", err)
	}
	if g, err := agent.Group(t.Context(), "lawyers"); err != nil || strings.Join(g.Members, " ") != "corp:CN=carol,O=Example corp:CN=nobody,O=Example" {
		t.Errorf("Group = %+v, %v", g, err)
	}
	for what, try := range map[string]func() error{
		"another group": func() error { _, err := agent.EditGroup(t.Context(), "board", []kra.Decryptor{who}, nil); return err },
		"a new group":   func() error { _, err := agent.EditGroup(t.Context(), "fresh", []kra.Decryptor{who}, nil); return err },
		"by a member": func() error {
			_, err := reader.EditGroup(t.Context(), "lawyers", nil, []kra.Decryptor{who})
			return err
		},
		"who is in it yet": func() error { _, err := agent.EditGroup(t.Context(), "lawyers", []kra.Decryptor{who}, nil); return err },
	} {
		if err := try(); !errors.Is(err, client.ErrNotMaintained) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := agent.EditGroup(t.Context(), "lawyers", nil, []kra.Decryptor{who}); err != nil {
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, client.ErrRefused) {
		t.Errorf("after she left: %v", err)
	}
	if shown := b.Do("log show 10"); !strings.Contains(shown, "corp:CN=mia,O=Example") {
		t.Errorf("the log does not name the maintainer:\n%s", shown)
	}
	verifyLog(t, b)
}
