package hsm

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A chain records every attempt to unwrap, before it is made, and every key that leaves for another box, before it does. The arithmetic is receipt's, which offline verifiers
// share; the key is ours alone.
type chain struct {
	mac      func(message []byte) [32]byte // HMAC-SHA256 under the chain key
	instance receipt.Instance

	mu   sync.Mutex
	n    uint64    // items so far
	head [32]byte  // after n items
	ring []attempt // the last wire.RingItems; item i lies at (i-1) mod its length
}

type attempt struct{ key, hash, peer [32]byte } // peer: of a key that left

func newChain(key [32]byte, instance receipt.Instance) *chain {
	return &chain{mac: macWith(key), instance: instance, head: receipt.FirstHead(instance), ring: make([]attempt, wire.RingItems)}
}

// extend appends one item for each wrap, as neighbours, and returns the head after them.
func (c *chain) extend(wraps []block.Wrap) receipt.ChainHead {
	hashes := make([]attempt, len(wraps))
	for i, w := range wraps {
		hashes[i] = attempt{key: w.KeyID(), hash: w.Hash()}
	}
	return c.add(hashes)
}

// depart appends one item for each key that is about to leave for a peer.
func (c *chain) depart(p wire.Peer, all []wire.Parcel) receipt.ChainHead {
	hashes := make([]attempt, len(all))
	for i, x := range all {
		hashes[i] = attempt{block.KeyIDOfSPKI(x.SPKI), x.Hash(), p}
	}
	return c.add(hashes)
}

func (c *chain) add(hashes []attempt) receipt.ChainHead {
	c.mu.Lock()
	for _, a := range hashes {
		c.ring[c.n%uint64(len(c.ring))] = a
		c.n++
		c.head = a.item(c.instance, c.n).After(c.head)
	}
	n, head := c.n, c.head
	c.mu.Unlock()
	return c.sign(n, head)
}

func (a attempt) item(of receipt.Instance, n uint64) receipt.Item {
	return receipt.Item{Instance: of, N: n, Key: a.key, Ciphertext: a.hash, Peer: a.peer}
}

// macWith keeps the key where fmt does not find it.
func macWith(key [32]byte) func([]byte) [32]byte {
	return func(message []byte) (mac [32]byte) {
		h := hmac.New(sha256.New, key[:])
		h.Write(message)
		h.Sum(mac[:0])
		return mac
	}
}

// sign authenticates a head of this instance.
func (c *chain) sign(n uint64, head [32]byte) receipt.ChainHead {
	return receipt.ChainHead{Instance: c.instance, N: n, Head: head, MAC: c.mac(receipt.HeadMessage(c.instance, n, head))}
}

// check verifies a head of any instance.
func (c *chain) check(head receipt.ChainHead) error {
	if !equalHash(c.mac(receipt.HeadMessage(head.Instance, head.N, head.Head)), head.MAC) {
		return wire.ErrHead
	}
	return nil
}

// since returns the items after the n-th and the head that they end at.
func (c *chain) since(n uint64) ([]receipt.Item, receipt.ChainHead, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.n {
		return nil, receipt.ChainHead{}, fmt.Errorf("list chain after item %d: there are %d", n, c.n)
	}
	if c.n-n > uint64(len(c.ring)) {
		return nil, receipt.ChainHead{}, wire.ErrForgotten
	}
	items := make([]receipt.Item, 0, c.n-n)
	for i := n; i < c.n; i++ {
		a := c.ring[i%uint64(len(c.ring))]
		items = append(items, a.item(c.instance, i+1))
	}
	return items, c.sign(c.n, c.head), nil
}
