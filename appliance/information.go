package appliance

import (
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// A world is what the sources say, as the port asks it.
type world struct{ *inform.World }

// Resolve implements release.World.
func (w world) Resolve(e release.Evidence, now time.Time, trusted bool) (policy.Information, error) {
	return w.World.Resolve(inform.Presented{Chain: e.Chain, Anchor: e.Decryptor.Anchor(), Decryptor: e.Decryptor, Attributes: e.Attributes,
		Tokens: e.Tokens, TLS: e.Channel == policy.Authenticated, Note: e.Note}, now, trusted)
}

// feed says in words what became of a source that is read in the background.
func (b *board) feed(alias kra.Anchor) string {
	for _, st := range b.sources.Status() {
		if st.Alias != alias {
			continue
		}
		text := "nothing was read yet: what asks it refuses"
		if !st.Fetched.IsZero() {
			text = "read " + st.Fetched.UTC().Format(time.DateTime) + " UTC"
		}
		if !st.Until.IsZero() {
			text += ", good until " + st.Until.UTC().Format(time.DateTime) + " UTC"
		}
		if st.Err != nil {
			text = fmt.Sprintf("%s; the last try failed: %v", text, st.Err)
		}
		return text
	}
	return ""
}
