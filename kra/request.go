package kra

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// A Request asks for the message keys of one or more encryption blocks. It carries each block's header and, if the asker
// likes, who it believes to be; it carries no rule and no policy, and there is no field for one.
type Request struct {
	headers [][]byte
	claim   string
}

// NewRequest makes a request for headers, which it keeps. claim may be empty: the channel says who asks.
func NewRequest(headers [][]byte, claim string) (Request, error) {
	if len(headers) == 0 || len(headers) > MaxHeaders {
		return Request{}, fmt.Errorf("make request: %d headers, want 1 to %d", len(headers), MaxHeaders)
	}
	if len(claim) > MaxName+MaxID+1 {
		return Request{}, errors.New("make request: decryptor is too long")
	}
	for i, h := range headers {
		if len(h) == 0 {
			return Request{}, fmt.Errorf("make request: headers[%d] is empty", i)
		}
	}
	return Request{headers, claim}, nil
}

// ParseRequest reads the body of a POST to PathRelease. It accepts JSON white space between tokens and nothing else that
// Encode does not write: no unknown, repeated or miscased field, no unpadded or multi-line base64.
func ParseRequest(body []byte) (Request, error) {
	var headers [][]byte
	var claim string
	if len(body) > MaxBody {
		return Request{}, fmt.Errorf("parse request: %d bytes, at most %d are accepted", len(body), MaxBody)
	}
	s := newScanner(body)
	err := s.object(func(name string) (err error) {
		switch name {
		case "headers":
			headers, err = scanHeaders(s)
			return err
		case "decryptor":
			if claim, err = s.text(maxJSONText); err == nil && claim == "" {
				err = s.fail("decryptor is empty")
			}
			return err
		}
		return s.fail(errUnknownField.Error())
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	return NewRequest(headers, claim)
}

func scanHeaders(s *scanner) ([][]byte, error) {
	headers := make([][]byte, 0, 4)
	return headers, s.array(func() error {
		if len(headers) == MaxHeaders {
			return s.fail("too many headers")
		}
		text, err := s.raw()
		if err != nil {
			return err
		}
		h, err := decodeBase64(text)
		if err != nil {
			return s.fail("header is no padded base64")
		}
		headers = append(headers, h)
		return nil
	})
}

// decodeBase64 accepts the one standard, padded encoding; encoding/base64 would skip line ends.
func decodeBase64(text []byte) ([]byte, error) {
	for _, c := range text {
		if c == '\n' || c == '\r' {
			return nil, errors.New("line end in base64")
		}
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(b, text)
	return b[:n], err
}

// Headers returns the headers, in the order of the results to come. The caller must not write to them.
func (r Request) Headers() [][]byte { return r.headers }

// Claim returns who the asker says to be, or "".
func (r Request) Claim() string { return r.claim }

// Encode returns the request's JSON.
func (r Request) Encode() []byte {
	b := []byte(`{"headers":[`)
	for i, h := range r.headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, h)
		b = append(b, '"')
	}
	b = append(b, ']')
	if r.claim != "" {
		text, err := json.Marshal(r.claim)
		if err != nil {
			panic("kra: a string has no JSON") // cannot be: Marshal of a string does not fail
		}
		b = append(b, `,"decryptor":`...)
		b = append(b, text...)
	}
	return append(b, '}')
}
