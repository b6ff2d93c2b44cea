package kra

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// MaxValue is how long a value for an external service may be, in bytes.
const MaxValue = 4 << 10

// valueToken is what such a value begins with where it travels among tokens. A JSON web token begins otherwise.
const valueToken = "kra-value."

// ValueToken returns the form in which a decryptor presents a value to one external service: a voucher, a password, an
// agreement to pay. The agent gives it to that service only, and only if a rule asks the service.
func ValueToken(service string, value []byte) (string, error) {
	if service == "" || strings.Contains(service, ".") || len(value) == 0 || len(value) > MaxValue {
		return "", fmt.Errorf("present value: want a service and 1 to %d bytes", MaxValue)
	}
	t := valueToken + service + "." + base64.RawURLEncoding.EncodeToString(value)
	if !isToken(t) {
		return "", errors.New("present value: malformed name of a service")
	}
	return t, nil
}

// Value returns what is presented to an external service, if there is exactly one such value.
func (p Presented) Value(service string) ([]byte, bool) {
	var value []byte
	for _, t := range p.Tokens {
		text, ok := strings.CutPrefix(t, valueToken+service+".")
		if !ok {
			continue
		}
		b, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(b) == 0 || len(b) > MaxValue || value != nil {
			return nil, false
		}
		value = b
	}
	return value, value != nil
}

// Statements returns the tokens that say something about the decryptor: all but values for services.
func (p Presented) Statements() []string {
	var out []string
	for _, t := range p.Tokens {
		if !strings.HasPrefix(t, valueToken) {
			out = append(out, t)
		}
	}
	return out
}
