package console

import "time"

// A Label is the name of a label of the box.
type Label string

// The commands about operators who are present, and about the epoch.
type (
	// OperatorPresent takes the box's presence passphrase.
	OperatorPresent struct {
		secret
		Label Label
		For   time.Duration // zero: as long as can be
	}
	// OperatorChallenge prints what an operator's token is to sign.
	OperatorChallenge struct {
		quiet
		Label Label
		For   time.Duration
	}
	OperatorAnswer struct{ pasted }
	OperatorLeave  struct {
		quiet
		Label Label
	}
	EpochAdvance struct{ confirmed }
)
