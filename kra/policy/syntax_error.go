package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
)

// A SyntaxError is a mistake in a rule or a rule list, found at its definition.
type SyntaxError struct {
	Where   string // "rule office", "access legal-team, list 2"
	Text    string // the whole rule or list
	Column  int    // of the mistake, from 0, in characters
	Message string
}

// Error shows the message and, on two more lines, the text with a caret under the mistake.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s: %s\n%s", e.Where, e.Message, e.Caret())
}

// caretWindow is how much of a long text Caret shows, so that both lines fit a terminal of 80 columns.
const caretWindow = 76

// Caret returns the text and, below it, a caret under the mistake.
func (e *SyntaxError) Caret() string {
	runes := []rune(e.Text)
	col := min(max(e.Column, 0), len(runes))
	start := 0
	if len(runes) > caretWindow && col > caretWindow/2 {
		start = min(col-caretWindow/2, len(runes)-caretWindow)
	}
	shown := runes[start:min(start+caretWindow, len(runes))]
	return "  " + string(shown) + "\n  " + strings.Repeat(" ", col-start) + "^"
}

// checkText refuses what cannot be shown with a caret under it: other lines, control characters.
func checkText(where, s string) error {
	switch {
	case s == "":
		return &SyntaxError{where, s, 0, "is empty"}
	case len(s) > MaxText:
		return &SyntaxError{where, shown(s[:MaxText]), MaxText, fmt.Sprintf("is longer than %d bytes", MaxText)}
	case !utf8.ValidString(s):
		return &SyntaxError{where, shown(s), 0, "is not UTF-8"}
	}
	for i, r := range []rune(s) {
		if !unicode.IsPrint(r) {
			return &SyntaxError{where, shown(s), i, fmt.Sprintf("character %q cannot stand in a rule", r)}
		}
	}
	return nil
}

// shown is s with a question mark for each character that a terminal must not get.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, s)
}

// syntaxError turns the leftmost of CEL's issues into ours.
func syntaxError(where, text string, iss *cel.Issues) *SyntaxError {
	first := iss.Errors()[0]
	for _, e := range iss.Errors()[1:] {
		if before(e.Location, first.Location) {
			first = e
		}
	}
	return &SyntaxError{where, text, max(first.Location.Column(), 0), plain(first.Message)}
}

// plain says what CEL's parser and checker say, in fewer words.
func plain(msg string) string {
	msg, _, _ = strings.Cut(msg, "\n")
	msg = strings.TrimPrefix(msg, "Syntax error: ")
	msg = strings.ReplaceAll(msg, " (in container '')", "")
	found, _, _ := strings.Cut(msg, " expecting ")
	quoted := between(found)
	switch {
	case strings.Contains(found, "'<EOF>'"):
		return "ends too soon"
	case strings.HasPrefix(found, "mismatched input"), strings.HasPrefix(found, "extraneous input"), strings.HasPrefix(found, "no viable alternative"):
		return fmt.Sprintf("unexpected %q", quoted)
	case strings.HasPrefix(found, "token recognition error"):
		return fmt.Sprintf("unexpected %q", strings.TrimSpace(quoted))
	case strings.HasPrefix(found, "undeclared reference") && strings.Trim(quoted, "_?:@") != quoted:
		return fmt.Sprintf("operator %s cannot stand in a rule", strings.Trim(quoted, "_@"))
	case strings.HasPrefix(found, "undeclared reference"):
		return strings.Replace(found, "undeclared reference to "+"'"+quoted+"'", fmt.Sprintf("unknown word %q", quoted), 1)
	case strings.HasPrefix(found, "found no matching overload"):
		_, types, _ := strings.Cut(found, "applied to ")
		return fmt.Sprintf("%s cannot take %s", strings.Trim(quoted, "_@"), strings.Trim(types, "'"))
	}
	return msg
}

// between returns what stands between the first two single quotes.
func between(s string) string {
	_, s, _ = strings.Cut(s, "'")
	s, _, _ = strings.Cut(s, "'")
	return s
}

func before(a, b common.Location) bool {
	return a.Line() < b.Line() || a.Line() == b.Line() && a.Column() < b.Column()
}
