package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// TestUsers: what names a word, on whatever way, and nothing else. Of a book that was loaded the same is known.
func TestUsers(t *testing.T) {
	d := Definition{
		Groups: []GroupDef{{Name: "in"}, {Name: "mid", Groups: []GroupName{"in"}}, {Name: "out", Groups: []GroupName{"mid"}}, {Name: "other"}, {Name: "plain"}},
		Roles:  []RoleDef{{"crew", []Need{{Kind: Group, Name: "out"}}}, {"rest", []Need{{Kind: Group, Name: "other"}}}},
		Rules: []RuleDef{{"by_group", `groups.has("out")`}, {"by_role", `!roles.has("crew")`}, {"late", `true || !groups.has("mid")`},
			{"apart", `groups.has("other")`}, {"nothing", "true"}},
		Access: []AccessDef{
			{ID: "a", Lists: []string{"nothing", "at_least(1, [nothing, !by_group])"}, Keys: []block.KeyID{{1}}},
			{ID: "b", Lists: []string{"by_role"}},
			{ID: "c", Logic: Cedar, Lists: []string{`forbid(principal, action, resource) unless { principal in Group::"in" };`}},
			{ID: "d", Logic: Cedar, Lists: []string{`permit(principal in Role::"crew", action, resource);`}},
			{ID: "e", Logic: Cedar, Lists: []string{`permit(principal, action, resource) when { principal in Rule::"late" };`}},
			{ID: "f", Lists: []string{"apart && nothing"}},
		},
	}
	loaded, err := Load(1, Edit{Put: d})
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string]*Book{"compiled": compile(t, d), "loaded": loaded} {
		for _, tt := range []struct {
			of   []Word
			want string
		}{
			{nil, "[]"},
			{[]Word{{GroupWord, "plain"}}, "[]"},
			{[]Word{{GroupWord, "absent"}}, "[]"},
			{[]Word{{AccessWord, "a"}}, "[]"},
			{[]Word{{RuleWord, "out"}}, "[]"},
			{[]Word{{GroupWord, "in"}}, "[{access a} {access b} {access c} {access d} {access e} {group mid} {group out} {role crew} {rule by_group} {rule by_role} {rule late}]"},
			{[]Word{{GroupWord, "out"}}, "[{access a} {access b} {access d} {role crew} {rule by_group} {rule by_role}]"},
			{[]Word{{RoleWord, "crew"}}, "[{access b} {access d} {rule by_role}]"},
			{[]Word{{RuleWord, "late"}}, "[{access e}]"},
			{[]Word{{RuleWord, "nothing"}}, "[{access a} {access f}]"},
			{[]Word{{GroupWord, "other"}, {RuleWord, "late"}}, "[{access e} {access f} {role rest} {rule apart}]"},
		} {
			if got := fmt.Sprint(b.Users(tt.of...)); got != tt.want {
				t.Errorf("%s: Users(%v) = %s, want %s", what, tt.of, got, tt.want)
			}
		}
	}
	if got := (*Book)(nil).Users(Word{GroupWord, "in"}); got != nil {
		t.Errorf("the nil book has %v", got)
	}
	d.Rules[4].Expr = "no longer a rule"
	if loaded, err = Load(1, Edit{Put: d}); err != nil {
		t.Fatal(err)
	}
	if got := loaded.Users(Word{GroupWord, "plain"}); !slices.Contains(got, Word{RuleWord, "nothing"}) || !slices.Contains(got, Word{AccessWord, "a"}) {
		t.Errorf("a rule that does not compile names none: %v", got)
	}
}
