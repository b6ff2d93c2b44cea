package jwe_test

import (
	"bytes"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/blocktest"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

// FuzzHead asserts the one form of a head: what is accepted is what would be written.
func FuzzHead(f *testing.F) {
	blocktest.Seeds(f, "FuzzHead")
	blocktest.Vectors(f, vectorDir+"/*.jwe", 5, func(raw []byte) {
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
		blocktest.CheckEnvelope(t, h, block.FormatJWE)
	})
}

// FuzzMessage asserts that every message that is read gives a head of one form, and opens under no made-up key.
func FuzzMessage(f *testing.F) {
	blocktest.Seeds(f, "FuzzMessage")
	blocktest.Vectors(f, vectorDir+"/*.jwe", 5, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := jwe.Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		h := m.Head()
		if again, err := jwe.ParseHead(h.Bytes()); err != nil || !bytes.Equal(again.Bytes(), h.Bytes()) {
			t.Fatalf("ParseHead(Bytes) = %v", err)
		}
		blocktest.CheckEnvelope(t, h, block.FormatJWE)
		for _, size := range []int{16, 24, 32, 48, 64} {
			key := bytes.Repeat([]byte{0x5a}, size)
			if _, err := m.Open(key); err == nil {
				t.Fatal("a message opens under a made-up key")
			}
		}
	})
}
