package console

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A token is one word of a line, without its quotes, and where it lies in the line.
//
// Quotes are ' and ". Nothing is escaped within them, so that RFC 4514 names keep their backslashes; a value that holds
// one of the quotes is put in the other, and adjacent pieces are one word.
type token struct {
	text       string
	start, end int
	open       byte // the quote that was not closed, or 0
}

// next returns the word that starts at or after off. ok is false if there is none.
func next(line string, off int) (t token, ok bool) {
	for off < len(line) && line[off] == ' ' {
		off++
	}
	if off == len(line) {
		return token{start: off, end: off}, false
	}
	t.start = off
	var b strings.Builder
	for ; off < len(line); off++ {
		c := line[off]
		switch {
		case t.open == 0 && c == ' ':
			t.text, t.end = b.String(), off
			return t, true
		case t.open == 0 && (c == '"' || c == '\''):
			t.open = c
		case t.open != 0 && c == t.open:
			t.open = 0
		default:
			b.WriteByte(c)
		}
	}
	t.text, t.end = b.String(), off
	return t, true
}

// quote writes a word so that next reads it back.
func quote(s string) string {
	switch {
	case s != "" && !strings.ContainsAny(s, ` '"`):
		return s
	case !strings.Contains(s, `"`):
		return `"` + s + `"`
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	}
	return `"` + strings.ReplaceAll(s, `"`, `"'"'"`) + `"`
}

// unreadable reports characters that a terminal cannot show as themselves; a command line holds none of them.
func unreadable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// clean replaces what cannot be shown, so that text from outside cannot steer the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unreadable(r) {
			return '·'
		}
		return r
	}, s)
}

// wrap sets text in lines of at most 78 columns, the first after lead and the others indented as far.
func wrap(lead, text string) string {
	const width = 78
	var b strings.Builder
	b.WriteString(lead)
	col := utf8.RuneCountInString(lead)
	indent := strings.Repeat(" ", col)
	for i, w := range strings.Fields(text) {
		n := utf8.RuneCountInString(w)
		if i > 0 && col+1+n > width {
			b.WriteString("\n" + indent)
			col = len(indent)
		} else if i > 0 {
			b.WriteByte(' ')
			col++
		}
		b.WriteString(w)
		col += n
	}
	return b.String()
}
