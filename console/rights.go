package console

import "strings"

// A Duty is what somebody administers the box for. The zero Duty may do nothing.
type Duty string

// The duties.
const (
	DutyOfficer    Duty = "officer"
	DutyTeam       Duty = "team" // an officer of one team
	DutyOperator   Duty = "operator"
	DutyAuditor    Duty = "auditor"
	DutyBackup     Duty = "backup"
	DutyMaintainer Duty = "maintainer"
)

// Rights are who may run a command, and whether that waits for a second officer. The zero Rights are nobody's.
type Rights uint16

const (
	byOfficer Rights = 1 << iota
	byTeam
	byOperator
	byAuditor
	byBackup
	byMaintainer
	second         // it weakens or destroys
	secondForRules // it changes who gets keys

	inService = byOfficer | byTeam | byOperator | byAuditor | byBackup
	everybody = inService | byMaintainer
)

// duties are all of them, each with its right.
var duties = []struct {
	duty  Duty
	right Rights
	help  string
}{
	{DutyOfficer, byOfficer, "officers"},
	{DutyTeam, byTeam, "officers of teams"},
	{DutyOperator, byOperator, "operators"},
	{DutyAuditor, byAuditor, "auditors"},
	{DutyBackup, byBackup, "backup"},
	{DutyMaintainer, byMaintainer, "maintainers"},
}

// Duties returns all duties.
func Duties() (all []Duty) {
	for _, d := range duties {
		all = append(all, d.duty)
	}
	return all
}

// Has reports whether somebody with a duty may run it.
func (r Rights) Has(d Duty) bool {
	for _, x := range duties {
		if x.duty == d {
			return r&x.right != 0
		}
	}
	return false
}

// Second reports whether it waits for a second officer while dual control is on, which may include rules.
func (r Rights) Second(rules bool) bool { return r&second != 0 || rules && r&secondForRules != 0 }

// String is who may run it, in words.
func (r Rights) String() string {
	var who []string
	for _, x := range duties {
		if r&x.right != 0 {
			who = append(who, x.help)
		}
	}
	text := strings.Join(who, ", ")
	switch {
	case r&everybody == everybody:
		text = "everybody"
	case text == "":
		text = "nobody"
	}
	switch {
	case r&second != 0:
		text += "; waits for a second officer"
	case r&secondForRules != 0:
		text += "; waits for a second officer if rules do"
	}
	return text
}
