package kra

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A Request asks for the message keys of one or more encryption blocks. It carries each block's header and, if the asker
// likes, who it believes to be, what others say about it, and how the keys are to travel; it carries no rule and no policy,
// and there is no field for one. What others say counts only with their signatures, which this package does not look at.
type Request struct {
	headers   [][]byte
	claim     string
	presented Presented
	deliver   Delivery
}

// Presented is what a decryptor sends along about itself.
type Presented struct {
	Certificates []*x509.Certificate // leaf first: whom the answer is sealed to
	Attributes   [][]byte            // RFC 5755 attribute certificates, DER
	Tokens       []string            // JSON web tokens, compact form
}

// NewRequest makes a request for headers, which it keeps; the answer comes over the channel. claim may be empty: the
// channel says who asks.
func NewRequest(headers [][]byte, claim string) (Request, error) {
	return newRequest(Request{headers: headers, claim: claim, deliver: Delivery{to: ToChannel}})
}

// Present returns the request with what p has, which it keeps.
func (r Request) Present(p Presented) (Request, error) {
	r.presented = p
	return newRequest(r)
}

// Deliver returns the request with another way for the keys to travel.
func (r Request) Deliver(d Delivery) (Request, error) {
	if d.to == 0 {
		return Request{}, errors.New("make request: not said where to deliver to")
	}
	r.deliver = d
	return r, nil
}

func newRequest(r Request) (Request, error) {
	if len(r.headers) == 0 || len(r.headers) > MaxHeaders {
		return Request{}, fmt.Errorf("make request: %d headers, want 1 to %d", len(r.headers), MaxHeaders)
	}
	if len(r.claim) > MaxName+MaxID+1 {
		return Request{}, errors.New("make request: decryptor is too long")
	}
	for i, h := range r.headers {
		if len(h) == 0 {
			return Request{}, fmt.Errorf("make request: headers[%d] is empty", i)
		}
	}
	if err := r.presented.check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

func (p Presented) check() error {
	if len(p.Certificates) > MaxCertificates || len(p.Attributes) > MaxAttributes || len(p.Tokens) > MaxTokens {
		return fmt.Errorf("make request: at most %d certificates, %d attribute certificates and %d tokens are accepted", MaxCertificates, MaxAttributes, MaxTokens)
	}
	for i, c := range p.Certificates {
		if len(c.Raw) == 0 || len(c.Raw) > MaxCertificate {
			return fmt.Errorf("make request: certificates[%d] has %d bytes, want 1 to %d", i, len(c.Raw), MaxCertificate)
		}
	}
	for i, a := range p.Attributes {
		if len(a) == 0 || len(a) > MaxCertificate {
			return fmt.Errorf("make request: attributes[%d] has %d bytes, want 1 to %d", i, len(a), MaxCertificate)
		}
	}
	for i, t := range p.Tokens {
		if !isToken(t) {
			return fmt.Errorf("make request: tokens[%d] is no JSON web token of at most %d bytes", i, MaxToken)
		}
	}
	return nil
}

// isToken holds t to the letters of the compact form, so that it needs no escapes.
func isToken(t string) bool {
	for i := range len(t) {
		c := t[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return t != "" && len(t) <= MaxToken
}

// ParseRequest reads the body of a POST to PathRelease. It accepts JSON white space between tokens and nothing else that
// Encode does not write: no unknown, repeated or miscased field, no unpadded or multi-line base64.
func ParseRequest(body []byte) (Request, error) {
	r := Request{deliver: Delivery{to: ToChannel}}
	if len(body) > MaxBody {
		return Request{}, fmt.Errorf("parse request: %d bytes, at most %d are accepted", len(body), MaxBody)
	}
	s := newScanner(body)
	err := s.object(func(name string) error { return r.field(s, name) })
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	return newRequest(r)
}

// field takes the value of one field.
func (r *Request) field(s *scanner, name string) (err error) {
	switch name {
	case "headers":
		r.headers, err = s.blobs("headers", MaxHeaders)
	case "decryptor":
		if r.claim, err = s.text(maxJSONText); err == nil && r.claim == "" {
			err = s.fail("decryptor is empty")
		}
	case "certificates":
		r.presented.Certificates, err = scanCertificates(s)
	case "attributes":
		r.presented.Attributes, err = s.some("attributes", MaxAttributes)
	case "tokens":
		r.presented.Tokens, err = scanTokens(s)
	case "deliver":
		r.deliver, err = scanDelivery(s)
	default:
		err = s.fail(errUnknownField.Error())
	}
	return err
}

// some takes a list of base64 strings that is not empty.
func (s *scanner) some(what string, limit int) ([][]byte, error) {
	all, err := s.blobs(what, limit)
	if err == nil && len(all) == 0 {
		err = s.fail(what + " is empty")
	}
	return all, err
}

func (s *scanner) blobs(what string, limit int) ([][]byte, error) {
	all := make([][]byte, 0, 4)
	return all, s.array(func() error {
		if len(all) == limit {
			return s.fail("too many " + what)
		}
		b, err := s.blob(what)
		all = append(all, b)
		return err
	})
}

// blob takes a base64 string.
func (s *scanner) blob(what string) ([]byte, error) {
	text, err := s.raw()
	if err != nil {
		return nil, err
	}
	b, err := decodeBase64(text)
	if err != nil {
		return nil, s.fail(what + ": no padded base64")
	}
	return b, nil
}

// scanCertificates parses at the door; what crypto/x509 says of a malformed one is not repeated to a stranger.
func scanCertificates(s *scanner) ([]*x509.Certificate, error) {
	raw, err := s.some("certificates", MaxCertificates)
	if err != nil {
		return nil, err
	}
	all := make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		if len(der) > MaxCertificate {
			return nil, s.fail("certificate is too long")
		}
		if all[i], err = x509.ParseCertificate(der); err != nil || !bytes.Equal(all[i].Raw, der) {
			return nil, s.fail("certificate is malformed")
		}
		if err := CheckCertificateKey(all[i]); err != nil { // anybody may have these verified
			return nil, s.fail("certificate: " + err.Error())
		}
	}
	return all, nil
}

func scanTokens(s *scanner) ([]string, error) {
	var all []string
	err := s.array(func() error {
		if len(all) == MaxTokens {
			return s.fail("too many tokens")
		}
		text, err := s.raw()
		all = append(all, string(text))
		return err
	})
	if err == nil && len(all) == 0 {
		err = s.fail("tokens is empty")
	}
	return all, err
}

func scanDelivery(s *scanner) (Delivery, error) {
	var to To
	var spki, signature []byte
	inside := false
	err := s.object(func(name string) (err error) {
		switch name {
		case "to":
			text, err := s.raw()
			if err != nil {
				return err
			}
			if to, err = ParseTo(string(text)); err != nil {
				return s.fail("deliver to is none of channel, certificate, key")
			}
			return nil
		case "key":
			spki, err = s.blob("delivery key")
		case "signature":
			signature, err = s.blob("signature")
		case "inside":
			inside, err = true, s.yes("inside")
		default:
			err = s.fail(errUnknownField.Error())
		}
		return err
	})
	switch {
	case err != nil:
		return Delivery{}, err
	case inside && to != ToCertificate:
		return Delivery{}, s.fail("inside goes with a certificate only")
	case to == ToKey:
		d, err := signedDelivery(spki, signature)
		if err != nil {
			return Delivery{}, s.fail(err.Error())
		}
		return d, nil
	case to == 0 || spki != nil || signature != nil:
		return Delivery{}, s.fail("deliver has no to, or a key that is not used")
	}
	return Delivery{to: to, inside: inside}, nil
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

// Presented returns what the asker sent along. The caller must not write to it.
func (r Request) Presented() Presented { return r.presented }

// Delivery returns how the keys are to travel.
func (r Request) Delivery() Delivery { return r.deliver }

// Encode returns the request's JSON.
func (r Request) Encode() []byte {
	b := appendBlobs([]byte(`{"headers":`), r.headers)
	if r.claim != "" {
		text, err := json.Marshal(r.claim)
		if err != nil {
			panic("kra: a string has no JSON") // cannot be: Marshal of a string does not fail
		}
		b = append(append(b, `,"decryptor":`...), text...)
	}
	if p := r.presented; len(p.Certificates) > 0 {
		raw := make([][]byte, len(p.Certificates))
		for i, c := range p.Certificates {
			raw[i] = c.Raw
		}
		b = appendBlobs(append(b, `,"certificates":`...), raw)
	}
	if p := r.presented; len(p.Attributes) > 0 {
		b = appendBlobs(append(b, `,"attributes":`...), p.Attributes)
	}
	if p := r.presented; len(p.Tokens) > 0 {
		b = append(append(append(b, `,"tokens":["`...), strings.Join(p.Tokens, `","`)...), `"]`...)
	}
	if r.deliver.to != ToChannel {
		b = append(append(append(b, `,"deliver":{"to":"`...), r.deliver.to.String()...), '"')
		if r.deliver.to == ToKey {
			b = append(base64.StdEncoding.AppendEncode(append(b, `,"key":"`...), r.deliver.spki), '"')
			b = append(base64.StdEncoding.AppendEncode(append(b, `,"signature":"`...), r.deliver.signature), '"')
		}
		if r.deliver.inside {
			b = append(b, `,"inside":true`...)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendBlobs(b []byte, all [][]byte) []byte {
	b = append(b, '[')
	for i, x := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(base64.StdEncoding.AppendEncode(append(b, '"'), x), '"')
	}
	return append(b, ']')
}
