// Package immutable has a map that never changes: its next version shares with it all that stayed the same.
package immutable

import (
	"hash/maphash"
	"iter"
	"maps"
)

// shards is how many parts a map has. A change copies the parts that it touches and the list of parts: with 100,000
// entries, 400 of them and 2 KiB.
const shards = 256

// seed is for this process only: nobody can choose keys that all fall into one part.
var seed = maphash.MakeSeed()

func shardOf[K comparable](k K) byte { return byte(maphash.Comparable(seed, k)) }

// A Map holds values by key. The zero Map is empty. It may be read from any number of goroutines.
type Map[K comparable, V any] struct {
	parts *[shards]*part[K, V] // nil: empty
	size  int
}

// A part never changes once its map is in use.
type part[K comparable, V any] struct{ of map[K]V }

func (p *part[K, V]) entries() map[K]V {
	if p == nil {
		return nil
	}
	return p.of
}

func (m Map[K, V]) part(i byte) *part[K, V] {
	if m.parts == nil {
		return nil
	}
	return m.parts[i]
}

// Len returns how many entries there are.
func (m Map[K, V]) Len() int { return m.size }

// Get returns the value of a key.
func (m Map[K, V]) Get(k K) (V, bool) {
	v, ok := m.part(shardOf(k)).entries()[k]
	return v, ok
}

// At returns the value of a key, or zero.
func (m Map[K, V]) At(k K) V {
	v, _ := m.Get(k)
	return v
}

// All yields the entries in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range shards {
			for k, v := range m.part(byte(i)).entries() {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Edit begins the next version.
func (m Map[K, V]) Edit() *Draft[K, V] { return &Draft[K, V]{now: m} }

// Changed yields the keys that one map has and the other has not, or whose values differ, in no order. It looks only at
// the parts that the two do not share.
func Changed[K, V comparable](a, b Map[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		for i := range shards {
			x, y := a.part(byte(i)), b.part(byte(i))
			if x == y {
				continue
			}
			for k, v := range x.entries() {
				if w, ok := y.entries()[k]; (!ok || v != w) && !yield(k) {
					return
				}
			}
			for k := range y.entries() {
				if _, ok := x.entries()[k]; !ok && !yield(k) {
					return
				}
			}
		}
	}
}

// A Draft is the next version of a map, for one goroutine. What it began from stays as it is.
type Draft[K comparable, V any] struct {
	now Map[K, V]
	own *[shards]bool // parts that are this draft's alone; nil before the first change
}

// Len returns how many entries there are now.
func (d *Draft[K, V]) Len() int { return d.now.size }

// Get returns the value that a key has now.
func (d *Draft[K, V]) Get(k K) (V, bool) { return d.now.Get(k) }

// At returns the value that a key has now, or zero.
func (d *Draft[K, V]) At(k K) V { return d.now.At(k) }

// All yields the entries as they are now, in no order. They must not change meanwhile.
func (d *Draft[K, V]) All() iter.Seq2[K, V] { return d.now.All() }

// Put sets the value of a key.
func (d *Draft[K, V]) Put(k K, v V) {
	of := d.mine(shardOf(k))
	before := len(of)
	of[k] = v
	d.now.size += len(of) - before
}

// Delete removes a key, if it is there.
func (d *Draft[K, V]) Delete(k K) {
	if _, ok := d.Get(k); ok {
		delete(d.mine(shardOf(k)), k)
		d.now.size--
	}
}

// mine returns a part that may be changed.
func (d *Draft[K, V]) mine(i byte) map[K]V {
	if d.own == nil {
		d.own = new([shards]bool)
		parts := new([shards]*part[K, V])
		if d.now.parts != nil {
			*parts = *d.now.parts
		}
		d.now.parts = parts
	}
	if !d.own[i] {
		of := maps.Clone(d.now.parts[i].entries())
		if of == nil {
			of = map[K]V{}
		}
		d.own[i], d.now.parts[i] = true, &part[K, V]{of}
	}
	return d.now.parts[i].of
}

// Map returns what the draft has become. If the draft goes on, it copies again.
func (d *Draft[K, V]) Map() Map[K, V] {
	d.own = nil
	return d.now
}
