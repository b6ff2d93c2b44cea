package kra

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
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
	const dash = "—" // begins the signature lines of a note
	start, from := len(b), 0
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n':
			b = append(append(b, s[from:i]...), `\n`...)
			from = i + 1
		case c == dash[0] && strings.HasPrefix(s[i:], dash):
			i += len(dash) - 1
		case c < ' ' || c >= 0x7f || c == '"' || c == '\\':
			text, err := encodeCanonical(s)
			if err != nil {
				panic("kra: a string has no JSON") // cannot be: encoding a string does not fail
			}
			return append(b[:start], text...)
		}
	}
	return append(append(b, s[from:]...), '"')
}
