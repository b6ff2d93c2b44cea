package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/keyrelease/krabox/kra/immutable"
)

// A table is one kind of record by key. In a State it never changes; in a draft dirty holds what changed. A row that stayed
// the same is the same pointer from state to state, and nobody writes to it.
type table[V any] struct {
	name  string // bucket
	rows  immutable.Map[string, *V]
	draft *immutable.Draft[string, *V] // nil until the first change
	dirty map[string]struct{}
}

func (t *table[V]) get(key string) (v V, ok bool) {
	p, ok := t.row(key)
	if !ok {
		return v, false
	}
	return *p, true
}

func (t *table[V]) row(key string) (*V, bool) {
	if t.draft != nil {
		return t.draft.Get(key)
	}
	return t.rows.Get(key)
}

// single returns the only row of a table that has at most one.
func (t *table[V]) single() V {
	v, _ := t.get(only)
	return v
}

func (t *table[V]) has(key string) bool {
	_, ok := t.row(key)
	return ok
}

func (t *table[V]) size() int {
	if t.draft != nil {
		return t.draft.Len()
	}
	return t.rows.Len()
}

// all yields the rows in no order.
func (t *table[V]) all() iter.Seq2[string, *V] {
	if t.draft != nil {
		return t.draft.All()
	}
	return t.rows.All()
}

func (t *table[V]) put(key string, v V) {
	t.touch(key)
	t.draft.Put(key, &v)
}

func (t *table[V]) remove(key string) {
	t.touch(key)
	t.draft.Delete(key)
}

func (t *table[V]) touch(key string) {
	if t.dirty == nil {
		t.dirty = map[string]struct{}{}
	}
	if t.draft == nil {
		t.draft = t.rows.Edit()
	}
	t.dirty[key] = struct{}{}
}

// keys returns the keys of all rows in their order.
func (t *table[V]) keys() []string {
	out := make([]string, 0, t.size())
	for k := range t.all() {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// sorted returns the rows in the order of their keys.
func (t *table[V]) sorted() []V {
	out := make([]V, 0, t.size())
	for _, k := range t.keys() {
		v, _ := t.get(k)
		out = append(out, v)
	}
	return out
}

// since returns the keys of the rows that are not those of an older state, in order.
func (t *table[V]) since(old *table[V]) []string {
	return slices.Sorted(immutable.Changed(old.rows, t.rows))
}

// A bucket is a table whatever its rows are.
type bucket interface {
	bucketName() string
	changed() iter.Seq[string]                             // keys that changed in this draft
	rowKeys() []string                                     // of all rows, sorted
	encode(key string) (value []byte, there bool, e error) // the row's one encoding; not there: it was removed
	decode(key string, value []byte) (put func(), e error) // side by side with others; then put, one at a time
	settle()                                               // ends the draft
}

func (t *table[V]) bucketName() string        { return t.name }
func (t *table[V]) changed() iter.Seq[string] { return maps.Keys(t.dirty) }
func (t *table[V]) rowKeys() []string         { return t.keys() }

func (t *table[V]) settle() {
	if t.draft != nil {
		t.rows, t.draft = t.draft.Map(), nil
	}
	t.dirty = nil
}

func (t *table[V]) encode(key string) ([]byte, bool, error) {
	v, ok := t.row(key)
	if !ok {
		return nil, false, nil
	}
	b, err := json.Marshal(v)
	return b, true, err
}

func (t *table[V]) decode(key string, value []byte) (func(), error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	var v V
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode %s record: %w", t.name, err)
	}
	return func() { t.put(key, v) }, nil
}

// A fileTable is the token's files by path. Their content is on the disk; only a draft holds what it changes.
type fileTable struct{ table[tokenFile] }

type tokenFile struct {
	size int
	data []byte // in a draft only
}

func (t *fileTable) encode(key string) ([]byte, bool, error) {
	v, ok := t.get(key)
	return v.data, ok, nil
}

func (t *fileTable) decode(key string, value []byte) (func(), error) {
	return func() { t.put(key, tokenFile{size: len(value)}) }, nil
}

func (t *fileTable) settle() {
	for key := range t.dirty {
		if v, ok := t.get(key); ok {
			t.put(key, tokenFile{size: v.size})
		}
	}
	t.table.settle()
}
