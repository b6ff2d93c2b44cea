package console

import "github.com/keyrelease/krabox/kra"

// The commands about platforms that are decryptors.
type (
	// PlatformOwn lets platforms of the box's own domain be decryptors.
	PlatformOwn struct {
		quiet
		Alias kra.Anchor
	}
	// PlatformTrust lets platforms of another domain be decryptors; its root is pasted.
	PlatformTrust struct {
		pasted
		Alias  kra.Anchor
		Domain string
	}
	// PlatformLabel has a label of a domain count, as As, which is the label itself if it is empty. Means is the SHA-256 of the description
	// that platforms have to state; it may be empty for the own domain.
	PlatformLabel struct {
		quiet
		Alias kra.Anchor
		Label string
		As    string
		Means string
	}
	PlatformUnlabel struct {
		confirmed
		Alias kra.Anchor
		Label string
	}
	PlatformList     struct{ quiet }
	PlatformDistrust struct {
		confirmed
		Alias kra.Anchor
	}
)
