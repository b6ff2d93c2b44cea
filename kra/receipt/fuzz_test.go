package receipt_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

// seeded fails when the corpus of a fuzz target has moved away.
func seeded(f *testing.F) {
	f.Helper()
	if seeds, err := os.ReadDir("testdata/fuzz/" + f.Name()); err != nil || len(seeds) == 0 {
		f.Fatal("no seeds: ", err)
	}
}

func FuzzParsePublic(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := receipt.ParsePublic(data)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is encoded again as %q, %v", data, again, err)
		}
		g, err := receipt.GlanceAt(data)
		if err != nil || g.Key != (p.Key != nil) || !reflect.DeepEqual(g.Item, p.Item) {
			t.Errorf("GlanceAt(%q) = %+v, %v", data, g, err)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := receipt.ParseReceipt(data)
		if err != nil {
			return
		}
		if again, err := json.Marshal(r); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is encoded again as %q, %v", data, again, err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := receipt.ParseCheckpoint(text)
		if err != nil {
			return
		}
		if c.Text() != text || c.Size < 0 || receipt.CheckBox(c.Box) != nil {
			t.Errorf("%q is encoded again as %q", text, c.Text())
		}
	})
}

func FuzzParsePath(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := receipt.ParsePath(text)
		if err != nil {
			return
		}
		if p.PEM() != text {
			t.Errorf("%q is encoded again as %q", text, p.PEM())
		}
	})
}

// FuzzVerifyExport throws lines at the verifier: nothing but an error may come of what no domain has signed.
func FuzzVerifyExport(f *testing.F) {
	seeded(f)
	roots := receipttest.New(f, "example").Roots
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := receipt.VerifyExport(bytes.NewReader(data), roots); err == nil {
			t.Errorf("verified: %+v", r)
		}
	})
}
