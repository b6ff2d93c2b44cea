package console

import "time"

// The commands about what the domain permits, and where the box advertises.
type (
	// BoardAdd names the domain's board; over https the authority of its server is pasted.
	BoardAdd struct {
		pasted
		URL          string
		Every, Limit time.Duration // zero: the usual
	}
	BoardShow   struct{ quiet }
	BoardRemove struct{ confirmed }
	// BoardInstall takes permissions that the desk made.
	BoardInstall struct{ pasted }
)
