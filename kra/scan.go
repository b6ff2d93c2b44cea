package kra

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A scanner walks the JSON of a request. encoding/json would accept a field that is repeated or written in another case,
// and take its last value: two readers of one request could then see two requests.
type scanner struct {
	rest []byte
	size int
}

func newScanner(b []byte) *scanner { return &scanner{b, len(b)} }

func (s *scanner) fail(what string) error {
	return fmt.Errorf("byte %d: %s", s.size-len(s.rest), what)
}

func (s *scanner) space() {
	s.rest = bytes.TrimLeft(s.rest, " \t\r\n")
}

// next reports whether c comes next, and takes it if so.
func (s *scanner) next(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// object calls field for each name of an object; field takes the value. A name that comes twice is refused.
func (s *scanner) object(field func(name string) error) error {
	if !s.next('{') {
		return s.fail("want an object")
	}
	seen := make([]string, 0, 4)
	for first := true; !s.next('}'); first = false {
		if !first && !s.next(',') {
			return s.fail("want , or }")
		}
		raw, err := s.raw()
		if err != nil {
			return err
		}
		name := string(raw)
		for _, n := range seen {
			if n == name {
				return s.fail("field repeated")
			}
		}
		seen = append(seen, name)
		if !s.next(':') {
			return s.fail("want :")
		}
		if err := field(name); err != nil {
			return err
		}
	}
	return nil
}

// array calls element before each element of an array; element takes the value.
func (s *scanner) array(element func() error) error {
	if !s.next('[') {
		return s.fail("want an array")
	}
	for first := true; !s.next(']'); first = false {
		if !first && !s.next(',') {
			return s.fail("want , or ]")
		}
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

// raw takes a string that has no escapes, as field names and base64 have none. The result points into the input.
func (s *scanner) raw() ([]byte, error) {
	if !s.next('"') {
		return nil, s.fail("want a string")
	}
	end := bytes.IndexByte(s.rest, '"')
	if end < 0 {
		return nil, s.fail("string has no end")
	}
	v := s.rest[:end]
	if bytes.IndexByte(v, '\\') >= 0 {
		return nil, s.fail("escape where none is needed")
	}
	s.rest = s.rest[end+1:]
	return v, nil
}

// text takes any string of at most limit bytes, as written.
func (s *scanner) text(limit int) (string, error) {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return "", s.fail("want a string")
	}
	end := 1
	for end < len(s.rest) && s.rest[end] != '"' {
		if s.rest[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s.rest) || end > limit {
		return "", s.fail("string has no end, or is too long")
	}
	lit := s.rest[:end+1]
	var v string
	if !utf8.Valid(lit) || json.Unmarshal(lit, &v) != nil {
		return "", s.fail("malformed string")
	}
	s.rest = s.rest[end+1:]
	return v, nil
}

// yes takes the one value of a flag that is there.
func (s *scanner) yes(what string) error {
	s.space()
	rest, ok := bytes.CutPrefix(s.rest, []byte("true"))
	if !ok {
		return s.fail(what + " is there and not true")
	}
	s.rest = rest
	return nil
}

// end refuses anything that follows the value.
func (s *scanner) end() error {
	s.space()
	if len(s.rest) != 0 {
		return s.fail("something follows the request")
	}
	return nil
}

var errUnknownField = errors.New("unknown field")
