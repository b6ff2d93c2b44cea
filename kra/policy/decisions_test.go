package policy

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
)

// tabled are the rules that the table of decisions names.
func tabled() Definition {
	rules := func(pairs ...string) (out []RuleDef) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, RuleDef{RuleName(pairs[i]), pairs[i+1]})
		}
		return out
	}
	return Definition{
		Groups: []GroupDef{{Name: "legal", Members: []string{"corp:CN=alice,O=Example"}}, {Name: "others", Members: []string{"corp:CN=bob,O=Example"}},
			{Name: "company", Groups: []GroupName{"departments"}}, {Name: "departments", Groups: []GroupName{"legal"}}, {Name: "suppliers", Groups: []GroupName{"others"}}},
		Roles: []RoleDef{
			{"teller", []Need{{Kind: Group, Name: "legal"}, {Attribute, "department", "sales", "corp-ldap"}, {Kind: Clearance, Value: "confidential"}}},
			{"boss", []Need{{Kind: Group, Name: "legal"}, {Attribute, "department", "board", "corp-ldap"}}},
			{"remote", []Need{{Kind: Group, Name: "legal"}, {Device, "tunnel", "yes", "down"}}}},
		Authorities: []AuthorityDef{{"corp", []Kind{Alias}}, {"corp-aa", []Kind{Role, Clearance}}, {"corp-ldap", []Kind{Group, Attribute}},
			{"mdm-aa", []Kind{Device}}, {"idp", []Kind{Group}}, {"down", []Kind{Group, Role, Attribute, Device, Alias, Clearance}}},
		Services: []string{"credit", "fraud", "slow", "unasked"},
		Rules: rules("always", "true", "never", "false",
			"is_alice", `id == "corp:CN=alice,O=Example"`, "is_bob", `id in ["corp:CN=bob,O=Example", "corp:CN=carol,O=Example"]`,
			"is_example", `id.under("corp:O=Example")`, "is_other", `id.under("other:")`,
			"in_legal", `groups.has("legal")`, "in_others", `groups.has("others")`,
			"in_company", `groups.has("company")`, "in_suppliers", `groups.has("suppliers")`,
			"ldap_staff", `groups.has("staff", "corp-ldap")`, "ldap_guests", `groups.has("guests", "corp-ldap")`, "down_group", `groups.has("staff", "down")`,
			"box_teller", `roles.has("teller")`, "box_boss", `roles.has("boss")`, "box_remote", `roles.has("remote")`,
			"aa_auditor", `roles.has("auditor", "corp-aa")`, "aa_clerk", `roles.has("clerk", "corp-aa")`, "down_role", `roles.has("auditor", "down")`,
			"sales", `attributes.has("department", "sales", "corp-ldap")`, "purchase", `attributes.has("department", "purchase", "corp-ldap")`,
			"down_attribute", `attributes.has("department", "sales", "down")`,
			"managed", `device.has("managed", "yes", "mdm-aa")`, "encrypted", `device.has("encrypted", "yes", "mdm-aa")`, "down_device", `device.has("managed", "yes", "down")`,
			"mailbox", `aliases.has("mail:alice@example.com", "corp")`, "other_mailbox", `aliases.has("mail:bob@example.com", "corp")`,
			"down_alias", `aliases.has("mail:alice@example.com", "down")`,
			"secret", `clearance.dominates("secret/crypto")`, "top_secret", `clearance.dominates("top-secret", "corp-aa")`,
			"down_clearance", `clearance.dominates("top-secret")`,
			"credit", `external.allows("credit")`, "fraud", `external.allows("fraud")`, "slow", `external.allows("slow")`, "unasked", `external.allows("unasked")`,
			"office", `source.net("10.20.0.0/16")`, "branch", `source.net("10.21.0.0/16")`,
			"weekdays", `clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")`, "nights", `clock.within("Sun-Sat 22:00-06:00 Europe/Berlin")`,
			"idp_member", `groups.has("member", "idp")`, "idp_expired", `groups.has("expired", "idp")`, "idp_future", `groups.has("future", "idp")`),
	}
}

// people are the facts that the table of decisions names.
func people(t testing.TB) map[string]Facts {
	alice := facts(t)
	alice.Information = informationOf(t, []Item{
		{Kind: Group, Name: "staff", Authority: "corp-ldap", Via: Directory},
		{Kind: Attribute, Name: "department", Value: "sales", Authority: "corp-ldap", Via: Directory},
		{Kind: Role, Name: "auditor", Authority: "corp-aa", Via: Presented},
		{Kind: Clearance, Value: "secret/crypto,nato", Authority: "corp-aa", Via: Presented},
		{Kind: Device, Name: "managed", Value: "yes", Authority: "mdm-aa", Via: Repository},
		{Kind: Alias, Name: "mail", Value: "alice@example.com", Authority: "corp", Via: Channel},
		{Kind: Group, Name: "member", Authority: "idp", Via: Token, From: workday().Add(-time.Hour), Until: workday().Add(time.Hour)},
		{Kind: Group, Name: "expired", Authority: "idp", Via: Token, Until: workday().Add(-time.Hour)},
		{Kind: Group, Name: "future", Authority: "idp", Via: Token, From: workday().Add(24 * time.Hour)},
	}, "down")
	alice.Answers = []Answer{{"credit", Passed, ""}, {"fraud", Failed, "score"}, {"slow", Errored, "time-out"}}
	with := func(change func(*Facts)) Facts { f := alice; change(&f); return f }
	plain := informationOf(t, nil, "down")
	return map[string]Facts{
		"alice": alice, "night": alice,
		"nowhere":  with(func(f *Facts) { f.Source = netip.Addr{} }),
		"outside":  with(func(f *Facts) { f.Source = netip.MustParseAddr("192.0.2.1") }),
		"dark":     with(func(f *Facts) { f.ClockTrusted = false }),
		"unproven": with(func(f *Facts) { f.Channel = Reencrypted }),
		"unsaid":   with(func(f *Facts) { f.Channel = 0 }),
		"nobody":   {Channel: Authenticated},
		"bob":      with(func(f *Facts) { f.Decryptor, f.Information = decryptor(t, "corp:CN=bob,O=Example"), plain }),
		"impostor": with(func(f *Facts) { f.Decryptor, f.Information = decryptor(t, "other:CN=alice,O=Example"), plain }),
	}
}

// TestDecisions holds the code to testdata/decisions.txt, in which nothing was computed.
func TestDecisions(t *testing.T) {
	text, err := os.ReadFile("testdata/decisions.txt")
	if err != nil {
		t.Fatal(err)
	}
	who, d, decisions, kinds := people(t), tabled(), 0, 0
	book, err := Compile(1, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "== ") {
			kinds += len(line) - len(strings.TrimPrefix(line, "=="))
			continue
		}
		f := strings.Split(line, "|")
		for n := len(f); n > 4; n = len(f) { // "||" within a list
			f = append([]string{f[0], f[1] + "|" + f[2]}, f[3:]...)
		}
		if len(f) != 4 {
			t.Fatalf("line %d has %d fields", i+1, len(f))
		}
		decisions++
		facts, ok := who[strings.TrimSpace(f[0])]
		if !ok {
			t.Fatalf("line %d: %q is nobody", i+1, f[0])
		}
		access := AccessDef{ID: "x", Keys: []block.KeyID{{1}}, Delivery: ToAnyone}
		for l := range strings.SplitSeq(f[1], ";") {
			if l = strings.TrimSpace(l); l != "" {
				access.Lists = append(access.Lists, l)
			}
		}
		b, err := book.Revise(1, Edit{Put: Definition{Access: []AccessDef{access}}})
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		at := workday()
		if strings.TrimSpace(f[0]) == "night" {
			at = at.Add(14 * time.Hour)
		}
		tabledDecision(t, i+1, b, facts, at, strings.TrimSpace(f[2]), strings.TrimSpace(f[3]))
	}
	if decisions < 300 || kinds < 2*20 {
		t.Errorf("%d decisions of %d kinds", decisions, kinds/2)
	}
	t.Logf("%d decisions", decisions)
}

func tabledDecision(t *testing.T, line int, b *Book, f Facts, at time.Time, lists, decision string) {
	t.Helper()
	access, _ := b.Access("x")
	trace, _ := b.decide(access.Keys, f, at)
	got := ""
	for _, l := range trace.Lists() {
		got += map[Outcome]string{Passed: "+", Failed: "-", Errored: "!"}[l.Outcome]
	}
	result := "refused"
	if trace.reason == 0 {
		result = "granted"
	}
	if got != lists || result != decision {
		t.Errorf("line %d: %s %s; want %s %s (%v)", line, got, result, lists, decision, trace.Rules())
	}
	read, err := ParseTrace(trace.AppendJSON(nil))
	if err = errors.Join(err, Replay(b, read)); err != nil {
		t.Errorf("line %d: %v", line, err)
	}
}
