package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// A table is one kind of record by key. In a State it never changes; in a draft it is copied before its first change,
// and dirty holds what changed.
type table[V any] struct {
	name  string // bucket
	rows  map[string]V
	dirty map[string]struct{} // nil until the first change
}

func (t *table[V]) get(key string) (V, bool) {
	v, ok := t.rows[key]
	return v, ok
}

func (t *table[V]) has(key string) bool {
	_, ok := t.rows[key]
	return ok
}

func (t *table[V]) put(key string, v V) {
	t.touch(key)
	t.rows[key] = v
}

func (t *table[V]) remove(key string) {
	t.touch(key)
	delete(t.rows, key)
}

func (t *table[V]) touch(key string) {
	if t.dirty == nil {
		t.dirty = map[string]struct{}{}
		if t.rows = maps.Clone(t.rows); t.rows == nil {
			t.rows = map[string]V{}
		}
	}
	t.dirty[key] = struct{}{}
}

// sorted returns the rows in the order of their keys.
func (t *table[V]) sorted() []V {
	out := make([]V, 0, len(t.rows))
	for _, k := range slices.Sorted(maps.Keys(t.rows)) {
		out = append(out, t.rows[k])
	}
	return out
}

// A bucket is a table whatever its rows are.
type bucket interface {
	bucketName() string
	changed() iter.Seq[string]                             // keys that changed in this draft
	encode(key string) (value []byte, there bool, e error) // the row's one encoding; not there: it was removed
	decode(key string, value []byte) error
	settle() // ends the draft
}

func (t *table[V]) bucketName() string        { return t.name }
func (t *table[V]) changed() iter.Seq[string] { return maps.Keys(t.dirty) }
func (t *table[V]) settle()                   { t.dirty = nil }

func (t *table[V]) encode(key string) ([]byte, bool, error) {
	v, ok := t.rows[key]
	if !ok {
		return nil, false, nil
	}
	b, err := json.Marshal(v)
	return b, true, err
}

func (t *table[V]) decode(key string, value []byte) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	var v V
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("decode %s record: %w", t.name, err)
	}
	if t.rows == nil {
		t.rows = map[string]V{}
	}
	t.rows[key] = v
	return nil
}

// A fileTable is the token's files by path. Their content is on the disk; only a draft holds what it changes.
type fileTable struct{ table[tokenFile] }

type tokenFile struct {
	size int
	data []byte // in a draft only
}

func (t *fileTable) encode(key string) ([]byte, bool, error) {
	v, ok := t.rows[key]
	return v.data, ok, nil
}

func (t *fileTable) decode(key string, value []byte) error {
	if t.rows == nil {
		t.rows = map[string]tokenFile{}
	}
	t.rows[key] = tokenFile{size: len(value)}
	return nil
}

func (t *fileTable) settle() {
	for key := range t.dirty {
		if v, ok := t.rows[key]; ok {
			t.rows[key] = tokenFile{size: v.size}
		}
	}
	t.dirty = nil
}
