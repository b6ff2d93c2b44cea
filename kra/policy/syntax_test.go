package policy

import (
	"errors"
	"strings"
	"testing"

	"cel.dev/cel-go/common/ast"
)

func TestDefinitionErrors(t *testing.T) { // each mistake is found at definition, with the caret under it
	for _, tt := range []struct{ text, caret, message string }{
		{`group.has("legal")`, `^`, `unknown word "group"`},
		{`groups.has(legal)`, `           ^`, `unknown word "legal"`},
		{`groups.has("lgal")`, `           ^`, `unknown group "lgal"`},
		{`groups.has("legal") &&`, `                      ^`, `ends too soon`},
		{`groups.has("legal") & true`, `                    ^`, `unexpected "&"`},
		{`groups.has("le" + "gal")`, `                ^`, `operator + cannot stand`},
		{`clock.within("Mon-Fry 08:00-18:00 UTC")`, `             ^`, `bad days`},
		{`clock.within("Mon-Fri 08:00-18:60 UTC")`, `             ^`, `bad hours`},
		{`clock.within("Mon-Fri 8:00-18:00 UTC")`, `             ^`, `bad hours`},
		{`clock.within("Mon-Fri 08:00-08:00 UTC")`, `             ^`, `bad hours`},
		{`clock.within("Mon-Wed,Tue 08:00-09:00 UTC")`, `             ^`, `named twice`},
		{`clock.within("Mon-Fri 08:00-18:00 Europe/Berln")`, `             ^`, `unknown zone`},
		{`clock.within("Mon-Fri 08:00-18:00 Local")`, `             ^`, `unknown zone`},
		{`clock.within(id)`, `             ^`, `want a literal`},
		{`clock.before("tomorrow")`, `             ^`, `bad time`},
		{`source.net("10.20.0.0/33")`, `           ^`, `bad network`},
		{`true && source.net("10.20.1.0/16")`, `                   ^`, `write it as 10.20.0.0/16`},
		{`source.net("::ffff:10.20.0.0/112")`, `           ^`, `bad network`},
		{`id`, `^`, `must come to true or false`},
		{`id == "alice"`, `      ^`, `want ALIAS:NAME`},
		{`id == "corp:CN=alice" || id in ["corp:CN=bob, O=x"]`, `                                ^`, `no blank`},
		{`id == id`, `      ^`, `want a literal`},
		{`"corp:CN=alice" == "corp:CN=alice"`, `^`, `want id here`},
		{`1 == 1`, `^`, `want id here`},
		{`groups == groups`, `^`, `want id here`},
		{`[true, true].all(x, x)`, `^`, `unknown word`},
		{`id.matches(".*")`, `^`, `unknown word "matches"`},
		{`true ? true : false`, `     ^`, `cannot stand in a rule`},
		{"true\n", `    ^`, `cannot stand in a rule`},
		{``, `^`, `is empty`},
		{strings.Repeat("(", 40) + "true" + strings.Repeat(")", 40), `^`, `recursion limit`},
	} {
		_, err := Compile(1, one(tt.text), nil)
		var at *SyntaxError
		if !errors.As(err, &at) {
			t.Errorf("%s: %v; want a syntax error", tt.text, err)
			continue
		}
		lines := strings.Split(at.Caret(), "\n")
		if !strings.Contains(at.Message, tt.message) || len(lines) != 2 || !strings.HasPrefix(lines[1], "  "+tt.caret) && tt.caret != "^" {
			t.Errorf("%s: %v\nwant %q at\n  %s", tt.text, err, tt.message, tt.caret)
		}
	}
}

func TestListErrors(t *testing.T) {
	d := one("true")
	d.Rules = append(d.Rules, RuleDef{"s", "true"})
	for _, tt := range []struct{ text, caret, message string }{
		{`r && (s || q)`, `           ^`, `unknown rule "q"`},
		{`r & s`, `  ^`, `unexpected "&"`},
		{`r == s`, `  ^`, `want names of rules`},
		{`true`, `^`, `want the name of a rule`},
		{`at_least(3, [r, s])`, `         ^`, `from 1 to 2`},
		{`at_least(0, [r, s])`, `         ^`, `from 1 to 2`},
		{`at_least(2, [r, r])`, `                ^`, `count twice`},
		{`at_least(r)`, `        ^`, `want at_least`},
		{`r ||`, `    ^`, `ends too soon`},
		{`groups.has("legal")`, `          ^`, `want names of rules`},
	} {
		d.Access[0].Lists = []string{"r", tt.text}
		_, err := Compile(1, d, nil)
		var at *SyntaxError
		if !errors.As(err, &at) || at.Where != "access legal-team, list 2" || !strings.Contains(at.Message, tt.message) || !strings.HasSuffix(at.Caret(), "\n  "+tt.caret) {
			t.Errorf("%s: %v\nwant %q at\n  %s", tt.text, err, tt.message, tt.caret)
		}
	}
}

func TestCaretFitsTerminal(t *testing.T) {
	text := strings.Repeat("true && ", 40) + "nope" + strings.Repeat(" && true", 40)
	_, err := Compile(1, one(text), nil)
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		if n := len([]rune(line)); n > 79 {
			t.Errorf("line of %d characters: %s", n, line)
		}
	}
	lines := strings.Split(err.Error(), "\n")
	if col := strings.IndexByte(lines[2], '^'); !strings.HasPrefix(lines[1][col:], "nope") {
		t.Errorf("caret is not under the mistake:\n%s", err)
	}
}

func TestStaticCost(t *testing.T) { // what a rule may cost is known, and bounded, before anybody asks it
	for n, want := range map[int]bool{40: true, 150: false} {
		_, err := Compile(1, one(strings.TrimSuffix(strings.Repeat(`groups.has("legal") || `, n), " || ")), nil)
		if (err == nil) != want || !want && !strings.Contains(err.Error(), "at most 250") {
			t.Errorf("%d questions: %v", n, err)
		}
	}
}

func TestRuleNames(t *testing.T) {
	for _, bad := range []string{"", "R", "1a", "a-b", "in", "true", "while", "id", "clock", "at_least", "ä", "_a", strings.Repeat("a", 64)} {
		if _, err := ParseRuleName(bad); err == nil {
			t.Errorf("ParseRuleName(%q) succeeded", bad)
		}
	}
	for _, good := range []string{"a", "office_hours", "r2", strings.Repeat("a", 63)} {
		if _, err := ParseRuleName(good); err != nil {
			t.Error(err)
		}
	}
}

func TestReservedWords(t *testing.T) { // every word that CEL would not take as a variable is refused as a name
	g, err := newGrammar()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
		"namespace", "null", "package", "return", "true", "var", "void", "while"} {
		a, iss := g.Parse(word)
		if iss.Err() == nil && a.NativeRep().Expr().Kind() == ast.IdentKind {
			t.Errorf("CEL takes %q as a variable", word)
		}
		if _, err := ParseRuleName(word); err == nil {
			t.Errorf("ParseRuleName(%q) succeeded", word)
		}
	}
}

func TestExpand(t *testing.T) {
	for text, want := range map[string]string{
		`when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16`: `clock.within("Mon-Fri 08:00-18:00 Europe/Berlin") && source.net("10.20.0.0/16")`,
		`from 10.20.0.0/16,10.21.0.0/16 group legal`:                 `(source.net("10.20.0.0/16") || source.net("10.21.0.0/16")) && groups.has("legal")`,
		`id "corp:CN=a" "corp:CN=legal"`:                             `(id == "corp:CN=a" || id == "corp:CN=legal")`,
		`id == "corp:CN=a"`:                                          `id == "corp:CN=a"`,
		`id in ["corp:CN=a"]`:                                        `id in ["corp:CN=a"]`,
		`under "corp:O=x" until "2027-01-31T00:00:00Z"`:              `id.under("corp:O=x") && clock.before("2027-01-31T00:00:00Z")`,
		`groups.has("legal")`:                                        `groups.has("legal")`,
		`clearance secret/crypto,nato from 10.20.0.0/16`:             `clearance.dominates("secret/crypto,nato") && source.net("10.20.0.0/16")`,
		`role teller,auditor ask credit`:                             `(roles.has("teller") || roles.has("auditor")) && external.allows("credit")`,
	} {
		got, err := Expand(text)
		if err != nil || got != want {
			t.Errorf("Expand(%s) = %s, %v; want %s", text, got, err, want)
		}
		d := one(got)
		d.Authorities, d.Services = []AuthorityDef{{"corp-aa", []Kind{Clearance}}}, []string{"credit"}
		d.Roles = []RoleDef{{"teller", []Need{{Kind: Group, Name: "legal"}}}, {"auditor", []Need{{Kind: Group, Name: "empty"}}}}
		if _, err := Compile(1, d, nil); err != nil {
			t.Errorf("Expand(%s) does not compile: %v", text, err)
		}
	}
	for text, caret := range map[string]string{
		`when "Mon-Fri 08:00-18:00 Europe/Berln"`: `     ^`,
		`when "Mon-Fri`:            `     ^`,
		`from 10.20.0.0/16 blah`:   `                  ^`,
		`from 10.20.0.0/16,`:       `                  ^`,
		`group`:                    `     ^`,
		`group legal until "soon"`: `                  ^`,
		`under "nobody"`:           `      ^`,
		`clearance secret/b,a`:     `          ^`,
	} {
		_, err := Expand(text)
		var at *SyntaxError
		if !errors.As(err, &at) || !strings.HasSuffix(at.Caret(), "\n  "+caret) {
			t.Errorf("Expand(%s): %v\nwant the caret at\n  %s", text, err, caret)
		}
	}
}
