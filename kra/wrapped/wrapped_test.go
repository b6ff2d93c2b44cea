package wrapped

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// TestParse: what was sealed is read back whole, with or without the name of the import key, and nothing else is.
func TestParse(t *testing.T) {
	to, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Seal(&small.PublicKey, make([]byte, 100)); err == nil {
		t.Error("a key was wrapped to RSA-2048")
	}
	if _, err := Seal(&to.PublicKey, make([]byte, MaxKey)); err == nil {
		t.Error("what is too large was wrapped")
	}
	k, err := Seal(&to.PublicKey, make([]byte, 138))
	if err != nil || len(k.Bytes()) != outer+152 {
		t.Fatalf("Seal() has %d bytes, %v", len(k.Bytes()), err)
	}
	text := string(k.PEM())
	got, err := Parse(text)
	if err != nil || got.To() != k.To() || got.To() == (block.KeyID{}) || !bytes.Equal(got.Bytes(), k.Bytes()) || !Is(text) {
		t.Errorf("Parse() = %+v, %v", got, err)
	}
	bare := func(b []byte) string { return string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: b})) }
	if got, err := Parse(bare(k.Bytes())); err != nil || got.To() != (block.KeyID{}) {
		t.Errorf("without a name: %+v, %v", got.To(), err)
	}
	for name, x := range map[string]struct{ text, why string }{
		"nothing":         {"", "not one whole block"},
		"another block":   {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.Bytes()})), "not one whole block"},
		"two":             {text + text, "not one whole block"},
		"cut":             {text[:len(text)-30], "not one whole block"},
		"a line too many": {strings.Replace(text, "Import-Key", "Custody: bound\nImport-Key", 1), "has a line"},
		"another name":    {strings.Replace(text, k.To().String(), "box1", 1), "has a line"},
		"no inner part":   {bare(k.Bytes()[:outer]), "is cut"},
		"half a unit":     {bare(k.Bytes()[:outer+100]), "is cut"},
		"large":           {bare(make([]byte, MaxKey+8)), "at most"},
		"much text":       {text + strings.Repeat("\n", MaxText), "bytes of text"},
	} {
		if _, err := Parse(x.text); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v, want %q", name, err, x.why)
		}
	}
}

func FuzzParse(f *testing.F) {
	seeds := []string{string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: make([]byte, outer+24)})),
		string(pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{toField: strings.Repeat("ab", 32)}, Bytes: make([]byte, outer+32)}))}
	for _, s := range seeds {
		if _, err := Parse(s); err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(string(k.PEM()))
		if err != nil || again.To() != k.To() || !bytes.Equal(again.Bytes(), k.Bytes()) {
			t.Errorf("%q is read as %+v, and its form as %+v, %v", text, k, again, err)
		}
	})
}
