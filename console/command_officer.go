package console

// A Team is the name of a team of officers, which has access identifiers of its own.
type Team string

// The commands about those who administer the box.
type (
	// OfficerAdd makes somebody who administers the box. A maintainer has a Group.
	OfficerAdd struct {
		secret
		Officer Officer
		Duty    Duty
		Group   Group
		Team    Team
	}
	OfficerDuty struct {
		confirmed
		Officer Officer
		Duty    Duty
		Group   Group
		Team    Team
	}
	OfficerRemove struct {
		confirmed
		Officer Officer
	}
	// OfficerCodesRemove takes somebody else's second factor away.
	OfficerCodesRemove struct {
		confirmed
		Officer Officer
	}
)

// The commands about what teams have.
type (
	TeamList struct{ quiet }
	// TeamGive gives a team an access identifier, a rule or a group, or nobody if Team is empty.
	TeamGive struct {
		quiet
		Team  Team
		Thing string // access, rule or group
		Name  string
	}
)

// The commands about what waits for a second officer.
type (
	DualShow     struct{ quiet }
	DualOn       struct{ quiet }
	DualOff      struct{ confirmed }
	DualRulesOn  struct{ quiet }
	DualRulesOff struct{ confirmed }

	PendingList struct{ quiet }
	PendingShow struct {
		quiet
		Request uint64
	}
	Approve struct {
		confirmed
		Request uint64
	}
	Reject struct {
		quiet
		Request uint64
	}
)
