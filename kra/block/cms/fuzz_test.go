package cms_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/blocktest"
	"github.com/keyrelease/krabox/kra/block/cms"
)

// FuzzHead asserts the one form of a head: what is accepted is what would be written.
func FuzzHead(f *testing.F) {
	blocktest.Seeds(f, "FuzzHead")
	blocktest.Vectors(f, vectorDir+"/*.cms", 10, func(raw []byte) {
		f.Add(raw)
		if h, _, err := cms.ReadHead(bytes.NewReader(raw)); err == nil {
			f.Add(h.Bytes())
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := cms.ParseHead(raw)
		if err != nil {
			if len(h.Bytes()) != 0 || len(h.Recipients()) != 0 {
				t.Fatal("a refused head is not inert")
			}
			return
		}
		if !bytes.Equal(h.Bytes(), raw) {
			t.Fatal("ParseHead accepts what it would not write")
		}
		blocktest.CheckEnvelope(t, h, block.FormatCMS)
	})
}

// FuzzMessage asserts that a message that is read to its end gives a head of one form, and that a splice leaves its
// content as it is.
func FuzzMessage(f *testing.F) {
	blocktest.Seeds(f, "FuzzMessage")
	blocktest.Vectors(f, vectorDir+"/*.cms", 10, func(raw []byte) { f.Add(raw) })
	to, err := cms.ToKey(vectorKey(f, "ec").publicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, content, err := cms.ReadHead(cms.Binary(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		if again, err := cms.ParseHead(h.Bytes()); err != nil || !bytes.Equal(again.Bytes(), h.Bytes()) {
			t.Fatalf("ParseHead(Bytes) = %v", err)
		}
		blocktest.CheckEnvelope(t, h, block.FormatCMS)
		want, err := io.ReadAll(content)
		if err != nil {
			return
		}
		_, content, _ = cms.ReadHead(cms.Binary(bytes.NewReader(raw)))
		var out bytes.Buffer
		if err := content.Splice(&out, make([]byte, 32), to); err != nil {
			return // the head has no room for one more
		}
		_, content, err = cms.ReadHead(&out)
		if err != nil {
			t.Fatalf("a spliced message is refused: %v", err)
		}
		if got, err := io.ReadAll(content); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("a splice changes the content: %v", err)
		}
		for _, size := range []int{16, 24, 32} {
			_, content, _ := cms.ReadHead(cms.Binary(bytes.NewReader(raw)))
			plain, err := content.Decrypt(make([]byte, size))
			if err != nil {
				continue
			}
			if _, err := io.ReadAll(plain); err == nil && h.Authenticated() {
				t.Fatal("authenticated content opens under a made-up key")
			}
		}
	})
}
