package console

// The commands of how the box opens after a restart.
type (
	BootShow struct{ quiet }
	// BootAttended has so many shares of an unlock secret open the box, beside its TPM.
	BootAttended struct {
		confirmed
		Threshold, Shares int
	}
	BootNext       struct{ quiet }
	BootShare      struct{ pasted }
	BootUnattended struct{ confirmed }
	BootRenew      struct{ confirmed }
	// Unlock takes one share of the unlock secret of a box that waits.
	Unlock struct{ pasted }
)
