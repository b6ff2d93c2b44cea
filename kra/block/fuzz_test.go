package block_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/blocktest"
)

// FuzzHeader asserts the one encoding: what parses is what was read, by either door.
func FuzzHeader(f *testing.F) {
	blocktest.Seeds(f, "FuzzHeader")
	blocktest.Vectors(f, filepath.Join(vectorDir, "*.age"), 30, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, rest, err := block.ParseHeader(bytes.NewReader(raw), block.MaxHeader)
		if err != nil {
			if h.VerifyMAC(make([]byte, block.FileKeySize)) == nil || len(h.Wraps()) != 0 {
				t.Fatal("a refused header is not inert")
			}
			return
		}
		if rest == nil || !bytes.HasPrefix(raw, h.Bytes()) {
			t.Fatal("ParseHeader accepts what it would not write")
		}
		if other, err := age.ExtractHeader(bytes.NewReader(raw)); err != nil || !bytes.Equal(other, h.Bytes()) {
			t.Fatalf("age reads another header: %v", err)
		}
		again, err := block.ParseHeaderBytes(h.Bytes())
		if err != nil || again.Hash() != h.Hash() {
			t.Fatalf("ParseHeaderBytes(Bytes) = %v", err)
		}
		for _, w := range h.Wraps() {
			if _, err := block.NewWrap(w.Suite(), w.Ref(), w.Enc(), w.Body(), w.Context()); err != nil {
				t.Fatalf("NewWrap refuses what the parser accepts: %v", err)
			}
		}
	})
}

// FuzzWrap asserts that no shape makes OpenEC panic or give a key.
func FuzzWrap(f *testing.F) {
	blocktest.Seeds(f, "FuzzWrap")
	key, both := readKey(f, "p256").(*ecdh.PrivateKey), readKey(f, "hybrid").(*hybridKey)
	f.Fuzz(func(t *testing.T, suite uint8, id, enc, body, context []byte) {
		var k block.KeyID
		copy(k[:], id)
		w, err := block.NewWrap(block.Suite(suite), block.KeyIDRef(k), enc, body, context)
		if err != nil {
			return
		}
		if got, err := block.OpenEC(key, w); err == nil {
			t.Fatalf("OpenEC opens a made-up wrap: %d bytes", len(got))
		}
		for _, pub := range []crypto.PublicKey{key.Public(), both.Public()} {
			kid, err := block.KeyIDOf(pub)
			if err != nil {
				t.Fatal(err)
			}
			w, err := block.NewWrap(block.Suite(suite), block.KeyIDRef(kid), enc, body, context)
			if err != nil {
				t.Fatalf("a wrap to another key has another shape: %v", err)
			}
			if _, err := block.OpenEC(key, w); err == nil {
				t.Fatal("OpenEC opens a made-up wrap")
			}
			if _, err := both.open(w); err == nil {
				t.Fatal("OpenHybridAs opens a made-up wrap")
			}
		}
	})
}

// FuzzKeyID asserts the one form of a key id.
func FuzzKeyID(f *testing.F) {
	blocktest.Seeds(f, "FuzzKeyID")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := block.ParseKeyID(s)
		if err == nil && (id.String() != s || id.IsZero()) {
			t.Fatalf("ParseKeyID(%q) = %v", s, id)
		}
	})
}
