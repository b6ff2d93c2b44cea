package policy

import (
	"slices"

	"github.com/keyrelease/krabox/kra/block"
)

// Others returns permission to open, where the grant's own wrap cannot be opened any more, each other wrap of the same
// envelope whose key is in the book: whoever wrapped the key for the access identifier that passed, wrapped the same key for
// those. That is so only where the format binds the wraps to the key and the key is found to be the envelope's before it is
// used: a wrap that somebody made himself, beside one that he took from elsewhere, must never open that. Of an envelope that
// is not bound, and of one that does not have the grant's wrap, there are none.
func (b *Book) Others(g Grant, e block.Envelope) []Grant {
	if b == nil || !g.valid || !e.Bound() {
		return nil
	}
	var out []Grant
	own := false
	for _, w := range b.resolve(e.Wraps()) {
		if w.KeyID() == g.KeyID() {
			own = own || w.Hash() == g.wrap.Hash()
			continue
		}
		known := func(o Grant) bool { return o.KeyID() == w.KeyID() }
		if len(b.byKey.At(w.KeyID())) > 0 && !slices.ContainsFunc(out, known) {
			out = append(out, Grant{wrap: w, access: g.access, trace: g.trace, valid: true})
		}
	}
	if !own {
		return nil
	}
	return out
}
