package policy

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

func rulesDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRulesDocument holds RULES.md to the code.
func TestRulesDocument(t *testing.T) {
	text := rulesDocument(t)
	rows := regexp.MustCompile("(?m)^\\| `(.+?)` \\| (.+) \\|$").FindAllStringSubmatch(text, -1)
	if len(rows) < 15 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		cel, err := Expand(r[1])
		if err != nil {
			t.Error(err)
		}
		if cel != r[1] && "`"+strings.ReplaceAll(cel, "|", `\|`)+"`" != r[2] {
			t.Errorf("%s\nmeans %s", r[1], cel)
		}
		compiles(t, cel, "counsel")
	}
	section := map[string]string{}
	for _, part := range strings.Split(text, "\n## ") {
		title, _, _ := strings.Cut(part, "\n")
		section[title] = part
	}
	for _, line := range indented(section["What a rule can ask"]) {
		compiles(t, line, "counsel")
	}
	for _, line := range indented(section["Rule lists"]) {
		compiles(t, "true", line)
	}
	policies := indented(section["Cedar"])
	if len(policies) < 4 {
		t.Fatalf("%d lines of Cedar", len(policies))
	}
	for _, line := range policies {
		d := documented("true", line)
		d.Access[0].Logic = Cedar
		if _, err := Compile(1, d, nil); err != nil {
			t.Error(err)
		}
	}
	mistakes := indented(section["Mistakes"])
	if len(mistakes) < 22 {
		t.Fatalf("%d lines of mistakes", len(mistakes))
	}
	for i := 0; i < len(mistakes); i += 2 {
		caret, what, _ := strings.Cut(mistakes[i+1], "^ ")
		_, err := Compile(1, documented(mistakes[i], "counsel"), nil)
		var at *SyntaxError
		if !errors.As(err, &at) || at.Column != len(caret) || !strings.Contains(at.Message, what) {
			t.Errorf("%s: %v", mistakes[i], err)
		}
	}
}

// indented returns the lines of a section that are set as code.
func indented(section string) (out []string) {
	for line := range strings.SplitSeq(section, "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			out = append(out, code)
		}
	}
	return out
}

// documented is a definition with the names that RULES.md speaks of.
func documented(rule, list string) Definition {
	return Definition{
		Groups: []GroupDef{{Name: "legal"}, {Name: "board"}, {Name: "suspended"}},
		Rules:  []RuleDef{{"r", rule}, {"counsel", "true"}, {"office", "true"}, {"director", "true"}, {"auditor", "true"}},
		Roles:  []RoleDef{{"teller", []Need{{Kind: Group, Name: "legal"}}}},
		Authorities: []AuthorityDef{{"corp", []Kind{Alias}}, {"corp-aa", []Kind{Role, Clearance}}, {"corp-ldap", []Kind{Group, Attribute}},
			{"mdm-aa", []Kind{Device}}},
		Services: []string{"credit"},
		Access:   []AccessDef{{ID: "a", Lists: []string{list}}},
	}
}

func compiles(t *testing.T, rule, list string) {
	t.Helper()
	if _, err := Compile(1, documented(rule, list), nil); err != nil {
		t.Error(err)
	}
}
