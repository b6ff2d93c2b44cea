package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/receipt"
)

const (
	hidden      = "a-password-that-nobody-sees"
	hiddenValue = "a-value-that-nobody-sees"
	keySet      = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pastes are what the commands about sources ask for.
func pastes(t *testing.T) (cert, publicKey, crl string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Server CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, c, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der), pemOf("PUBLIC KEY", spki), pemOf("X509 CRL", list)
}

// TestSourcesOnTheConsole: every kind of source is added, changed, shown, renewed and removed; what it is asked for is
// refused if it is not that, and its secrets are in no answer and in no record of the log.
func TestSourcesOnTheConsole(t *testing.T) {
	w := enrolled(t)
	cert, publicKey, crl := pastes(t)
	other, _, newer := pastes(t)
	w.do("trust add corp", people(t, "Corp CA"))
	var shown bytes.Buffer
	do := func(line string, answers ...string) {
		t.Helper()
		shown.WriteString(w.do(line, answers...))
	}
	do("source add attribute corp-aa may clearance,role of corp", cert)
	do("source clearance corp-aa 1.2.840.99 4=secret 1=unclassified 1.2.840.99.1:0c0161=crypto")
	do("source renew corp-aa", other)
	do("source add directory corp-ldap may group,attribute of corp at ldaps://ldap.example.com base dc=example bind cn=kra,dc=example", cert, hidden)
	do("source map corp-ldap group from memberOf:ou=groups,dc=example")
	do("source map corp-ldap attribute department from departmentNumber")
	do("source map corp-ldap attribute title from title")
	do("source unmap corp-ldap title")
	do("source set corp-ldap every 60")
	do("source filter corp-ldap (objectClass=person)")
	do("source name corp-ldap mail:mail")
	do("source secret corp-ldap", hidden+"-2")
	do("source renew corp-ldap", other, hidden+"-3")
	do("source add issuer idp may role at https://idp.example.com for kra", keySet)
	do("source map idp role from roles")
	do("source renew idp", keySet)
	do("source add repository keys at https://keys.example.com/", publicKey, cert)
	do("source renew keys", other)
	do("source add repository local", publicKey, "some entries\n")
	do("source renew local", "other entries\n")
	do("source add service credit at https://pay.example.com/kra reserve charge platform", cert, hiddenValue)
	do("source set credit timeout 250")
	do("source set credit inflight 8")
	do("source secret credit", hiddenValue+"-2")
	do("source renew credit", other, hiddenValue+"-3")
	do("source add service audit at https://audit.example.com/ verify charge subject", cert)
	do("source add crl corp-crl of corp at http://ca.example.com/people.crl")
	do("source set corp-crl age 86400")
	do("source renew corp-crl", crl)
	do("source add crl aa-crl of corp-aa", newer)
	for line, parts := range map[string][]string{
		"source list":         {"corp-aa", "attribute", "corp-ldap", "directory", "ldaps://ldap.example.com", "idp", "issuer", "keys", "repository", "credit", "service", "crl"},
		"source show corp-aa": {"role, clearance", "speaks of     decryptors of corp", "1.2.840.99: 1=unclassified 4=secret", "1.2.840.99.1:0c0161=crypto", "CN=Server CA"},
		"source show corp-ldap": {"group, attribute", "binds as      cn=kra,dc=example, with a password", "(objectClass=person)", "mail:mail, of a decryptor of corp",
			"every 60 seconds", "memberOf:ou=groups,dc=example: group", "departmentNumber: attribute", "department"},
		"source show idp":      {"https://idp.example.com", "kra", "roles: role"},
		"source show keys":     {"https://keys.example.com/", "every 300 seconds"},
		"source show local":    {"pasted, 14 bytes"},
		"source show credit":   {"reserve, 250 milliseconds, 8 questions", "the platform, with a value that is not shown"},
		"source show audit":    {"verify", "who asks"},
		"source show corp-crl": {"http://ca.example.com/people.crl", "at most 86400 seconds from its date on", "next 2"},
		"source show aa-crl":   {"of            corp-aa", "pasted"},
	} {
		w.has(line, parts...)
		shown.WriteString(w.do(line))
	}
	for _, c := range []struct {
		line    string
		answers []string
		want    string
	}{
		{"source add attribute corp-aa may role of corp", []string{cert}, "source \"corp-aa\" already, of kind attribute"},
		{"source add attribute corp may role of corp", []string{cert}, "taken by a certification authority"},
		{"source add attribute aa2 may role of corp", []string{publicKey}, "not one CERTIFICATE in PEM"},
		{"source add attribute aa2 may role of corp", []string{"hello"}, "not one CERTIFICATE in PEM"},
		{"source add attribute aa2 may role of corp", []string{cert + other}, "not one CERTIFICATE in PEM"},
		{"source add attribute aa2 may role of nobody", []string{cert}, `no certification authority "nobody"`},
		{"source add issuer idp2 may role at i for kra", []string{"{}"}, "JSON Web Key Set"},
		{"source add directory l may group of corp at ldaps://h base dc=x bind cn=y", []string{cert, ""}, "is empty"},
		{"source add crl c of corp", []string{cert}, "not one X509 CRL in PEM"},
		{"source add crl c of idp", []string{crl}, "no certification or attribute authority"},
		{"source map corp-aa group from x", nil, "which has no fields"},
		{"source map corp-ldap role from x", nil, "may not assert"},
		{"source unmap corp-ldap x", nil, "is not used"},
		{"source set corp-ldap timeout 5", nil, `has no "timeout"`},
		{"source set credit timeout 0", nil, "milliseconds"},
		{"source filter idp (a=b)", nil, "directory has that"},
		{"source name idp uid", nil, "directory has that"},
		{"source secret idp", nil, "has no secret"},
		{"source secret audit", nil, "has no secret"},
		{"source renew nobody", nil, "no source"},
		{"source clearance idp 1.2.3 4=secret", nil, "no attribute authority"},
		{"source remove corp-aa", []string{"yes"}, "in use by source aa-crl"},
		{"source remove nobody", nil, "no source"},
		{"trust remove corp", []string{"yes"}, "in use by source corp-aa"},
		{"trust add idp", []string{people(t, "Other CA")}, "is taken"},
	} {
		shown.WriteString(w.fail(c.line, c.answers, c.want))
	}
	w.do("source remove aa-crl", "yes")
	w.do("source remove corp-aa", "yes")
	shown.WriteString(w.do("log show 1000"))
	if err := w.log.Records(0, w.log.Head().Size, func(_ int64, r receipt.Record) error {
		shown.Write(r.Private)
		shown.Write(r.Public)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{hidden, hiddenValue} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q was shown or logged", secret)
		}
	}
	o, _ := w.store.State().Source("corp-ldap")
	if p := o.Directory.Password.Bytes(); string(p) != hidden+"-3" || len(o.Directory.CA) != 2 {
		t.Error("the directory's password or authorities are not those that were set")
	}
}

// TestRenewedSourceWantsItsSecret: who adds an authority to those that vouch for a source's server gives the secret again
// that this server gets. The old one is sent to nobody new.
func TestRenewedSourceWantsItsSecret(t *testing.T) {
	w := enrolled(t)
	cert, _, _ := pastes(t)
	other, _, _ := pastes(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("source add directory corp-ldap may group of corp at ldaps://ldap.example.com base dc=example bind cn=kra,dc=example", cert, hidden)
	w.do("source add directory open-ldap may group of corp at ldaps://ldap.example.com base dc=example", cert)
	w.do("source add service credit at https://pay.example.com/kra reserve charge platform", cert, hidden)
	secret := func(alias kra.Anchor) string {
		o, ok := w.store.State().Source(alias)
		if !ok || secretOf(&o) == nil {
			t.Fatalf("%s has no secret", alias)
		}
		return string(secretOf(&o).Bytes())
	}
	for _, alias := range []kra.Anchor{"corp-ldap", "credit"} {
		line := "source renew " + string(alias)
		before := w.store.State().Root()
		if out, o := w.try(line, other); o.Ask == nil || o.Ask.Kind != wire.Secret || !strings.Contains(o.Ask.Prompt, "Give it again") || w.store.State().Root() != before {
			t.Errorf("%s without the secret: %+v\n%s", line, o, out)
		}
		w.fail(line, []string{other, ""}, "nothing was changed")
		if got := secret(alias); got != hidden {
			t.Errorf("%s has the secret %q", alias, got)
		}
		w.do(line, other, "given again")
		if got := secret(alias); got != "given again" {
			t.Errorf("after %s its servers are sent %q", line, got)
		}
	}
	w.do("source renew open-ldap", other)
}

// TestRolesAndLevels: roles and levels are made, shown, used and held to what there is.
func TestRolesAndLevels(t *testing.T) {
	w := enrolled(t)
	cert, _, _ := pastes(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("group add staff corp:CN=a")
	w.do("source add attribute corp-aa may role,attribute,clearance of corp", cert)
	w.do(`role add teller needs group:staff "attribute:title=Head of Sales@corp-aa"`)
	w.has("role list", "teller", "group:staff", "attribute:title=Head of Sales@corp-aa")
	w.do("role set teller needs group:staff attribute:department=sales@corp-aa clearance:secret@corp-aa")
	w.has("role show teller", "group:staff", "attribute:department=sales@corp-aa", "clearance:secret@corp-aa")
	w.do("rule add till role teller")
	w.fail("role add teller needs group:staff", nil, "exists already")
	w.fail("role set nobody needs group:staff", nil, "no role")
	w.fail("role add x needs group:nobody", nil, "unknown group")
	w.fail("role add x needs role:r@nobody", nil, `no authority "nobody"`)
	w.fail("role add x needs device:managed=yes@corp-aa", nil, "may not assert")
	w.fail("role add x needs clearance:hush@corp-aa", nil, `unknown level "hush"`)
	w.fail("role remove teller", []string{"yes"}, "in use by rule till")
	w.fail("group remove staff", []string{"yes"}, "in use by role teller")
	w.has("levels show", "unclassified < restricted < confidential < secret < top-secret")
	w.fail("levels set low high", nil, "unknown level")
	w.do("levels set low secret")
	w.has("levels show", "low < secret")
	w.do("levels set")
	w.has("levels show", "top-secret")
	w.do("rule remove till", "yes")
	w.do("role remove teller", "yes")
	if out := w.do("role list"); strings.Contains(out, "teller") {
		t.Error("the role is there still")
	}
}

// TestGroupsNest: a member of the inner group is one of the outer; no group comes to lie within itself.
func TestGroupsNest(t *testing.T) {
	w := enrolled(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("group add lawyers corp:CN=a")
	w.do("group add legal corp:CN=b")
	w.do("group add all corp:CN=c")
	w.do("rule add legal group legal")
	w.do("access add legal-team")
	w.do("access lists legal-team is legal")
	w.has("who-am-i corp:CN=a", "belongs to no access identifier")
	w.do("group nest lawyers in legal")
	w.do("group nest legal in all")
	w.has("who-am-i corp:CN=a", "legal-team")
	w.has("group show legal", "group within  lawyers")
	w.fail("group nest all in lawyers", nil, "all", "lawyers", "legal")
	w.fail("group nest legal in legal", nil, "legal")
	w.fail("group remove lawyers", []string{"yes"}, "in use by group legal")
	w.do("group unnest lawyers from legal", "yes")
	w.has("who-am-i corp:CN=a", "belongs to no access identifier")
}

// TestExplain: the administrator is told of each rule whether it is true, false or cannot be known, and why.
func TestExplain(t *testing.T) {
	w := enrolled(t)
	cert, _, _ := pastes(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("source add attribute corp-aa may role,clearance of corp", cert)
	w.do(`rule add person id "corp:CN=bob"`)
	w.do("rule add office from 10.20.0.0/16")
	w.do(`rule add till is roles.has("teller", "corp-aa")`)
	w.do(`rule add day when "Mon-Sun 00:00-24:00 UTC"`)
	w.do("access add legal-team")
	w.do("access lists legal-team is person && till && office ; day && person")
	line := func(out, rule string) string {
		for l := range strings.SplitSeq(out, "\n") {
			if strings.HasPrefix(l, rule+" ") {
				return l
			}
		}
		return ""
	}
	out := w.do("access test legal-team as corp:CN=bob with role:teller@corp-aa")
	for rule, want := range map[string]string{"person": "true", "till": "true", "office": "error", "day": "error"} {
		if got := line(out, rule); !strings.Contains(got, want) {
			t.Errorf("of %s it says %q, want %s", rule, got, want)
		}
	}
	if !strings.Contains(line(out, "office"), "address") || !strings.Contains(line(out, "day"), "clock") || !strings.Contains(out, "Refused") {
		t.Errorf("it says\n%s", out)
	}
	out = w.do("access test legal-team as corp:CN=bob from 10.20.1.7")
	if got := line(out, "till"); !strings.Contains(got, "false") {
		t.Errorf("of till it says %q, want false", got)
	}
	w.has("access test legal-team as corp:CN=bob from 10.20.1.7 with role:teller@corp-aa", "Allowed")
	w.has("access test legal-team as corp:CN=bob at 2026-11-21T09:30:00Z", "list 2 of legal-team: true", "Allowed")
	w.fail("access test legal-team as corp:CN=bob with role:teller", nil, "whose word is role:teller")
	w.fail("access test legal-team as corp:CN=bob with group:x@corp-aa", nil, "may not assert a group")
	w.fail("access test legal-team as corp:CN=bob with role:teller@nobody", nil, "may say role:teller@nobody")
	w.fail("access test nobody as corp:CN=bob", nil, "unknown access identifier")
}

// TestSharedRuleOnTheConsole: a rule that two access identifiers share is changed once for both.
func TestSharedRuleOnTheConsole(t *testing.T) {
	w := enrolled(t)
	w.do("rule add staff under corp:O=Example")
	for _, id := range []string{"legal-team", "board"} {
		w.do("access add " + id)
		w.do("access lists " + id + " is staff")
	}
	w.has("rule list", "board, legal-team")
	w.has("who-am-i corp:CN=a,O=Example", "board", "legal-team")
	w.do("rule set staff under corp:O=Elsewhere")
	w.has("who-am-i corp:CN=a,O=Example", "belongs to no access identifier")
	w.has("who-am-i corp:CN=a,O=Elsewhere", "board", "legal-team")
}

// TestTags: a new key has a recipient of stock age, which can be taken away and given back.
func TestTags(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	k := w.store.State().Keys()[0]
	id := k.ID.String()[:shortID]
	w.has("key show "+id, "age1tag1")
	w.fail("key tag "+id, nil, "already")
	w.do("key untag "+id, "yes")
	w.has("key show "+id, "has no recipient for it")
	w.fail("key untag "+id, []string{"yes"}, "does not encrypt")
	w.has("key tag "+id, "age1tag1")
}

// TestDeliveryAndLogic: who may get the keys, and what decides.
func TestDeliveryAndLogic(t *testing.T) {
	w := enrolled(t)
	w.do("rule add anybody is true")
	w.do("access add legal-team")
	w.do("access lists legal-team is anybody")
	w.has("access show legal-team", "channel: only to who proved")
	w.do("access deliver legal-team anyone")
	w.has("access show legal-team", "anyone: also to who proved nothing")
	w.do("access deliver legal-team channel")
	w.do("group add legal corp:CN=a")
	w.do("access logic legal-team cedar", "// who may\npermit(principal in Group::\"legal\",\n  action, resource);\n")
	w.has("access show legal-team", `Cedar: permit(principal in Group::"legal", action, resource);`)
	w.has("who-am-i corp:CN=a", "legal-team")
	w.has("who-am-i corp:CN=b", "belongs to no access identifier")
	w.fail("access logic legal-team cedar", []string{"permit(principal in Group::\"nobody\", action, resource);"}, "nobody")
	w.fail("access logic legal-team cedar", []string{"permit("}, "access legal-team")
	w.fail("access logic legal-team cedar", []string{"permit(principal, action, resource); /* all\n*/"}, "a comment")
	w.fail("access logic legal-team cedar", []string{"permit(principal, action, resource) when { \"\n//\" == \"\" };"}, "in quotes is not closed")
	w.has("who-am-i corp:CN=a", "legal-team")
	w.do("access logic legal-team cedar", "permit(principal, action, resource); // everybody\nforbid(principal in Group::\"legal\", action, resource); // but \"legal\n")
	w.has("who-am-i corp:CN=a", "belongs to no access identifier")
	w.has("who-am-i corp:CN=b", "legal-team")
	w.do("access logic legal-team rules", "yes")
	w.has("who-am-i corp:CN=a", "belongs to no access identifier")
	w.fail("access logic legal-team rules", []string{"yes"}, "already")
	w.fail("access logic nobody cedar", nil, "no access identifier")
}
