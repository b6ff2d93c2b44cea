package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Context strings of the hashes of a state.
const (
	leafContext  = "kra/store-record/v1"
	shardContext = "kra/store-shard/v1"
	rootContext  = "kra/store-root/v1"
)

// A mark is what makes a state one of a kind.
type mark struct {
	Generation uint64
	Prev       [32]byte // what NV held when this state was written
	Fresh      [32]byte // random
}

// shards is fixed by the format: the first byte of a record's name hash chooses the shard.
const shards = 256

// A tree hashes all records of a state. A change costs its shard and the list of shards, whatever the number of
// records: 256 shards of 80 records each for 20,000.
//
//	leaf   SHA-256(leafContext ‖ 0 ‖ bucket ‖ 0 ‖ key length 4 ‖ key ‖ value)
//	shard  SHA-256(shardContext ‖ 0 ‖ its leaves, sorted)
//	root   SHA-256(rootContext ‖ 0 ‖ generation 8 ‖ prev ‖ fresh ‖ 256 shards)
type tree struct{ shard [shards]*shard }

// A shard never changes once its tree is that of a State.
type shard struct {
	leaves map[string][32]byte // by record name
	sum    [32]byte
}

func newTree() (t tree) {
	empty := &shard{}
	empty.hash()
	for i := range t.shard {
		t.shard[i] = empty
	}
	return t
}

// recordName names a record among all buckets; no bucket's name contains a zero byte.
func recordName(bucket, key string) string { return bucket + "\x00" + key }

// An edit is a record that is new, changed or, without a value, removed.
type edit struct {
	bucket, key string
	value       []byte
	there       bool
}

// collect lists what changed in a draft, sorted.
func (s *State) collect() ([]edit, error) {
	var out []edit
	for _, b := range s.buckets() {
		for _, key := range slices.Sorted(b.changed()) {
			value, there, err := b.encode(key)
			if err != nil {
				return nil, fmt.Errorf("encode %s record: %w", b.bucketName(), err)
			}
			out = append(out, edit{b.bucketName(), key, value, there})
		}
	}
	return out, nil
}

// update takes the edits into a copy of the tree, on all processors.
func (t tree) update(edits []edit) tree {
	type record struct {
		name  string
		leaf  [32]byte
		shard byte
	}
	records := make([]record, len(edits))
	must(beside(len(edits), func(i int) error {
		name := recordName(edits[i].bucket, edits[i].key)
		records[i] = record{name: name, shard: shardOf(name)}
		if edits[i].there {
			records[i].leaf = leafOf(edits[i])
		}
		return nil
	}))
	var of [shards][]int
	for i, r := range records {
		of[r.shard] = append(of[r.shard], i)
	}
	must(beside(shards, func(n int) error {
		if len(of[n]) == 0 {
			return nil
		}
		s := &shard{leaves: make(map[string][32]byte, len(t.shard[n].leaves)+len(of[n]))}
		maps.Copy(s.leaves, t.shard[n].leaves)
		for _, i := range of[n] {
			if edits[i].there {
				s.leaves[records[i].name] = records[i].leaf
			} else {
				delete(s.leaves, records[i].name)
			}
		}
		s.hash()
		t.shard[n] = s
		return nil
	}))
	return t
}

// must passes on what beside caught: a tree that lacks a part is no tree.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func shardOf(name string) byte { n := sha256.Sum256([]byte(name)); return n[0] }

func leafOf(e edit) [32]byte {
	b := make([]byte, 0, len(leafContext)+len(e.bucket)+len(e.key)+len(e.value)+6)
	b = append(append(b, leafContext...), 0)
	b = append(append(b, e.bucket...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.key)))
	b = append(b, e.key...)
	return sha256.Sum256(append(b, e.value...))
}

func (s *shard) hash() {
	leaves := slices.SortedFunc(maps.Values(s.leaves), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	b := append(make([]byte, 0, len(shardContext)+1+32*len(leaves)), shardContext...)
	b = append(b, 0)
	for i := range leaves {
		b = append(b, leaves[i][:]...)
	}
	s.sum = sha256.Sum256(b)
}

func (t tree) root(m mark) [32]byte {
	b := append(make([]byte, 0, len(rootContext)+1+8+64+32*shards), rootContext...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, m.Generation)
	b = append(b, m.Prev[:]...)
	b = append(b, m.Fresh[:]...)
	for i := range t.shard {
		b = append(b, t.shard[i].sum[:]...)
	}
	return sha256.Sum256(b)
}

// stamp gives the state its mark and root.
func (s *State) stamp(m mark) {
	s.mark = m
	s.root = s.tree.root(m)
}
