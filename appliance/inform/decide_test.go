package inform_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
)

// sealed is a header for a key, and the key's id.
func sealed(t testing.TB) (block.Envelope, block.KeyID) {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	to, err := block.NewRecipient(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w, err := age.Encrypt(&out, to)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return block.EnvelopeOf(h), to.KeyID()
}

// What sources say decides: roles and clearances of attribute certificates grant while their lifetimes do, and not longer;
// an untrusted clock, or an authority that cannot be asked, denies what needs them, negated or not, and nothing else.
func TestSourcesDecide(t *testing.T) {
	c := newCorp(t)
	envelope, key := sealed(t)
	source := c.source()
	k := keeper(t, inform.Config{Authorities: []inform.Authority{source}})
	lost := keeper(t, inform.Config{Authorities: []inform.Authority{source}, Repositories: []inform.Repository{{Alias: "repo", Key: keyring(t).Key()}}})
	valid, expired, revocable := c.template(), c.template(), c.template()
	revocable.Revocable = true
	expired.From, expired.Until = now.Add(-2*time.Hour), now.Add(-time.Hour)
	other := attrcert.Template{Holder: c.alice.cert, From: valid.From, Until: valid.Until, Groups: []string{"visitors"}}
	one := func(tmpl attrcert.Template) [][]byte { return [][]byte{c.aa.attest(t, tmpl)} }
	const (
		role      = `roles.has("urn:example:role:teller", "corp-aa")`
		clearance = `clearance.dominates("restricted/crypto", "corp-aa")`
		group     = `groups.has("legal", "corp-aa")`
	)
	cases := []struct {
		name    string
		rule    string
		keeper  *inform.Keeper
		shown   [][]byte
		trusted bool
		granted bool
	}{
		{"role", role, k, one(valid), true, true},
		{"clearance", clearance, k, one(valid), true, true},
		{"group", group, k, one(valid), true, true},
		{"clearance too low", `clearance.dominates("top-secret", "corp-aa")`, k, one(valid), true, false},
		{"another compartment", `clearance.dominates("secret/atomic", "corp-aa")`, k, one(valid), true, false},
		{"nothing shown", role, k, nil, true, false},
		{"nothing shown, negated", "!" + role, k, nil, true, true},
		{"expired", role, k, one(expired), true, false},
		{"no revocation list", role, k, one(revocable), true, false},
		{"no revocation list, negated", "!" + role, k, one(revocable), true, false},
		{"clock untrusted", role, k, one(valid), false, false},
		{"clock untrusted, negated", "!" + role, k, one(valid), false, false},
		{"clock untrusted, another word", `id == "corp:CN=alice"`, k, one(valid), false, true},
		{"repository lost", role, lost, nil, true, false},
		{"repository lost, negated", "!" + role, lost, nil, true, false},
		{"repository lost, but shown", role, lost, one(valid), true, false},
		{"repository lost, negated, and another shown", "!" + role, lost, one(other), true, false},
		{"repository lost, negated clearance, and another shown", "!" + clearance, lost, one(other), true, false},
		{"repository lost, another word", `id == "corp:CN=alice"`, lost, nil, true, true},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			book, err := policy.Compile(1, policy.Definition{Rules: []policy.RuleDef{{Name: "r", Expr: x.rule}},
				Authorities: []policy.AuthorityDef{{Alias: "corp-aa", May: source.May}},
				Access:      []policy.AccessDef{{ID: "legal-team", Keys: []block.KeyID{key}, Lists: []string{"r"}}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p := c.of(t, c.alice)
			p.Attributes = x.shown
			in, err := x.keeper.World().Resolve(p, now, x.trusted)
			if err != nil {
				t.Fatal(err)
			}
			_, err = book.Decide(policy.Request{Envelope: envelope, Facts: policy.Facts{Decryptor: p.Decryptor, Source: netip.MustParseAddr("10.0.0.1"),
				ClockTrusted: x.trusted, Information: in, Channel: policy.Authenticated}}, now)
			if (err == nil) != x.granted {
				t.Errorf("Decide = %v; want granted %v", err, x.granted)
			}
		})
	}
}
