package hsm

import (
	"bytes"
	"crypto/ecdh"
	"slices"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// An entry is a key of the token and where it lies. Handles can go stale behind our back: see session.with.
type entry struct {
	key     wire.Key
	point   *ecdh.PublicKey // of a P-256 or hybrid key
	modulus []byte          // of an RSA key
	hybrid  *hybrid         // of a hybrid key, else nil
	unwraps bool            // an RSA key that may open wraps into the token
	over    bool            // this is the key over a hybrid key's seed
	handle  atomic.Uint64
}

func (e *entry) at() p11.ObjectHandle { return p11.ObjectHandle(e.handle.Load()) }

// An index finds keys by id without asking the module, where a search takes time in proportion to its keys.
type index struct {
	mu      sync.RWMutex
	keys    map[block.KeyID]*entry
	leaving map[block.KeyID]bool // keys whose destruction began and is not reported yet
}

func newIndex() *index {
	return &index{keys: map[block.KeyID]*entry{}, leaving: map[block.KeyID]bool{}}
}

func (x *index) get(id block.KeyID) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.keys[id]
}

func (x *index) put(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keys[e.key.ID] = e
}

// move gives each key the handles that it has in fresh.
func (x *index) move(fresh *index) {
	for id, now := range fresh.keys {
		if e := x.get(id); e != nil {
			e.handle.Store(now.handle.Load())
			if e.hybrid != nil && now.hybrid != nil {
				e.hybrid.key.handle.Store(now.hybrid.key.handle.Load())
			}
		}
	}
}

// leave takes a key out for its destruction.
func (x *index) leave(id block.KeyID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.keys, id)
	x.leaving[id] = true
}

func (x *index) isLeaving(id block.KeyID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.leaving[id]
}

// left ends what leave began.
func (x *index) left(id block.KeyID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.leaving, id)
}

func (x *index) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.keys)
}

func (x *index) list() []wire.Key {
	x.mu.RLock()
	keys := make([]wire.Key, 0, len(x.keys))
	for _, e := range x.keys {
		keys = append(keys, e.key)
	}
	x.mu.RUnlock()
	slices.SortFunc(keys, func(a, b wire.Key) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return keys
}
