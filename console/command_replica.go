package console

import "github.com/keyrelease/krabox/kra"

// A Box is the name of another box.
type Box string

// The commands that carry copies of keys from box to box.
type (
	ReplicaRequest struct{ quiet }
	ReplicaAdmit   struct {
		pasted
		Box Box
	}
	// ReplicaSend prints copies of the keys of access identifiers, or of all if it names none.
	ReplicaSend struct {
		confirmed
		Box    Box
		Access []kra.AccessID
	}
	ReplicaReceive struct {
		pasted
		Box Box
	}
	ReplicaList    struct{ quiet }
	ReplicaDismiss struct {
		confirmed
		Box Box
	}
)
