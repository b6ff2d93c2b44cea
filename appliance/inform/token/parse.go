package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// A parsed token is what it looks like. Nothing of it is proved.
type parsed struct {
	header header
	claims claims
}

type header struct {
	alg   jose.SignatureAlgorithm
	kid   string
	named bool // there is a kid
}

type claims map[string]any

var (
	errForm   = errors.New("token is no signed JSON web token in compact form")
	errHeader = errors.New("token has a header that is not understood")
)

// parse reads the compact form (RFC 7515 section 7.1), each part in the one encoding that it has.
func parse(token string) (parsed, error) {
	if len(token) > maxToken {
		return parsed{}, fmt.Errorf("token is longer than %d bytes", maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[0]) > maxHeader {
		return parsed{}, errForm
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil || len(raw[i]) == 0 || strings.ContainsAny(p, "\r\n") {
			return parsed{}, errForm
		}
	}
	h, err := parseHeader(raw[0])
	if err != nil {
		return parsed{}, err
	}
	c, err := object(raw[1])
	if err != nil {
		return parsed{}, fmt.Errorf("read claims: %w", err)
	}
	return parsed{h, c}, nil
}

// parseHeader refuses what would make a token mean something else than its claims: critical extensions, a payload that is
// a token itself, encryption, compression.
func parseHeader(raw []byte) (header, error) {
	o, err := object(raw)
	if err != nil {
		return header{}, fmt.Errorf("read header: %w", err)
	}
	for _, name := range []string{"crit", "b64", "enc", "zip", "cty", "epk", "p2c"} {
		if _, ok := o[name]; ok {
			return header{}, fmt.Errorf("%w: %s", errHeader, name)
		}
	}
	var h header
	alg, _ := o["alg"].(string)
	if h.alg = jose.SignatureAlgorithm(alg); !slices.Contains(algorithms, h.alg) {
		return header{}, fmt.Errorf("%w: algorithm %.20q", errHeader, alg)
	}
	if typ, ok := o["typ"]; ok && !isType(typ) {
		return header{}, fmt.Errorf("%w: typ", errHeader)
	}
	if kid, ok := o["kid"]; ok {
		if h.kid, h.named = kid.(string); !h.named {
			return header{}, fmt.Errorf("%w: kid", errHeader)
		}
	}
	return h, nil
}

// isType accepts tokens (RFC 7519 section 5.1) and access tokens (RFC 9068 section 2.1).
func isType(typ any) bool {
	text, ok := typ.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return ok && (text == "jwt" || text == "at+jwt")
}

// object reads one JSON object in which no name is repeated, at any depth.
func object(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("no UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if _, end := d.Token(); !ok || end != io.EOF {
		return nil, errors.New("want one object")
	}
	return o, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, nested := t.(json.Delim)
	if !nested {
		return t, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	var list []any
	fields := map[string]any{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			text, _ := name.(string) // the decoder knows no other names
			if _, twice := fields[text]; twice {
				return nil, fmt.Errorf("%.40q is repeated", text)
			}
			if fields[text], err = value(d, depth+1); err != nil {
				return nil, err
			}
			continue
		}
		v, err := value(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if _, err := d.Token(); err != nil { // what closes it
		return nil, err
	}
	if open == '{' {
		return fields, nil
	}
	return list, nil
}

// text returns a claim that is a text, or "".
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// listed reports whether a claim is the text, or a list of texts with it.
func (c claims) listed(name, want string) bool {
	if list, ok := c[name].([]any); ok {
		return slices.Contains(list, any(want))
	}
	return c[name] == any(want)
}

// time reads a NumericDate (RFC 7519 section 2).
func (c claims) time(name string) (at time.Time, there bool, err error) {
	v, there := c[name]
	if !there {
		return at, false, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return at, true, fmt.Errorf("claim %s is no time", name)
	}
	seconds, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || !(seconds >= 1 && seconds <= latest-skew.Seconds()) {
		return at, true, fmt.Errorf("claim %s is no time", name)
	}
	return time.Unix(int64(math.Floor(seconds)), 0).UTC(), true, nil
}

func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}
