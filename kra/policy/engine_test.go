package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// world is a definition of everything that can be asked, with one access identifier.
func world(logic Logic, lists ...string) Definition {
	return Definition{
		Groups: []GroupDef{{Name: "legal", Members: []string{"corp:CN=alice,O=Example"}}, {Name: "empty"},
			{Name: "company", Groups: []GroupName{"legal", "empty"}}, {Name: "others", Members: []string{"corp:CN=bob,O=Example"}}},
		Roles: []RoleDef{
			{"teller", []Need{{Attribute, "department", "sales", "corp-ldap"}, {Clearance, "", "secret/crypto", ""}}},
			{"reviewer", []Need{{Kind: Group, Name: "legal"}, {Kind: Role, Name: "auditor", Authority: "corp-aa"}}},
			{"phoned", []Need{{Device, "managed", "yes", "mdm-aa"}, {Alias, "mail", "alice@example.com", "corp"}, {Kind: Group, Name: "staff", Authority: "corp-ldap"}}},
		},
		Authorities: []AuthorityDef{{"corp", []Kind{Alias}}, {"corp-aa", []Kind{Role, Clearance}}, {"corp-ldap", []Kind{Group, Attribute}},
			{"mdm-aa", []Kind{Device, Clearance}}, {"idp", []Kind{Group, Role, Attribute}}, {"down", []Kind{Group, Role, Attribute, Device, Alias, Clearance}}},
		Services: []string{"credit", "fraud"},
		Rules: []RuleDef{{"yes", "true"}, {"no", "false"}, {"err", `groups.has("x", "down")`}, {"counsel", `groups.has("legal")`},
			{"credit", `external.allows("credit")`}, {"office", `source.net("10.20.0.0/16")`}},
		Access: []AccessDef{{ID: "legal-team", Keys: []block.KeyID{{1}}, Lists: lists, Logic: logic}},
	}
}

// noon is when one of the things ends that are known about alice.
var noon = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)

// known is what the world's authorities say about alice.
func known(t testing.TB) []Item {
	t.Helper()
	return []Item{
		{Kind: Group, Name: "staff", Authority: "corp-ldap", Via: Directory},
		{Kind: Attribute, Name: "department", Value: "sales", Authority: "corp-ldap", Via: Directory},
		{Kind: Attribute, Name: "department", Value: "audit", Authority: "corp-ldap", Via: Directory},
		{Kind: Role, Name: "auditor", Authority: "corp-aa", Via: Presented},
		{Kind: Clearance, Value: "secret/crypto,nato", Authority: "corp-aa", Via: Presented},
		{Kind: Alias, Name: "mail", Value: "alice@Example.COM", Authority: "corp", Via: Channel},
		{Kind: Alias, Name: "dns", Value: "alice.example.com", Authority: "corp", Via: Channel},
		{Kind: Device, Name: "managed", Value: "yes", Authority: "mdm-aa", Via: Repository},
		{Kind: Role, Name: "clerk", Authority: "idp", Via: Token, Until: noon},
		{Kind: Role, Name: "boss", Authority: "corp-ldap", Via: Directory}, // which may not say that
	}
}

func informationOf(t testing.TB, items []Item, unavailable ...kra.Anchor) Information {
	t.Helper()
	in, err := NewInformation(items, unavailable)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// informed are the facts of alice with all that is known about her.
func informed(t testing.TB) Facts {
	f := facts(t)
	f.Information = informationOf(t, known(t), "down")
	return f
}

// listOutcome asks the only list of the world.
func listOutcome(t testing.TB, d Definition, f Facts) (Outcome, Trace) {
	t.Helper()
	tr, err := compile(t, d).Explain("legal-team", f, workday())
	if err != nil {
		t.Fatal(err)
	}
	return tr.Lists()[len(tr.Lists())-1].Outcome, tr
}

// A contract is one question in the words of every engine.
type contract struct {
	name, rules, cedar string
	facts              func(*Facts)
	want               Outcome
}

// contracts are what each engine must answer alike.
var contracts = []contract{
	{"a rule that passes", `yes`, `permit(principal in Rule::"yes", action, resource);`, nil, Passed},
	{"a rule that fails", `no`, `permit(principal in Rule::"no", action, resource);`, nil, Failed},
	{"a rule that errs", `err`, `permit(principal in Rule::"err", action, resource);`, nil, Errored},
	{"not a rule that errs", `!err`, `permit(principal, action, resource) unless { principal in Rule::"err" };`, nil, Errored},
	{"forbidden by a rule that errs", `yes && !err`, `permit(principal, action, resource); forbid(principal in Rule::"err", action, resource);`, nil, Errored},
	{"not a rule that fails", `!no`, `permit(principal, action, resource) unless { principal in Rule::"no" };`, nil, Passed},
	{"both", `yes && counsel`, `permit(principal, action, resource) when { principal in Rule::"yes" && principal in Rule::"counsel" };`, nil, Passed},
	{"both, one fails", `yes && no`, `permit(principal, action, resource) when { principal in Rule::"yes" && principal in Rule::"no" };`, nil, Failed},
	{"either", `no || yes`, `permit(principal in Rule::"no", action, resource); permit(principal in Rule::"yes", action, resource);`, nil, Passed},
	{"but not if", `yes && !counsel`, `permit(principal in Rule::"yes", action, resource); forbid(principal in Rule::"counsel", action, resource);`, nil, Failed},
	{"a service that nobody asked", `credit`, `permit(principal in Rule::"credit", action, resource);`, nil, Errored},
	{"a service that allows", `credit`, `permit(principal in Rule::"credit", action, resource);`,
		func(f *Facts) { f.Answers = []Answer{{"credit", Passed, ""}} }, Passed},
	{"a service that does not", `credit`, `permit(principal in Rule::"credit", action, resource);`,
		func(f *Facts) { f.Answers = []Answer{{"credit", Failed, ""}} }, Failed},
	{"a service that fails", `!credit`, `permit(principal, action, resource) unless { principal in Rule::"credit" };`,
		func(f *Facts) { f.Answers = []Answer{{"credit", Errored, "time-out"}} }, Errored},
	{"no address", `!office`, `permit(principal, action, resource) unless { principal in Rule::"office" };`,
		func(f *Facts) { f.Source = netip.Addr{} }, Errored},
	{"somebody else", `counsel`, `permit(principal in Rule::"counsel", action, resource);`,
		func(f *Facts) { f.Decryptor, _ = kra.ParseDecryptor("corp:CN=bob,O=Example") }, Failed},
}

func TestEnginesAgree(t *testing.T) { // each logic obeys one contract; an error is no permission, and a service is asked for
	for _, c := range contracts {
		f := informed(t)
		if c.facts != nil {
			c.facts(&f)
		}
		for logic, text := range map[Logic]string{Rules: c.rules, Cedar: c.cedar} {
			b := compile(t, world(logic, text))
			trace, asks := b.decide([]block.KeyID{{1}}, f, workday())
			if got := trace.Lists()[0].Outcome; got != c.want || (trace.reason == 0) != (c.want == Passed) {
				t.Errorf("%s, %q: %v, %v; want %v", c.name, text, got, trace.Rules(), c.want)
			}
			if want := strings.HasSuffix(c.name, "nobody asked"); want != (len(asks) == 1) {
				t.Errorf("%s, %q: asks %q", c.name, text, asks)
			}
			if err := Replay(b, trace); err != nil {
				t.Errorf("%s, %q: %v", c.name, text, err)
			}
		}
	}
	for _, logic := range []Logic{Rules, Cedar} { // and finds mistakes when a list is defined
		for _, text := range []string{``, `nobody`, `permit(`, `permit(principal in Rule::"nobody", action, resource);`, "yes\n"} {
			var at *SyntaxError
			if _, err := Compile(1, world(logic, text), nil); !errors.As(err, &at) || at.Where != "access legal-team, list 1" {
				t.Errorf("%q, %q: %v", logic, text, err)
			}
		}
	}
	if _, err := Compile(1, world("rego", "yes"), nil); err == nil {
		t.Error("an unknown logic compiles")
	}
}

func TestCedar(t *testing.T) { // what Cedar can say beyond rules, and where it cannot know
	permit := func(when string) string { return "permit(principal, action, resource) when { " + when + " };" }
	for text, want := range map[string]Outcome{
		`permit(principal, action == Action::"release", resource == Access::"legal-team");`:    Passed,
		`permit(principal, action, resource == Access::"board");`:                              Failed,
		`permit(principal == Decryptor::"corp:CN=alice,O=Example", action, resource);`:         Passed,
		`permit(principal in Anchor::"corp", action, resource);`:                               Passed,
		`permit(principal in Anchor::"other", action, resource);`:                              Failed,
		`permit(principal in Group::"company", action, resource);`:                             Passed,
		`permit(principal in Group::"others", action, resource);`:                              Failed,
		`permit(principal in Role::"teller", action, resource);`:                               Passed,
		`permit(principal in Clearance::"secret/crypto", action, resource);`:                   Passed, // whatever down would say
		permit(`principal.name like "CN=alice,*" && principal.anchor == "corp"`):               Passed,
		permit(`principal is Decryptor && principal has name`):                                 Passed,
		permit(`context.now < datetime("2027-01-01")`):                                         Passed,
		permit(`context.source.isInRange(ip("10.20.0.0/16"))`):                                 Passed,
		permit(`context.said["corp-ldap"].attributes.department.contains("sales")`):            Passed,
		permit(`context.said["corp-ldap"].attributes.department.contains("it")`):               Failed,
		permit(`context.said["corp-ldap"].attributes.room.contains("1")`):                      Errored,
		permit(`context.said["corp-ldap"].attributes has room`):                                Failed,
		permit(`context.said["corp-ldap"].groups.contains("staff")`):                           Passed,
		permit(`context.said["corp-aa"].roles.containsAny(["auditor", "boss"])`):               Passed,
		permit(`context.said["corp-aa"].clearances.contains("secret/crypto,nato")`):            Passed,
		permit(`context.said.corp.aliases.contains("mail:alice@example.com")`):                 Passed,
		permit(`context.said["mdm-aa"].device.managed.contains("yes")`):                        Passed,
		permit(`context.said.idp.roles.contains("clerk")`):                                     Passed,
		permit(`!context.said.down.groups.contains("x")`):                                      Errored,
		permit(`principal.salary > 3`):                                                         Errored,
		permit(`true`) + ` forbid(principal, action, resource) when { principal.salary > 3 };`: Errored,
		permit(`1 + 9223372036854775807 > 0 || true`):                                          Errored,
	} {
		f := informed(t)
		if got, tr := listOutcome(t, world(Cedar, text), f); got != want {
			t.Errorf("%s = %v %v; want %v", text, got, tr.Rules(), want)
		}
	}
	untrusted := informed(t)
	untrusted.ClockTrusted = false
	stranger := informed(t)
	stranger.Channel = Reencrypted
	for text, f := range map[string]Facts{
		permit(`context.now > datetime("2000-01-01")`):        untrusted,
		permit(`!context.said.idp.roles.contains("boss")`):    untrusted,
		permit(`!context.source.isInRange(ip("10.0.0.0/8"))`): stranger,
	} {
		d := world(Cedar, text)
		d.Access[0].Delivery = ToAnyone
		if got, _ := listOutcome(t, d, f); got != Errored {
			t.Errorf("%s = %v; want an error", text, got)
		}
	}
}

func TestCedarMistakes(t *testing.T) {
	permit := func(when string) string { return "permit(principal, action, resource) when { " + when + " };" }
	for text, want := range map[string]struct{ at, message string }{
		`permit(principal in Group::"legla", action, resource);`:     {`"legla"`, "unknown group"},
		`permit(principal in Role::"x", action, resource);`:          {`"x"`, "unknown role"},
		`permit(principal in Gruop::"legal", action, resource);`:     {`"legal"`, "unknown type"},
		`permit(principal, action == Action::"read", resource);`:     {`"read"`, "unknown action"},
		`permit(principal == Decryptor::"alice", action, resource);`: {`"alice"`, "want ALIAS:NAME"},
		`permit(principal in Clearance::"ultra", action, resource);`: {`"ultra"`, "unknown level"},
		permit(`principal is Robot`):                                 {`Robot`, "unknown type"},
		`permit(principal is Robot, action, resource);`:              {`Robot`, "unknown type"},
		permit(`!(principal has suspended)`):                         {`suspended`, "never has"},
		permit(`!(resource has owner)`):                              {`owner`, "never has"},
		permit(`context has now`):                                    {`context`, "of the context"},
		permit(`context.when == 1`):                                  {`context`, "of the context"},
		permit(`context.said has corp`):                              {`context`, "of the context"},
		permit(`context.said.corp has aliases`):                      {`context`, "of the context"},
		permit(`context.said.nobody.groups.contains("x")`):           {`nobody`, "unknown authority"},
		permit(`context.said.corp.groups.contains("x")`):             {`corp`, "may not assert groups"},
		`// nothing`: {`//`, "a comment"},
		`permit(principal, action, resource); // all forbid(principal, action, resource);`: {`//`, "a comment"},
		`permit(principal, action, resource) when { "\\\"//" like "e" }; /* forbid(x); */`: {`/*`, "a comment"},
		`@note("a;//b") permit(principal, action, resource); //`:                           {``, "a comment"},
		`permit(principal, action, resource) when { 4 / 2 == 2 };`:                         {`/`, "a comment"},
		`permit(principal, action, resource`:                                               {``, ""},
		`permit(principal == ?principal, action, resource);`:                               {``, ""},
	} {
		var at *SyntaxError
		_, err := Compile(1, world(Cedar, text), nil)
		if !errors.As(err, &at) || !strings.Contains(at.Message, want.message) || want.at != "" && at.Column != strings.Index(text, want.at) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCedarLine: comments go, what is in quotes stays, and every policy of the text is in the line.
func TestCedarLine(t *testing.T) {
	const permit, forbid = `permit(principal, action, resource);`, `forbid(principal in Group::"legal", action, resource);`
	for text, want := range map[string]string{
		permit + " // everybody\n" + forbid:                            permit + " " + forbid,
		permit + "//\r\n//\r\n\t" + forbid + " // but \"legal\n":       permit + " " + forbid,
		permit + " // everybody\r" + forbid:                            permit + " " + forbid,
		`@at("https://x") ` + permit + "\n// \"\n" + forbid + "// \"":  `@at("https://x") ` + permit + " " + forbid,
		`@at("\"//\\") ` + permit + " // \\\n" + forbid:                `@at("\"//\\") ` + permit + " " + forbid,
		permit + " /* everybody // */\n" + forbid + " /* but these */": "",
		permit + " / // everybody\n" + forbid:                          "",
		permit + " @at(\"\n//\")\n" + forbid:                           "",
	} {
		line, err := CedarLine(text)
		if err == nil {
			_, err = Compile(1, world(Cedar, line), nil)
		}
		if want == "" && err == nil || want != "" && (err != nil || line != want) {
			t.Errorf("CedarLine(%q) = %q, %v; want %q", text, line, err, want)
		}
		if want == "" {
			continue
		}
		if got, tr := listOutcome(t, world(Cedar, line), informed(t)); got != Failed {
			t.Errorf("%q: %v, want that the forbid holds: %s", text, got, tr.AppendJSON(nil))
		}
	}
}
