package hsm

import (
	"bytes"
	"crypto/ecdh"
	"maps"
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
	point   *ecdh.PublicKey // of a key on a curve, or of a hybrid key's half
	modulus []byte          // of an RSA key
	hybrid  *hybrid         // of a hybrid key, else nil
	unwraps bool            // an RSA key that may open wraps into the token
	over    bool            // this is the key over a hybrid key's seed
	kept    *kept           // of a key in vault mode, else nil: in the index it has no object
	handle  atomic.Uint64
}

func (e *entry) at() p11.ObjectHandle { return p11.ObjectHandle(e.handle.Load()) }

// An index finds keys by id without asking the module, where a search takes time in proportion to its keys.
type index struct {
	mu      sync.RWMutex
	keys    map[block.KeyID]*entry
	vault   int                  // bytes of the files of keys in vault mode
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
	x.vault += e.fileSize()
}

// fileSize is what the file of a key in vault mode takes, with its name, in a message.
func (e *entry) fileSize() int {
	if e.kept == nil {
		return 0
	}
	p := e.kept.parcel
	const framed = len(vaultFolder) + 2*len(block.KeyID{}) + 9 + 28 + 3 + 16 // name, lengths, seal, head, the parcel's lengths
	return framed + len(p.SPKI) + len(p.Wrapped) + len(p.SeedKey) + len(p.Seed)
}

// vaultBytes is what the files of all of them take.
func (x *index) vaultBytes() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.vault
}

// fileBytes is what all token files take in the message that opens them, of resident keys at most.
func (x *index) fileBytes() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := x.vault
	for _, e := range x.keys {
		if e.kept == nil && e.key.Custody != wire.Labelled {
			n += residentFile + residentTimes*len(e.key.SPKI)
		}
	}
	return n
}

// A resident key's file has its numbers one by one, each sealed by the module: an RSA key's take some five times the modulus.
const (
	residentFile  = 1 << 10
	residentTimes = 5
)

// sameVault says whether keys are those in vault mode here.
func (x *index) sameVault(keys []*entry) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := 0
	for _, e := range x.keys {
		if e.kept != nil {
			n++
		}
	}
	for _, k := range keys {
		e := x.keys[k.key.ID]
		if e == nil || e.kept == nil || !bytes.Equal(e.kept.bytes(e.key.Suite), k.kept.bytes(k.key.Suite)) {
			return false
		}
	}
	return n == len(keys)
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

// drop takes a loaded key out.
func (x *index) drop(id block.KeyID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.keys, id)
}

// dropLoaded takes out all that are loaded.
func (x *index) dropLoaded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.keys, func(_ block.KeyID, e *entry) bool { return e.key.Custody == wire.Labelled })
}

// loaded counts them.
func (x *index) loaded() (n int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.keys {
		if e.key.Custody == wire.Labelled {
			n++
		}
	}
	return n
}

// leave takes a key out for its destruction.
func (x *index) leave(id block.KeyID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.keys[id]; e != nil {
		x.vault -= e.fileSize()
	}
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
