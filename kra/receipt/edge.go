package receipt

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// An Edge is what remains of a Merkle tree to extend it and to know its root: the roots of the full subtrees that
// make up its leaves, largest first. The zero Edge is the empty tree.
type Edge struct {
	size   int64
	hashes []tlog.Hash
}

// NewEdge takes the hashes that the edge of a tree of that size has.
func NewEdge(size int64, hashes []tlog.Hash) (Edge, error) {
	if size < 0 || len(hashes) != bits.OnesCount64(uint64(size)) {
		return Edge{}, fmt.Errorf("parse tree edge: %d hashes do not fit size %d", len(hashes), size)
	}
	return Edge{size, append([]tlog.Hash{}, hashes...)}, nil
}

// Append adds a leaf.
func (e *Edge) Append(leaf tlog.Hash) { e.AppendStored(nil, leaf) }

// AppendStored adds a leaf and appends to dst what tlog calls its stored hashes: the leaf, and the root of each full
// subtree that it completes, smallest first.
func (e *Edge) AppendStored(dst []tlog.Hash, leaf tlog.Hash) []tlog.Hash {
	dst = append(dst, leaf)
	for s := e.size; s&1 == 1; s >>= 1 {
		last := len(e.hashes) - 1
		leaf = tlog.NodeHash(e.hashes[last], leaf)
		e.hashes = e.hashes[:last]
		dst = append(dst, leaf)
	}
	e.hashes = append(e.hashes, leaf)
	e.size++
	return dst
}

// Size returns the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Root returns the root, RFC 6962 section 2.1.
func (e *Edge) Root() tlog.Hash {
	if len(e.hashes) == 0 {
		h, _ := tlog.TreeHash(0, nil) // the hash of nothing
		return h
	}
	root := e.hashes[len(e.hashes)-1]
	for i := len(e.hashes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(e.hashes[i], root)
	}
	return root
}

// EdgeIndexes returns where, in tlog's order of stored hashes, the edge of the first size leaves is found.
func EdgeIndexes(size int64) []int64 {
	var at []int64
	for done := int64(0); done < size; {
		level := bits.Len64(uint64(size-done)) - 1
		at = append(at, tlog.StoredHashIndex(level, done>>level))
		done += 1 << level
	}
	return at
}
