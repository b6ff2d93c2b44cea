package appliance

import (
	"encoding/pem"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// published are the current, certified keys of a state. Certificates become text when somebody asks for them.
type published struct{ state *store.State }

func (p published) PublicKey(id kra.AccessID) (kra.PublicKey, bool) {
	a, ok := p.state.Access(id)
	if !ok {
		return kra.PublicKey{}, false
	}
	return p.of(a)
}

func (p published) PublicKeys() []kra.PublicKey {
	all := p.state.Accesses()
	out := make([]kra.PublicKey, 0, len(all))
	for _, a := range all {
		if k, ok := p.of(a); ok {
			out = append(out, k)
		}
	}
	return out
}

func (p published) of(a store.Access) (kra.PublicKey, bool) {
	if len(a.Keys) == 0 {
		return kra.PublicKey{}, false
	}
	k, ok := p.state.Key(a.Keys[0])
	chain := p.state.Certificate(a.ID, a.Keys[0])
	if !ok || len(chain) == 0 {
		return kra.PublicKey{}, false
	}
	pub, err := block.ParsePublicKey(k.SPKI)
	if err != nil {
		return kra.PublicKey{}, false // cannot be: the token made it
	}
	entry, err := kra.NewPublicKey(a.ID, a.Title, pub, pemChain(chain))
	return entry, err == nil
}

func pemChain(chain [][]byte) string {
	var out []byte
	for _, der := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(out)
}
