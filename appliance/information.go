package appliance

import (
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra/policy"
)

// A world is what the sources say, as the port asks it.
type world struct{ *inform.World }

// Resolve implements release.World.
func (w world) Resolve(e release.Evidence, now time.Time, trusted bool) (policy.Information, error) {
	return w.World.Resolve(inform.Presented{Chain: e.Chain, Anchor: e.Decryptor.Anchor(), Decryptor: e.Decryptor, Attributes: e.Attributes,
		Tokens: e.Tokens, TLS: e.Channel == policy.Authenticated, Note: e.Note}, now, trusted)
}
