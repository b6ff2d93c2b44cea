package policy

import (
	"strconv"
	"strings"
)

// Expand returns the CEL text of a rule that may be written in the short form of the console:
//
//	when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16
//	group legal,board until "2027-01-31T00:00:00Z"
//	id "corp:CN=alice,O=Example" "corp:CN=bob,O=Example"
//	role teller clearance secret/crypto ask credit
//
// Clauses are joined by &&, the values of a clause by ||. A text that does not begin with a clause is CEL already and
// comes back as it is. A mistake is a *SyntaxError with its caret in the short form.
func Expand(text string) (string, error) {
	if err := checkText("rule", text); err != nil {
		return "", err
	}
	s := &sugar{text: []rune(text)}
	if !s.begins() {
		return text, nil
	}
	var clauses []string
	for s.space(); s.at < len(s.text); s.space() {
		c, err := s.clause()
		if err != nil {
			return "", err
		}
		clauses = append(clauses, c)
	}
	return strings.Join(clauses, " && "), nil
}

// A sugar reads the short form. at is where it is, in characters.
type sugar struct {
	text []rune
	at   int
}

// begins reports whether the text is in the short form. "id" begins CEL too, but there no string can follow it.
func (s *sugar) begins() bool {
	word, rest, _ := strings.Cut(strings.TrimLeft(string(s.text), " "), " ")
	if word == wordID {
		return strings.HasPrefix(strings.TrimLeft(rest, " "), `"`)
	}
	return clauseOf(word) != nil
}

// clauseOf returns how one value of a clause is written in CEL, or nil if the word begins no clause.
func clauseOf(word string) func(value string) string {
	call := func(head string) func(string) string {
		return func(v string) string { return head + "(" + strconv.Quote(v) + ")" }
	}
	switch word {
	case "when":
		return call(wordClock + "." + fnWithin)
	case "until":
		return call(wordClock + "." + fnBefore)
	case "after":
		return call(wordClock + "." + fnAfter)
	case "from":
		return call(wordSource + "." + fnNet)
	case "group":
		return call(wordGroups + "." + fnHas)
	case "role":
		return call(wordRoles + "." + fnHas)
	case wordClearance:
		return call(wordClearance + "." + fnDominates)
	case "ask":
		return call(wordExternal + "." + fnAllows)
	case "under":
		return call(wordID + "." + fnUnder)
	case wordPlatform:
		return func(v string) string { return platformLabel + " == " + strconv.Quote(v) }
	case wordID:
		return func(v string) string { return wordID + " == " + strconv.Quote(v) }
	}
	return nil
}

// checkOf is what a value of the clause must stand.
func checkOf(word, value string) error {
	switch word {
	case "when":
		_, err := parseWindow(value)
		return err
	case "until", "after":
		_, err := parseInstant(value)
		return err
	case "from":
		_, err := parseNet(value)
		return err
	case "group":
		_, err := ParseGroupName(value)
		return err
	case "role":
		_, err := ParseRoleName(value)
		return err
	case wordClearance:
		_, err := parseClearance(value)
		return err
	case "ask":
		_, err := ParseService(value)
		return err
	case "under":
		return checkBase(value)
	case wordPlatform:
		return checkPlatform(platformLabel, value)
	}
	return checkIdentity(value)
}

func (s *sugar) fail(at int, msg string) error {
	return &SyntaxError{"rule", string(s.text), at, msg}
}

func (s *sugar) space() {
	for s.at < len(s.text) && s.text[s.at] == ' ' {
		s.at++
	}
}

// clause reads one clause: its word and one value or more.
func (s *sugar) clause() (string, error) {
	start := s.at
	word := s.word(" ,\"")
	write, ends := clauseOf(word), " ,\""
	if word == wordClearance {
		ends = " \"" // a comma is part of it
	}
	if write == nil {
		return "", s.fail(start, "want when, from, group, role, clearance, ask, platform, id, under, until or after")
	}
	var values []string
	for {
		s.space()
		if s.at == len(s.text) {
			return "", s.fail(s.at, "ends too soon: want a value after "+word)
		}
		at := s.at
		v, err := s.value(ends)
		if err != nil {
			return "", err
		}
		if err := checkOf(word, v); err != nil {
			return "", s.fail(at, err.Error())
		}
		values = append(values, write(v))
		if s.space(); !s.more() {
			break
		}
	}
	if len(values) == 1 {
		return values[0], nil
	}
	return "(" + strings.Join(values, " || ") + ")", nil
}

// more reports whether another value of the same clause follows, and takes the comma before it.
func (s *sugar) more() bool {
	if s.at == len(s.text) {
		return false
	}
	if s.text[s.at] == ',' {
		s.at++
		return true
	}
	return s.text[s.at] == '"'
}

// value reads a quoted string or a word.
func (s *sugar) value(ends string) (string, error) {
	if s.text[s.at] != '"' {
		return s.word(ends), nil
	}
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			v, err := strconv.Unquote(string(s.text[start:s.at]))
			if err != nil {
				return "", s.fail(start, "malformed string")
			}
			return v, nil
		}
	}
	return "", s.fail(start, "string has no end")
}

// word reads up to one of the characters that end it.
func (s *sugar) word(ends string) string {
	start := s.at
	for s.at < len(s.text) && !strings.ContainsRune(ends, s.text[s.at]) {
		s.at++
	}
	return string(s.text[start:s.at])
}
