package jwe

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
)

// A Head is a message without its content, parsed and unchangeable: all that an agent is sent. Only ParseHead and Read
// make one; the zero Head has no recipients.
//
//	{"protected":BASE64URL,"recipients":[{"encrypted_key":BASE64URL,"header":{…}},…],"unprotected":{…}}
//
// Headers that are empty are left out. Members that are not known are kept.
type Head struct {
	raw        []byte // the one form
	encryption string
	recipients []Recipient
}

// ParseHead parses b, which must be a head in its one form and nothing more. It keeps no reference to b.
func ParseHead(b []byte) (Head, error) {
	if len(b) > MaxHead {
		return Head{}, fmt.Errorf("parse head: %w", errTooLarge)
	}
	o, err := parseObject(b)
	if err != nil {
		return Head{}, fmt.Errorf("parse head: %w: %w", ErrNotJWE, err)
	}
	h, err := newHead(o)
	if err != nil {
		return Head{}, fmt.Errorf("parse head: %w", err)
	}
	if !bytes.Equal(h.raw, b) {
		return Head{}, fmt.Errorf("parse head: %w", errForm)
	}
	return h, nil
}

// newHead takes the head out of a message's members.
func newHead(o object) (Head, error) {
	protected, said, err := o.text("protected")
	if err != nil {
		return Head{}, err
	}
	shared := object{}
	out := object{}
	if said {
		raw, err := decode(protected)
		if err != nil {
			return Head{}, fmt.Errorf("protected header: %w", err)
		}
		if shared, err = parseObject(raw); err != nil {
			return Head{}, fmt.Errorf("protected header: %w", err)
		}
		out["protected"] = protected
	}
	unprotected, err := o.member("unprotected")
	if err != nil {
		return Head{}, err
	}
	if len(unprotected) > 0 {
		out["unprotected"] = unprotected
	}
	list, err := recipientsOf(o)
	if err != nil {
		return Head{}, err
	}
	var h Head
	var kept []any
	for i, r := range list {
		p, kept1, err := parseRecipient(r, shared, unprotected)
		if err != nil {
			return Head{}, fmt.Errorf("recipient %d: %w", i+1, err)
		}
		if i > 0 && p.enc != h.encryption {
			return Head{}, errors.New("recipients differ in the encryption of the content")
		}
		h.encryption = p.enc
		h.recipients, kept = append(h.recipients, p), append(kept, kept1)
	}
	out["recipients"] = kept
	if h.raw, err = out.encode(); err != nil {
		return Head{}, err
	}
	if len(h.raw) > MaxHead {
		return Head{}, errTooLarge
	}
	return h, nil
}

// recipientsOf returns the members of each recipient, from the general or the flattened form.
func recipientsOf(o object) ([]object, error) {
	v, general := o["recipients"]
	_, hasHeader := o["header"]
	if !general {
		r := object{}
		for _, name := range []string{"header", "encrypted_key"} {
			if v, ok := o[name]; ok {
				r[name] = v
			}
		}
		return []object{r}, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 || hasHeader {
		return nil, fmt.Errorf("%w: its recipients are malformed", ErrNotJWE)
	}
	if len(list) > MaxRecipients {
		return nil, errTooMany
	}
	var out []object
	for _, v := range list {
		r, ok := v.(object)
		if !ok {
			return nil, fmt.Errorf("%w: a recipient is not an object", ErrNotJWE)
		}
		out = append(out, r)
	}
	// go-jose repeats the first recipient's key outside; another one there would be seen by some readers only.
	if key, ok := o["encrypted_key"]; ok && key != out[0]["encrypted_key"] {
		return nil, fmt.Errorf("%w: it has recipients and an encrypted_key beside them", ErrNotJWE)
	}
	return out, nil
}

// Bytes returns the head in its one form, which ParseHead reads.
func (h Head) Bytes() []byte { return bytes.Clone(h.raw) }

// Recipients returns the encrypted keys in their order.
func (h Head) Recipients() []Recipient { return slices.Clone(h.recipients) }

// Encryption names how the content is encrypted, as the member enc does.
func (h Head) Encryption() string { return h.encryption }

// Envelope returns what a decision needs of the head. Where none of the recipients can be a key-release key, the error
// says why.
func (h Head) Envelope() (block.Envelope, error) {
	var found block.Candidates
	for _, r := range h.recipients {
		found.Add(r.wrap, r.err)
	}
	return found.Envelope(block.FormatJWE, h.raw)
}
