package console

import (
	"slices"
	"strings"
)

// Complete extends the word that line ends in as far as it is certain. all lists the possibilities if it is not. names
// returns the names that the agent has of a list, such as its rules.
func Complete(line string, m Mode, names func(list string) []string) (longer string, all []string) {
	partial, opts := options(line, m)
	word, head := partial.text, line[:partial.start]
	if freeText(opts) { // within an expression, only the name at the cursor counts
		at := strings.LastIndexFunc(line, func(r rune) bool { return !wordRune(r) }) + 1
		word, head = line[at:], line[:at]
	}
	var fits []string
	for _, w := range words(opts, names) {
		if strings.HasPrefix(w, word) && !slices.Contains(fits, w) {
			fits = append(fits, w)
		}
	}
	switch len(fits) {
	case 0:
		return line, nil
	case 1:
		return head + quote(fits[0]) + " ", nil
	}
	slices.Sort(fits)
	if common := prefix(fits); len(common) > len(word) && quote(common) == common {
		return head + common, nil
	}
	return line, fits
}

func words(opts []option, names func(string) []string) []string {
	var out []string
	for _, o := range opts {
		switch {
		case !o.kind:
			out = append(out, o.word)
		case o.names != "":
			out = append(out, names(o.names)...)
		}
	}
	return out
}

func freeText(opts []option) bool {
	return slices.ContainsFunc(opts, func(o option) bool {
		k, ok := kindOf(o.word)
		return ok && k.rest == restOfLine
	})
}

func wordRune(r rune) bool {
	return r == '_' || r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
}

func prefix(all []string) string {
	p := all[0]
	for _, s := range all[1:] {
		for !strings.HasPrefix(s, p) {
			p = p[:len(p)-1]
		}
	}
	return p
}
