// Package blocktest has what the fuzz tests of all envelopes assert.
package blocktest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// Seeds fails the test where the seed folder has moved: a fuzzer without seeds passes and proves nothing. At least 3 are
// committed.
func Seeds(f *testing.F, name string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata/fuzz", name, "*"))
	if err != nil || len(files) < 3 {
		f.Fatalf("%s has %d committed seeds; want 3 or more", name, len(files))
	}
}

// Vectors adds the files that match the pattern, which are least or more, as seeds.
func Vectors(f *testing.F, pattern string, least int, add func(raw []byte)) {
	f.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		f.Fatalf("%d vectors %s; want %d or more", len(files), pattern, least)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		add(raw)
	}
}

// A Head is the header portion of an envelope that is not age's.
type Head interface {
	Bytes() []byte
	Envelope() (block.Envelope, error)
}

// CheckEnvelope fails the test unless the envelope, where the head has one, is of the format, of the head's bytes, and not
// bound by a MAC.
func CheckEnvelope(t *testing.T, h Head, want block.Format) {
	t.Helper()
	e, err := h.Envelope()
	if err != nil {
		return
	}
	if !bytes.Equal(e.Bytes(), h.Bytes()) || len(e.Wraps()) == 0 || e.Format() != want || e.Bound() {
		t.Fatal("the envelope is not the head's")
	}
}
