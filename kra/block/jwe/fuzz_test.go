package jwe_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

// seeds fails the test where the seed folder has moved: a fuzzer without seeds passes and proves nothing. The messages
// of the vectors are seeds, too.
func seeds(f *testing.F, name string, add func(raw []byte)) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata/fuzz", name, "*"))
	if err != nil || len(files) < 3 {
		f.Fatalf("%s has %d committed seeds; want 3 or more", name, len(files))
	}
	files, err = filepath.Glob(filepath.Join(vectorDir, "*.jwe"))
	if err != nil || len(files) < 5 {
		f.Fatalf("%d vectors; want 5 or more", len(files))
	}
	for _, file := range files {
		add(read(f, file))
	}
}

// FuzzHead asserts the one form of a head: what is accepted is what would be written.
func FuzzHead(f *testing.F) {
	seeds(f, "FuzzHead", func(raw []byte) {
		if m, err := jwe.Read(bytes.NewReader(raw)); err == nil {
			f.Add(m.Head().Bytes())
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := jwe.ParseHead(raw)
		if err != nil {
			if len(h.Bytes()) != 0 || len(h.Recipients()) != 0 {
				t.Fatal("a refused head is not inert")
			}
			return
		}
		if !bytes.Equal(h.Bytes(), raw) {
			t.Fatal("ParseHead accepts what it would not write")
		}
		checkEnvelope(t, h)
	})
}

// FuzzMessage asserts that every message that is read gives a head of one form, and opens under no made-up key.
func FuzzMessage(f *testing.F) {
	seeds(f, "FuzzMessage", func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := jwe.Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		h := m.Head()
		if again, err := jwe.ParseHead(h.Bytes()); err != nil || !bytes.Equal(again.Bytes(), h.Bytes()) {
			t.Fatalf("ParseHead(Bytes) = %v", err)
		}
		checkEnvelope(t, h)
		for _, size := range []int{16, 24, 32, 48, 64} {
			key := bytes.Repeat([]byte{0x5a}, size)
			if _, err := m.Open(key); err == nil {
				t.Fatal("a message opens under a made-up key")
			}
		}
	})
}

func checkEnvelope(t *testing.T, h jwe.Head) {
	e, err := h.Envelope()
	if err != nil {
		return
	}
	if !bytes.Equal(e.Bytes(), h.Bytes()) || len(e.Wraps()) == 0 || e.Format() != block.FormatJWE || e.Bound() {
		t.Fatal("the envelope is not the head's")
	}
}
