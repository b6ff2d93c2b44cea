package console

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated part of MANUAL.md")

const (
	manualBegin = "<!-- commands: written by go test ./console -update -->\n"
	manualEnd   = "<!-- end of commands -->\n"
)

// manual is the part of MANUAL.md that the table makes.
func manual() string {
	var b strings.Builder
	where := map[string]string{"": "", "fm": " (also factory, and in maintenance)", "flm": " (also factory, locked, and in maintenance)",
		"flma": " (also factory, locked, in maintenance, and attended)", "a": " (attended only)"}
	b.WriteString("| command | what it does | who |\n|---|---|---|\n")
	for _, r := range table {
		b.WriteString("| `" + strings.ReplaceAll(r.form, "|", `\|`) + "` | " + strings.ReplaceAll(r.help, "|", `\|`) + where[r.modes])
		switch r.make(args{}).Ask() {
		case AskConfirm:
			b.WriteString("; asks first")
		case AskPaste:
			b.WriteString("; asks for a paste")
		case AskSecret:
			b.WriteString("; asks for passphrases")
		}
		b.WriteString(" | " + r.by.String() + " |\n")
	}
	b.WriteString("\n| word | what it is |\n|---|---|\n")
	for _, k := range kinds {
		b.WriteString("| " + k.name + " | " + strings.ReplaceAll(k.help, "|", `\|`) + " |\n")
	}
	return b.String()
}

// TestManual holds MANUAL.md to the table, and its examples to the grammar.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("MANUAL.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), manualBegin)
	_, after, ok2 := strings.Cut(rest, manualEnd)
	if !ok || !ok2 {
		t.Fatal("MANUAL.md has no place for the commands")
	}
	want := before + manualBegin + manual() + manualEnd + after
	if *update {
		if err := os.WriteFile("MANUAL.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Error("MANUAL.md is not what the table says: go test ./console -update")
	}
	examples := 0
	for line := range strings.SplitSeq(before, "\n") {
		prompt, cmd, ok := strings.Cut(line, "> ")
		if !strings.HasPrefix(line, "    ") || !ok || strings.ContainsAny(strings.TrimSpace(prompt), " $") {
			if cmd, ok = strings.CutPrefix(line, "    rule add "); !ok {
				continue
			}
			cmd = "rule add " + cmd
		}
		cmd = strings.Replace(cmd, "NOW", "2026-11-21T09:30:00Z", 1)
		cmd = strings.Replace(cmd, "ROOT", strings.Repeat("0a", 32), 1)
		cmd, _, _ = strings.Cut(cmd, "   ")
		examples++
		if c, err := Parse(cmd); err != nil || c == (Nothing{}) {
			t.Errorf("MANUAL.md shows %q: %v", cmd, err)
		}
	}
	if examples < 13 {
		t.Errorf("MANUAL.md shows %d examples, want at least 13", examples)
	}
	for _, line := range strings.Split(before, "\n") {
		if len([]rune(line)) > 132 {
			t.Errorf("MANUAL.md: a line of %d columns", len([]rune(line)))
		}
	}
}

// TestKindsAreUsed: no kind is left that no form has.
func TestKindsAreUsed(t *testing.T) {
	for _, k := range kinds {
		if !slices.ContainsFunc(table, func(r row) bool {
			return slices.Contains(strings.FieldsFunc(r.form, func(c rune) bool { return strings.ContainsRune(" []|", c) }), k.name)
		}) {
			t.Errorf("no command has a %s", k.name)
		}
	}
}
