package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var errCedarOpen = errors.New("a text in quotes is not closed on its line")

// CedarLine makes one line of the text of Cedar policies, without its // comments: on one line such a comment would swallow
// every policy after it.
func CedarLine(text string) (string, error) {
	var kept []string
	for l := range strings.SplitSeq(strings.ReplaceAll(text, "\r", "\n"), "\n") {
		at, open := slash(l)
		if open {
			return "", errCedarOpen
		}
		if at >= 0 && strings.HasPrefix(l[at:], "//") {
			l = l[:at]
		}
		if l = strings.Trim(l, " \t"); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, " "), nil
}

// slash returns where the first slash is that is not in quotes, or -1; and whether quotes are left open.
func slash(line string) (at int, open bool) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			open = !open
		case c == '\\' && open:
			i++
		case c == '/' && !open:
			return i, false
		}
	}
	return -1, open
}

// noComment refuses comments of either form. A slash outside quotes is nothing else in Cedar.
func noComment(where, text string) error {
	at, _ := slash(text)
	if at < 0 {
		return nil
	}
	return &SyntaxError{where, text, utf8.RuneCountInString(text[:at]), "a comment cannot stand in a list, nor anything else that begins with a slash"}
}
