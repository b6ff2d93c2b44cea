package inform_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra/policy"
)

// odd says one thing that rules can use among others that they cannot, as a directory and as a token.
type odd struct{}

func (odd) items() []policy.Item {
	return []policy.Item{
		{Kind: policy.Alias, Name: "dns", Value: "..."}, {Kind: policy.Alias, Name: "mail"}, {Kind: policy.Group}, {Kind: policy.Role, Name: "teller", Value: "x"},
		{Kind: policy.Clearance, Value: "..."}, {Kind: policy.Attribute, Name: "note", Value: strings.Repeat("x", policy.MaxItemText+1)},
		{Kind: policy.Attribute, Name: "note", Value: "\xff"}, {Kind: policy.Group, Name: "legal"}}
}

func (odd) Issued(string) bool { return true }

func (o odd) Verify(string, *x509.Certificate) ([]policy.Item, error) { return o.items(), nil }

func (o odd) Sync(context.Context) (inform.Image, error) { return o, nil }

func (o odd) Lookup(inform.Subject) ([]policy.Item, error) { return o.items(), nil }

// TestOddWordsAreLeftOut: a value that is no word of any rule costs its holder that value only, says nothing, and is counted
// for the administrator.
func TestOddWordsAreLeftOut(t *testing.T) {
	c := newCorp(t)
	k := keeper(t, inform.Config{
		Issuers:     []inform.Issuer{{Alias: "idp", May: everything, Verifier: odd{}}},
		Directories: []inform.Directory{{Alias: "ldap", May: everything, Of: "corp", Server: odd{}, Every: time.Hour, MaxAge: time.Hour}}})
	waitFor(t, func() bool { got, _, _ := resolve(t, k, c.of(t, c.alice)); return !strings.Contains(got, "missing") })
	p := c.of(t, c.alice)
	p.Tokens = []string{"x"}
	got, notes, err := resolve(t, k, p)
	if want := "group legal idp token\ngroup legal ldap directory\n"; err != nil || got != want {
		t.Errorf("Resolve = %q, %v; want %q", got, err, want)
	}
	for _, source := range []string{"idp", "ldap"} {
		if want := source + ": 7 values are no words of any rule and left out"; !strings.Contains(notes, want) {
			t.Errorf("noted %q; want %q", notes, want)
		}
	}
}
