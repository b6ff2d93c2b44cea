package store

import (
	"strings"
	"time"
)

// Limits of what officers are.
const (
	MaxOfficers = 100
	maxHash     = 256
)

// OfficerAdd makes an administrator. Hash is an argon2id hash in PHC form.
type OfficerAdd struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

func (OfficerAdd) kind() string { return "officer-add" }

func (c OfficerAdd) apply(d *State) error {
	switch {
	case !isName(c.Name):
		return invalid("officer %.80q: want a-z, 0-9 and '-', at most 63 of them, not '-' first", c.Name)
	case d.officers.has(c.Name):
		return invalid("officer %q exists already", c.Name)
	case d.officers.size() >= MaxOfficers:
		return invalid("there are %d officers already, which is the limit", MaxOfficers)
	case !isHash(c.Hash):
		return invalid("officer %q: the passphrase is not hashed", c.Name)
	}
	d.officers.put(c.Name, Officer{Name: c.Name, Hash: c.Hash})
	return nil
}

// OfficerPassphrase changes a passphrase and forgets failed log-ins.
type OfficerPassphrase struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

func (OfficerPassphrase) kind() string { return "officer-passphrase" }

func (c OfficerPassphrase) apply(d *State) error {
	if !d.officers.has(c.Name) {
		return invalid("there is no officer %.80q", c.Name)
	}
	if !isHash(c.Hash) {
		return invalid("officer %q: the passphrase is not hashed", c.Name)
	}
	d.officers.put(c.Name, Officer{Name: c.Name, Hash: c.Hash})
	return nil
}

// OfficerFailures sets how many log-ins failed in a row, and when the last of them did.
type OfficerFailures struct {
	Name     string    `json:"name"`
	Failures int       `json:"failures"`
	Failed   time.Time `json:"failed,omitzero"`
}

func (OfficerFailures) kind() string { return "officer-failures" }

func (c OfficerFailures) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	if !ok {
		return invalid("there is no officer %.80q", c.Name)
	}
	if c.Failures < 0 {
		return invalid("officer %q: %d failures", c.Name, c.Failures)
	}
	o.Failures, o.Failed = c.Failures, c.Failed.UTC()
	d.officers.put(c.Name, o)
	return nil
}

// OfficerRemove removes an administrator, but never the last.
type OfficerRemove struct {
	Name string `json:"name"`
}

func (OfficerRemove) kind() string { return "officer-remove" }

func (c OfficerRemove) apply(d *State) error {
	if !d.officers.has(c.Name) {
		return invalid("there is no officer %.80q", c.Name)
	}
	if d.officers.size() == 1 {
		return invalid("officer %q is the last one: nobody could log in any more", c.Name)
	}
	d.officers.remove(c.Name)
	return nil
}

func isHash(s string) bool { return strings.HasPrefix(s, "$argon2id$") && len(s) <= maxHash }

// isName accepts [a-z0-9][a-z0-9-]{0,62}, the form of names of officers, groups and boxes.
func isName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}
