package boxtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/appliance/inform/ldap/ldaptest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

const soon = 2 * time.Minute // a loaded machine is slow

// asks is whether a key is released to a.
func asks(t testing.TB, a *client.Agent, h block.Header) bool {
	t.Helper()
	answers, err := a.Release(t.Context(), []block.Header{h})
	if err == nil {
		err = answers[0].Err
	}
	if err != nil && !errors.Is(err, client.ErrRefused) {
		t.Fatal(err)
	}
	return err == nil
}

// becomes waits until a is released the key, or is not.
func becomes(t testing.TB, when string, a *client.Agent, h block.Header, released bool) {
	t.Helper()
	for end := time.Now().Add(soon); asks(t, a, h) != released; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: released is still %v", when, !released)
		}
	}
}

// TestDirectoryOfABox: a box reads OpenLDAP. Who leaves the group there is refused here after the next look; while the
// directory has been gone for too long nobody is in its groups, nor provably outside of them, and other rules go on.
func TestDirectoryOfABox(t *testing.T) {
	s := ldaptest.New(t)
	bob, eve := s.Person("bob", "departmentNumber=sales"), s.Person("eve")
	legal := s.Group("legal", bob, eve)
	b := boxtest.Start(t)
	legalTeam(b)
	b.Do(`source add directory corp-ldap may group,attribute of corp at `+s.URL+` base "`+ldaptest.People+`" bind "`+ldaptest.Admin+`"`,
		pemText("CERTIFICATE", s.Root.Raw), ldaptest.Secret)
	for _, line := range []string{
		"source name corp-ldap uid:cn",
		"source map corp-ldap group from memberOf:" + ldaptest.Groups,
		"source map corp-ldap attribute department from departmentNumber",
		"source set corp-ldap every 10", "source set corp-ldap age 20",
		`rule add staff is groups.has("legal", "corp-ldap")`,
		`rule add outsider is !groups.has("legal", "corp-ldap")`,
		"access lists legal-team is staff",
	} {
		b.Do(line)
	}
	person := func(name string) *client.Agent { c := b.Person(name); return b.Agent(&c) }
	as, other, stranger := person("bob"), person("eve"), person("mallory")
	h, _ := header(t, as, "for the legal group of the directory")
	becomes(t, "bob, in the group", as, h, true)
	if !asks(t, other, h) || asks(t, stranger, h) {
		t.Error("eve is refused or mallory is not")
	}
	s.Leave(legal, bob)
	becomes(t, "bob, no longer in the group", as, h, false)
	if !asks(t, other, h) {
		t.Error("eve is refused; want her in the group still")
	}
	s.Stop()
	becomes(t, "eve, while the directory is gone", other, h, false)
	b.Do("access lists legal-team is outsider")
	if asks(t, stranger, h) {
		t.Error("mallory counts as outside of a group that nobody can look into")
	}
	b.Do("access lists legal-team is staff; counsel")
	if !asks(t, as, h) {
		t.Error("bob is refused by a rule that needs no directory")
	}
	s.Start()
	becomes(t, "eve, with the directory back", other, h, true)
	verifyLog(t, b)
}

// What the console lets in is what can be used.
func TestUnusableDirectoryIsRefusedOnTheConsole(t *testing.T) {
	b := boxtest.Start(t)
	b.Trust("corp")
	add := `source add directory corp-ldap may group of corp at ldaps://127.0.0.1:9 base `
	ca := pemText("CERTIFICATE", peertest.NewAuthority(t).Root.Raw)
	if _, why := b.Try(add+`people`, ca); !strings.Contains(why, "base") {
		t.Errorf("a base that is none: %q", why)
	}
	b.Do(add+ldaptest.People, ca)
	for line, want := range map[string]string{
		"source name corp-ldap uid:what":                  "uid:what",
		"source map corp-ldap group from memberOf:groups": "memberOf:groups",
		"source filter corp-ldap (uid=*":                  "filter",
	} {
		if _, why := b.Try(line); !strings.Contains(why, want) {
			t.Errorf("%s: %q; want %q", line, why, want)
		}
	}
}

// TestTokensOfABox: a token of the issuer that the console names gives its bearer a role, if it is bound to the bearer's own
// certificate, while the clock can be trusted, up to its end.
func TestTokensOfABox(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := boxtest.Start(t)
	legalTeam(b)
	b.Do("source add issuer corp-idp may role at https://idp.example.com for kra", string(jwks))
	for _, line := range []string{"source map corp-idp role from /realm_access/roles", `rule add tellers is roles.has("teller", "corp-idp")`, "access lists legal-team is tellers"} {
		b.Do(line)
	}
	bob, eve := b.Person("bob"), b.Person("eve")
	token := func(who tls.Certificate, role string, until time.Time) string {
		sum := sha256.Sum256(who.Leaf.Raw)
		payload, err := json.Marshal(map[string]any{"iss": "https://idp.example.com", "aud": []string{"kra"}, "iat": time.Now().Add(-time.Hour).Unix(), "exp": until.Unix(),
			"cnf": map[string]string{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}, "realm_access": map[string]any{"roles": []string{role}}})
		if err != nil {
			t.Fatal(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	showing := func(who tls.Certificate, tokens ...string) *client.Agent {
		a, err := client.NewAgent(client.Config{URL: "https://" + b.Up().Release.String(), Trust: trust(t, b), Certificate: &who, Delivery: client.Delivery{Tokens: tokens}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		return a
	}
	later := time.Now().Add(time.Hour)
	good := token(bob, "teller", later)
	h, _ := header(t, showing(bob), "for tellers")
	if asks(t, showing(bob, good), h) {
		t.Error("a token counts while nobody vouches for the clock")
	}
	b.Do("time set "+time.Now().UTC().Format(time.RFC3339), "yes")
	for _, x := range []struct {
		what     string
		as       *client.Agent
		released bool
	}{
		{"bob with his token", showing(bob, good), true},
		{"bob without", showing(bob), false},
		{"eve with bob's token", showing(eve, good), false},
		{"eve with her own", showing(eve, token(eve, "teller", later)), true},
		{"eve with her own and bob's", showing(eve, token(eve, "teller", later), good), false},
		{"bob as a clerk", showing(bob, token(bob, "clerk", later)), false},
		{"bob with yesterday's", showing(bob, token(bob, "teller", time.Now().Add(-time.Minute))), false},
		{"bob with a broken one", showing(bob, good[:len(good)-4]+"AAAA"), false},
	} {
		if got := asks(t, x.as, h); got != x.released {
			t.Errorf("%s: released %v; want %v", x.what, got, x.released)
		}
	}
	verifyLog(t, b)
}
