package admin

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

var (
	secretLine = regexp.MustCompile(`(?m)^secret +([0-9]+): (.+?)(?: —|$)`)
	secretSum  = regexp.MustCompile(`in all +([0-9]+) secrets of ([0-9]+) kinds: ([0-9]+) of the platform, ([0-9]+) of officers, ([0-9]+) of the`)
)

// counted reads the inventory: how many of each kind. Their sum is what it says at its end.
func (w *world) counted() map[string]int {
	w.t.Helper()
	out := w.do("system secrets")
	got, sum := map[string]int{}, 0
	for _, m := range secretLine.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if _, twice := got[m[2]]; err != nil || twice {
			w.t.Fatalf("kind %q is there twice, or without a number: %v", m[2], err)
		}
		got[m[2]], sum = n, sum+n
	}
	m := secretSum.FindStringSubmatch(strings.Join(strings.Fields(out), " "))
	if m == nil {
		w.t.Fatalf("no sum:\n%s", out)
	}
	var said [5]int
	for i := range said {
		said[i], _ = strconv.Atoi(m[i+1])
	}
	if said[0] != sum || said[1] != len(got) || said[2]+said[3]+said[4] != sum {
		w.t.Errorf("it says %v of %d secrets of %d kinds", said, sum, len(got))
	}
	for _, part := range []string{"where", "guarded by", "taken by", "ends"} {
		if n := strings.Count(out, "\n  "+part+" "); n != len(got) {
			w.t.Errorf("%d kinds, and %q is said %d times", len(got), part, n)
		}
	}
	return got
}

// TestSecretsAreCounted: the inventory follows the box, from the factory on: each secret that comes or goes changes the count of its kind, and
// of no other. It shows no value, and is refused where TPM and token do not answer for what they hold.
func TestSecretsAreCounted(t *testing.T) {
	w := factory(t)
	want := map[string]int{"storage seed": 1, "endorsement seed": 1, "platformAuth": 1}
	check := func(when string) {
		t.Helper()
		if got := w.counted(); !maps.Equal(got, want) {
			t.Errorf("%s: %v; want %v", when, got, want)
		}
	}
	check("factory")
	w.enrol()
	w.login()
	maps.Copy(want, map[string]int{"attestation key": 1, "label key": 4, "state secret": 1, "half of the state's key": 1, "presence passphrase": 1, "ownerAuth": 1, "lockoutAuth": 1,
		"key derived from the opened state": 2, "passphrase of an officer": 1, "PIN of the token": 2, "key-encryption key": 1, "vault key": 1})
	check("enrolled")
	before := maps.Clone(want)
	w.has("system secrets", "4: label key — key-release, root, maintenance, attended", "the domain, by the copy", officer)

	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	w.do("key generate p256 bound for legal-team")
	want["key-release key"] = 2
	check("two keys")
	outside, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(outside.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	bound := hsm.Key{ID: block.KeyIDOfSPKI(spki), SPKI: spki, Suite: hsm.P256, Custody: hsm.Labelled, Origin: hsm.Generated, Mode: hsm.Vault}
	if _, err := w.store.Commit(t.Context(), store.KeyAdd{Key: bound, Made: time.Now(), Bound: &store.Binding{Label: "attended", Secret: []byte("blob"), Sealed: []byte("key")}}); err != nil {
		t.Fatal(err)
	}
	want["key-release key bound to a label"] = 1
	check("a key that is bound to a label")
	if named := short(bound.ID) + " of nobody (attended)"; !strings.Contains(strings.Join(strings.Fields(w.do("system secrets")), " "), named) {
		t.Errorf("system secrets lacks %q", named)
	}
	w.do("officer add otto", "a long passphrase", "a long passphrase")
	want["passphrase of an officer"] = 2
	check("two officers")
	_, o := w.try("officer totp", passphrase)
	want["secret of a second factor that is being set up"] = 1
	check("a second factor that is being set up")
	second := readOffer(t, o.Ask.Prompt)
	recovery := readRecovery(t, w.do("officer totp", passphrase, account.CodeAt(second, w.now())))
	delete(want, "secret of a second factor that is being set up")
	want["secret of a second factor"], want["recovery code of a second factor"] = 1, len(recovery)
	check("a second factor")
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("source add directory corp-ldap may group of corp at ldaps://h base dc=x bind cn=kra,dc=x", people(t, "Server CA"), hidden)
	want["secret of a source"] = 1
	check("a source with a password")
	w.c.TLS = func() bool { return true }
	want["key of the TLS certificate"] = 1
	check("a TLS key")

	shown := w.do("system secrets")
	pins := w.store.State().PINs()
	for what, secret := range map[string]string{"the PIN": string(pins.User.Bytes()), "the other PIN": string(pins.SO.Bytes()), "a passphrase": passphrase, "another": "a long passphrase", "a password": hidden,
		"the secret of a second factor": account.SecretText(second), "a recovery code": recovery[0]} {
		if secret == "" || strings.Contains(shown, secret) {
			t.Errorf("%s is shown", what)
		}
	}
	w.do("source remove corp-ldap", "yes")
	check("the removal waits for another officer")
	w.as("otto", "a long passphrase", func() {
		w.do("officer passphrase", "a long passphrase", paulPass, paulPass)
		w.do("approve 1", "yes")
	})
	w.do("officer totp off", recovery[0])
	delete(want, "secret of a second factor")
	delete(want, "recovery code of a second factor")
	w.c.TLS = nil
	delete(want, "secret of a source")
	delete(want, "key of the TLS certificate")
	check("undone")
	before["passphrase of an officer"] = 2 // otto stays
	for kind, n := range before {
		if want[kind] != n {
			t.Errorf("%q: %d; %d at the beginning", kind, want[kind], n)
		}
	}

	legal, _ := w.store.State().Access("legal-team")
	if _, err := w.hsmd.Client().Destroy(t.Context(), legal.Keys[0]); err != nil {
		t.Fatal(err)
	}
	w.fail("system secrets", nil, "token has 1 key", "the state knows of 2")
	w.fault.holdings = errors.New("the line is broken")
	w.fail("system secrets", nil, "Ask the TPM: the line is broken")
}
