package jwe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// An object is a JSON object as encoding/json has it, with numbers as they were written. No name comes twice: two readers
// of one message could otherwise see two.
type object map[string]any

var errJSON = errors.New("malformed JSON")

func parseObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON")
	}
	o, ok := v.(object)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return o, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	if depth == MaxDepth {
		return nil, errors.New("JSON is nested too deeply")
	}
	switch t {
	case json.Delim('{'):
		return parseMembers(d, depth)
	case json.Delim('['):
		out := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, closed(d)
	}
	return t, nil
}

func parseMembers(d *json.Decoder, depth int) (object, error) {
	o := object{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errJSON
		}
		name, ok := t.(string)
		if !ok {
			return nil, errJSON
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("member %.40q comes twice", name)
		}
		if o[name], err = parseValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	return o, closed(d)
}

func closed(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}

// encode writes the one form: members in the order of their names, no white space, no needless escape.
func (o object) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// text returns a member that must be a string if it is there.
func (o object) text(name string) (s string, ok bool, err error) {
	v, ok := o[name]
	if !ok {
		return "", false, nil
	}
	s, isText := v.(string)
	if !isText {
		return "", false, fmt.Errorf("member %s is not a string", name)
	}
	return s, true, nil
}

// member returns a member that must be an object if it is there.
func (o object) member(name string) (object, error) {
	v, ok := o[name]
	if !ok {
		return object{}, nil
	}
	m, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("member %s is not an object", name)
	}
	return m, nil
}
