package appliance

import (
	"encoding/pem"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
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
	return kra.PublicKey{Access: a.ID, Title: a.Title, KeyID: k.ID.String(), Suite: k.Suite.Wraps().String(), Certificate: pemChain(chain)}, true
}

func pemChain(chain [][]byte) string {
	var out []byte
	for _, der := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(out)
}
