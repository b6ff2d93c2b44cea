package block

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// The header's grammar, age-encryption.org/v1 (C2SP age.md):
//
//	age-encryption.org/v1
//	-> TYPE ARGUMENT*            words of visible ASCII, one space between
//	BODY                         base64 lines of 64, then one that is shorter
//	--- MAC                      32 bytes in base64
const (
	intro        = "age-encryption.org/v1\n"
	stanzaPrefix = "-> "
	macPrefix    = "--- "
	macSize      = 32
	columns      = 64
)

var (
	b64 = base64.RawStdEncoding.Strict()

	errNotAge    = errors.New("not an age v1 file")
	errShort     = errors.New("header is cut short")
	errLine      = errors.New("line is longer than a header may be")
	errWords     = errors.New("first line of a stanza is not words with one space between")
	errTooMany   = errors.New("header has too many stanzas")
	errTooWraps  = errors.New("header has too many stanzas of known suites")
	errNone      = errors.New("header has no stanza")
	errBase64    = errors.New("not canonical base64")
	errTrailing  = errors.New("bytes follow the header")
	errScrypt    = errors.New("scrypt stanza is not alone")
	errCanonical = errors.New("header is not in its one encoding")
)

type stanza struct {
	args []string // the type first
	body []byte
}

// lines yields the header line by line, each with its newline removed.
type lines interface{ next() (string, error) }

type parsed struct {
	stanzas []stanza
	mac     []byte
}

// parse reads the grammar and nothing after it. That there is one encoding only is
// the business of its caller, who has the bytes.
func parse(in lines) (parsed, error) {
	var p parsed
	first, err := in.next()
	if err != nil || first+"\n" != intro {
		return parsed{}, errNotAge
	}
	for {
		line, err := in.next()
		if err != nil {
			return parsed{}, err
		}
		if mac, ok := strings.CutPrefix(line, macPrefix); ok {
			p.mac, err = decode(mac)
			if err != nil || len(p.mac) != macSize {
				return parsed{}, errors.New("header MAC is not 32 bytes in base64")
			}
			if len(p.stanzas) == 0 {
				return parsed{}, errNone
			}
			return p, nil
		}
		if len(p.stanzas) == MaxStanzas {
			return parsed{}, errTooMany
		}
		s, err := parseStanza(line, in)
		if err != nil {
			return parsed{}, fmt.Errorf("stanza %d: %w", len(p.stanzas)+1, err)
		}
		p.stanzas = append(p.stanzas, s)
	}
}

func parseStanza(first string, in lines) (stanza, error) {
	words, ok := strings.CutPrefix(first, stanzaPrefix)
	if !ok {
		return stanza{}, errWords
	}
	args := strings.Split(words, " ")
	if len(args) > MaxArguments {
		return stanza{}, errWords
	}
	for _, a := range args {
		if !visible(a) {
			return stanza{}, errWords
		}
	}
	s := stanza{args: args}
	for {
		line, err := in.next()
		if err != nil {
			return stanza{}, err
		}
		b, err := decode(line)
		if err != nil || len(line) > columns {
			return stanza{}, fmt.Errorf("body: %w", errBase64)
		}
		s.body = append(s.body, b...)
		if len(line) < columns {
			return s, nil
		}
	}
}

func visible(word string) bool {
	for i := range len(word) {
		if word[i] < 33 || word[i] > 126 {
			return false
		}
	}
	return word != ""
}

// decode refuses the line breaks that encoding/base64 skips.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errBase64
	}
	b, err := b64.DecodeString(s)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// marshal writes the one encoding of what parse read.
func (p parsed) marshal() []byte {
	var b bytes.Buffer
	b.WriteString(intro)
	for _, s := range p.stanzas {
		b.WriteString(stanzaPrefix + strings.Join(s.args, " ") + "\n")
		body := b64.EncodeToString(s.body)
		for len(body) >= columns {
			b.WriteString(body[:columns] + "\n")
			body = body[columns:]
		}
		b.WriteString(body + "\n")
	}
	b.WriteString(macPrefix + b64.EncodeToString(p.mac) + "\n")
	return b.Bytes()
}
