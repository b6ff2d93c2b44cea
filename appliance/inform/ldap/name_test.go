package ldap

import (
	"slices"
	"testing"

	"github.com/keyrelease/krabox/kra/policy"
)

// Case and space of ASCII do not count; a letter that only looks like another is another.
func TestLookalikes(t *testing.T) {
	for _, x := range []struct {
		match, a, b string
		same        bool
	}{
		{"uid:cn", "Bob  Kay", " bob kay ", true},
		{"uid:cn", "kay", "\u212aay", false},         // Kelvin sign
		{"uid:cn", "irene", "\u0130rene", false},     // capital I with a dot
		{"uid:cn", "bob kay", "bob\u00a0kay", false}, // space that does not break
		{"uid:cn", "bob kay", "bob\tkay", false},
		{"uid:cn", "\u00e9mile", "\u00c9mile", false},
		{"uid:uid", "kay", "\u212aay", false},
		{"", "CN=Kay,O=Example", "cn=kay,o=example", true},
		{"", "CN=kay", "CN=\u212aay", false},
		{"", "CN=bob kay", "CN=bob\u00a0kay", false},
		{"uid:upn", "kay@Kay.example", "kay@kay.EXAMPLE", true},
		{"uid:upn", "kay@kay.example", "kay@\u212aay.example", false},
		{"uid:mail", "kay@kay.example", "kay@\u212aay.example", false},
		{"uid:dns", "kay.example", "\u212aay.example", false},
	} {
		m, err := parseMatch(x.match)
		if err != nil {
			t.Fatal(err)
		}
		a, okA := m.key(x.a)
		b, okB := m.key(x.b)
		if !okA || same(a, b, okB) != x.same {
			t.Errorf("%q: %q and %q are one: %v; want %v", x.match, x.a, x.b, a == b, x.same)
		}
	}
}

func same(a, b string, ok bool) bool { return ok && a == b }

// TestOddWords: a value that is no word of any rule does not close what the directory says of its holder. Who asks leaves it
// out.
func TestOddWords(t *testing.T) {
	odd := policy.Item{Kind: policy.Alias, Name: "dns"}
	if err := check([]policy.Item{odd, {Kind: policy.Group, Name: "legal"}, {Kind: policy.Clearance, Value: "..."}}); err != nil {
		t.Error(err)
	}
	if err := check(slices.Repeat([]policy.Item{odd}, maxItems+1)); err == nil {
		t.Error("too many of them")
	}
}
