package wire

import (
	"encoding/binary"
	"errors"
	"slices"
)

var errForm = errors.New("message is malformed")

// A writer appends the fields of one message. Integers are big endian; a string or slice is preceded by its length in
// four bytes; a list by its count. Each value has one encoding.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)      { w.b = append(w.b, v) }
func (w *writer) u32(v uint32)    { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)    { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) fixed(b []byte)  { w.b = append(w.b, b...) }
func (w *writer) bytes(b []byte)  { w.u32(uint32(len(b))); w.b = append(w.b, b...) }
func (w *writer) string(s string) { w.u32(uint32(len(s))); w.b = append(w.b, s...) }
func (w *writer) bool(present bool) {
	if present {
		w.u8(1)
		return
	}
	w.u8(0)
}

// files writes a set of files in the order of their names.
func (w *writer) files(f Files) {
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	slices.Sort(names)
	w.u32(uint32(len(names)))
	for _, n := range names {
		w.string(n)
		w.bool(f[n] != nil)
		w.bytes(f[n])
	}
}

// A reader takes the fields of one message. After the first mistake it yields zeros and remembers the mistake.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// fixed fills b.
func (r *reader) fixed(b []byte) { copy(b, r.take(len(b))) }

// bytes returns a part of the message itself, at most limit long.
func (r *reader) bytes(limit int) []byte {
	n := r.u32()
	if uint64(n) > uint64(limit) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) string(limit int) string { return string(r.bytes(limit)) }

func (r *reader) bool() bool {
	v := r.u8()
	r.bad = r.bad || v > 1
	return v == 1
}

// count reads the length of a list whose items take at least size bytes each.
func (r *reader) count(limit, size int) int {
	n := r.u32()
	if uint64(n) > uint64(limit) || uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// enum reads a value from 1 to last.
func (r *reader) enum(last uint8) uint8 {
	v := r.u8()
	r.bad = r.bad || v == 0 || v > last
	return v
}

func (r *reader) files() Files {
	n := r.count(MaxFiles, 9)
	if n == 0 {
		return nil
	}
	f := make(Files, n)
	last := ""
	for range n {
		name := r.string(MaxName)
		present := r.bool()
		data := r.bytes(MaxFrame)
		if r.bad || name <= last || !present && len(data) > 0 {
			r.bad = true
			return nil
		}
		last = name
		f[name] = nil
		if present {
			f[name] = append([]byte{}, data...)
		}
	}
	return f
}

// malformed reports the first mistake.
func (r *reader) malformed() error {
	if r.bad {
		return errForm
	}
	return nil
}

// done reports the first mistake, or bytes left over.
func (r *reader) done() error {
	r.bad = r.bad || len(r.b) != 0
	return r.malformed()
}
