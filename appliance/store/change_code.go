package store

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Limits of a second factor.
const (
	minCodeSecret = 16 // bytes (RFC 4226 section 4, R6)
	maxCodeSecret = 64
	maxRecovery   = 20
)

// Codes are an officer's second factor: codes of RFC 6238, and recovery codes, which ask no clock.
type Codes struct {
	Secret   Secret   `json:"secret"`             // what authenticator and box share
	Last     uint64   `json:"last,omitempty"`     // the step of the last code that counted: none of it or before counts again
	Recovery []string `json:"recovery,omitempty"` // hashes of the recovery codes that are left, as package account makes them
}

// OfficerCodes gives somebody who has none a second factor.
type OfficerCodes struct {
	Name  string `json:"name"`
	Codes Codes  `json:"codes"`
}

func (OfficerCodes) kind() string { return "officer-codes" }

func (c OfficerCodes) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	switch n := c.Codes.Secret.size(); {
	case !ok:
		return invalid("there is no officer %.80q", c.Name)
	case o.Codes != nil:
		return invalid("officer %q has a second factor already", c.Name)
	case n < minCodeSecret || n > maxCodeSecret:
		return invalid("officer %q: a secret of %d bytes", c.Name, n)
	case len(c.Codes.Recovery) > maxRecovery:
		return invalid("officer %q: %d recovery codes", c.Name, len(c.Codes.Recovery))
	}
	for i, h := range c.Codes.Recovery {
		if b, err := hex.DecodeString(h); err != nil || len(b) != sha256.Size || slices.Contains(c.Codes.Recovery[:i], h) {
			return invalid("officer %q: a recovery code is not hashed, or there twice", c.Name)
		}
	}
	codes := c.Codes
	codes.Recovery = slices.Clone(codes.Recovery)
	o.Codes = &codes
	d.officers.put(c.Name, o)
	return nil
}

// OfficerCodeUsed has a code count no more: that of a step and all before, or else a recovery code by its hash.
type OfficerCodeUsed struct {
	Name     string `json:"name"`
	Step     uint64 `json:"step,omitempty"`
	Recovery string `json:"recovery,omitempty"`
}

func (OfficerCodeUsed) kind() string { return "officer-code-used" }

func (c OfficerCodeUsed) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	if !ok || o.Codes == nil {
		return invalid("officer %.80q has no second factor", c.Name)
	}
	codes := *o.Codes
	switch i := slices.Index(codes.Recovery, c.Recovery); {
	case (c.Step == 0) == (c.Recovery == ""):
		return invalid("officer %q: want one code that was used", c.Name)
	case c.Recovery == "" && c.Step <= codes.Last:
		return invalid("officer %q: that code was used before", c.Name)
	case c.Recovery == "":
		codes.Last = c.Step
	case i < 0:
		return invalid("officer %q: that recovery code was used before", c.Name)
	default:
		codes.Recovery = slices.Delete(slices.Clone(codes.Recovery), i, i+1)
	}
	o.Codes = &codes
	d.officers.put(c.Name, o)
	return nil
}

// OfficerCodesRemove takes somebody's second factor away.
type OfficerCodesRemove struct {
	Name string `json:"name"`
}

func (OfficerCodesRemove) kind() string { return "officer-codes-remove" }

func (c OfficerCodesRemove) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	if !ok {
		return invalid("there is no officer %.80q", c.Name)
	}
	if o.Codes == nil {
		return invalid("officer %q has no second factor", c.Name)
	}
	o.Codes = nil
	d.officers.put(c.Name, o)
	return nil
}

// AsksCodes reports whether anybody who logs in has a second factor.
func (s *State) AsksCodes() bool {
	for _, o := range s.officers.all() {
		if o.Codes != nil {
			return true
		}
	}
	return false
}
