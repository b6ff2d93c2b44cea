package kra

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// decodeCanonical reads JSON of which one encoding only is accepted: parse, re-encode, compare. That refuses what
// encoding/json lets pass: repeated and miscased fields, white space, other escapes, other base64.
func decodeCanonical(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	again, err := encodeCanonical(v)
	if err != nil {
		return err
	}
	defer clear(again)
	if !bytes.Equal(again, data) {
		return errors.New("not the one encoding: a field is repeated, miscased or out of order, or there is white space")
	}
	return nil
}

// encodeCanonical is json.Marshal without the escapes that only HTML needs.
func encodeCanonical(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// appendString appends s as encodeCanonical writes it, fast for what PEM and signed notes consist of.
func appendString(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b = append(append(b, s[from:i]...), `\n`...)
			from = i + 1
		case c < ' ' || c == '"' || c == '\\' || c == 0x7f || c >= utf8.RuneSelf && c != 0xe2 && c != 0x80 && c != 0x94: // — is e2 80 94
			text, err := encodeCanonical(s)
			if err != nil {
				panic("kra: a string has no JSON") // cannot be: encoding a string does not fail
			}
			return append(b[:start], text...)
		}
	}
	return append(append(b, s[from:]...), '"')
}
