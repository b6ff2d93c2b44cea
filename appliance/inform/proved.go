package inform

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
)

// maxProved is how many attribute certificates are remembered. Beyond it, all are forgotten.
const maxProved = 4096

// proved remembers the signatures of attribute certificates that a World has verified: most of what one costs, and the same
// for each request. Holder, time, target and revocation are checked every time.
type proved struct {
	known sync.Map // proofKey -> proof
	size  atomic.Int32
}

// A proofKey is a certificate about a decryptor of an anchor: two anchors may have two authorities with one key.
type proofKey struct {
	hash   [sha256.Size]byte
	anchor kra.Anchor
}

// A proof is a certificate and the authority that was found to have signed it.
type proof struct {
	signed attrcert.Signed
	by     Authority
}

func (p *proved) find(raw []byte, anchor kra.Anchor) (proof, bool) {
	if p == nil {
		return proof{}, false
	}
	v, ok := p.known.Load(proofKey{sha256.Sum256(raw), anchor})
	if !ok {
		return proof{}, false
	}
	return v.(proof), true
}

func (p *proved) keep(x proof, anchor kra.Anchor) {
	if p == nil {
		return
	}
	key := proofKey{sha256.Sum256(x.signed.Certificate().Raw()), anchor}
	if _, old := p.known.LoadOrStore(key, x); !old && p.size.Add(1) > maxProved {
		p.known.Clear()
		p.size.Store(0)
	}
}
