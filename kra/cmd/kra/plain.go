package main

import (
	"strings"
	"unicode"
)

// plain makes text that came from elsewhere safe for a terminal: a title or a file's
// name must not move the cursor or change what was printed before.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
