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
		return &SyntaxError{where, s[:MaxText], MaxText, fmt.Sprintf("is longer than %d bytes", MaxText)}
	case !utf8.ValidString(s):
		return &SyntaxError{where, strings.ToValidUTF8(s, "?"), 0, "is not UTF-8"}
	}
	for i, r := range []rune(s) {
		if !unicode.IsPrint(r) {
			return &SyntaxError{where, strings.Map(printable, s), i, fmt.Sprintf("character %q cannot stand in a rule", r)}
		}
	}
	return nil
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// syntaxError turns the first of CEL's issues into ours. Most of them are about what stands at their place; CEL's own
// words for the rest of the line only confuse.
func syntaxError(where, text string, iss *cel.Issues) *SyntaxError {
	first := iss.Errors()[0]
	for _, e := range iss.Errors()[1:] {
		if before(e.Location, first.Location) {
			first = e
		}
	}
	msg, _, _ := strings.Cut(first.Message, "\n")
	msg = strings.TrimPrefix(msg, "Syntax error: ")
	msg = strings.ReplaceAll(msg, " (in container '')", "")
	return &SyntaxError{where, text, first.Location.Column(), msg}
}

func before(a, b common.Location) bool {
	return a.Line() < b.Line() || a.Line() == b.Line() && a.Column() < b.Column()
}
