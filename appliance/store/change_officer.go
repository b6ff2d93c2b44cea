package store

import (
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// Limits of what officers are.
const (
	MaxOfficers = 100
	maxHash     = 256
)

// OfficerAdd makes an administrator, or with a Group somebody who may maintain that group and nothing else. Hash is an
// argon2id hash in PHC form.
type OfficerAdd struct {
	Name  string `json:"name"`
	Hash  string `json:"hash"`
	Group string `json:"group,omitempty"`
}

func (OfficerAdd) kind() string { return "officer-add" }

func (c OfficerAdd) apply(d *State) error {
	switch {
	case kra.CheckName(c.Name) != nil:
		return invalid("officer %.80q: want a-z, 0-9 and '-', at most 63 of them, not '-' first", c.Name)
	case d.officers.has(c.Name):
		return invalid("officer %q exists already", c.Name)
	case d.officers.size() >= MaxOfficers:
		return invalid("there are %d officers already, which is the limit", MaxOfficers)
	case !isHash(c.Hash):
		return invalid("officer %q: the passphrase is not hashed", c.Name)
	case c.Group != "" && !d.groups.has(c.Group):
		return invalid("there is no group %.80q", c.Group)
	}
	d.officers.put(c.Name, Officer{Name: c.Name, Hash: c.Hash, Group: c.Group})
	return nil
}

// OfficerPassphrase changes a passphrase and forgets failed log-ins.
type OfficerPassphrase struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

func (OfficerPassphrase) kind() string { return "officer-passphrase" }

func (c OfficerPassphrase) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	if !ok {
		return invalid("there is no officer %.80q", c.Name)
	}
	if !isHash(c.Hash) {
		return invalid("officer %q: the passphrase is not hashed", c.Name)
	}
	d.officers.put(c.Name, Officer{Name: c.Name, Hash: c.Hash, Group: o.Group})
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
	o, ok := d.officers.get(c.Name)
	if !ok {
		return invalid("there is no officer %.80q", c.Name)
	}
	if o.Group == "" && d.administrators() == 1 {
		return invalid("officer %q is the last one: nobody could administer the box any more", c.Name)
	}
	d.officers.remove(c.Name)
	return nil
}

// administrators counts the officers who may do everything.
func (s *State) administrators() (n int) {
	for _, o := range s.officers.all() {
		if o.Group == "" {
			n++
		}
	}
	return n
}

func isHash(s string) bool { return strings.HasPrefix(s, "$argon2id$") && len(s) <= maxHash }
