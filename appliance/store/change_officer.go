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

// A Duty is what somebody administers the box for. The zero Duty is refused.
type Duty string

// The duties.
const (
	Chief       Duty = "officer"    // keys, rules and officers
	TeamOfficer Duty = "team"       // as an officer, of one team
	Operator    Duty = "operator"   // that the box runs: network, time, restarts, operators who are present
	Auditor     Duty = "auditor"    // looks at everything and changes nothing
	Backup      Duty = "backup"     // copies of the box and of its keys
	Maintainer  Duty = "maintainer" // who is in one group
)

// checkDuty returns why nobody can have a duty of this kind.
func checkDuty(d *State, duty Duty, group, team string) error {
	if (duty == TeamOfficer) != (team != "") || team != "" && kra.CheckName(team) != nil {
		return invalid("an officer of a team, and nobody else, has a team: a-z, 0-9 and '-'")
	}
	switch duty {
	case Chief, TeamOfficer, Operator, Auditor, Backup:
		if group != "" {
			return invalid("only a maintainer has a group")
		}
	case Maintainer:
		if !d.groups.has(group) {
			return invalid("there is no group %.80q", group)
		}
	default:
		return invalid("%.80q is no duty: officer, team, operator, auditor, backup or maintainer", duty)
	}
	return nil
}

// OfficerAdd makes somebody who administers the box, or a part of it. Hash is an argon2id hash in PHC form; it is Given if
// somebody else has chosen the passphrase.
type OfficerAdd struct {
	Name  string `json:"name"`
	Hash  string `json:"hash"`
	Duty  Duty   `json:"duty"`
	Group string `json:"group,omitempty"` // of a maintainer
	Team  string `json:"team,omitempty"`  // of an officer of a team
	Given bool   `json:"given,omitempty"`
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
	}
	if err := checkDuty(d, c.Duty, c.Group, c.Team); err != nil {
		return err
	}
	d.officers.put(c.Name, Officer{Name: c.Name, Hash: c.Hash, Duty: c.Duty, Group: c.Group, Team: c.Team, Given: c.Given})
	return nil
}

// OfficerDuty gives somebody another duty. There is always an officer of the box.
type OfficerDuty struct {
	Name  string `json:"name"`
	Duty  Duty   `json:"duty"`
	Group string `json:"group,omitempty"`
	Team  string `json:"team,omitempty"`
}

func (OfficerDuty) kind() string { return "officer-duty" }

func (c OfficerDuty) apply(d *State) error {
	o, ok := d.officers.get(c.Name)
	if !ok {
		return invalid("there is no officer %.80q", c.Name)
	}
	if err := checkDuty(d, c.Duty, c.Group, c.Team); err != nil {
		return err
	}
	if o.Duty == c.Duty && o.Group == c.Group && o.Team == c.Team {
		return invalid("officer %q has that duty already", c.Name)
	}
	o.Duty, o.Group, o.Team = c.Duty, c.Group, c.Team
	d.officers.put(c.Name, o)
	if d.Chiefs() == 0 {
		return lastOne(c.Name)
	}
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
	o.Hash, o.Given, o.Failures, o.Failed = c.Hash, false, 0, time.Time{}
	d.officers.put(c.Name, o)
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

// Door keeps how many log-ins failed in a row at the console, whoever was named.
type Door struct {
	Failures int `json:"failures"`
}

// ConsoleFailures sets how many log-ins failed in a row at the console.
type ConsoleFailures struct {
	Failures int `json:"failures"`
}

func (ConsoleFailures) kind() string { return "console-failures" }

func (c ConsoleFailures) apply(d *State) error {
	if c.Failures < 0 {
		return invalid("%d failures", c.Failures)
	}
	d.door.put(only, Door(c))
	return nil
}

// ConsoleFailures returns how many log-ins failed in a row at the console.
func (s *State) ConsoleFailures() int { return s.door.single().Failures }

// OfficerRemove removes somebody and what waits of them, but never the last officer of the box.
type OfficerRemove struct {
	Name string `json:"name"`
}

func (OfficerRemove) kind() string { return "officer-remove" }

func (c OfficerRemove) apply(d *State) error {
	if !d.officers.has(c.Name) {
		return invalid("there is no officer %.80q", c.Name)
	}
	d.officers.remove(c.Name)
	for key, r := range d.requests.all() {
		if r.By == c.Name { // who has the name later did not ask for it
			d.requests.remove(key)
		}
	}
	if d.Chiefs() == 0 {
		return lastOne(c.Name)
	}
	return nil
}

func lastOne(name string) error {
	return invalid("officer %q is the last one: nobody could administer the box any more", name)
}

// Chiefs counts the officers of the box.
func (s *State) Chiefs() (n int) {
	for _, o := range s.officers.all() {
		if o.Duty == Chief {
			n++
		}
	}
	return n
}

func isHash(s string) bool { return strings.HasPrefix(s, "$argon2id$") && len(s) <= maxHash }
