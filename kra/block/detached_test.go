package block_test

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

// TestHeaderWithoutMAC: what a plugin of age knows of a file is an envelope that nothing binds.
func TestHeaderWithoutMAC(t *testing.T) {
	k := newKey(t)
	whole, _ := parse(t, encrypt(t, "x", recipient(t, k), stock(t, k.PublicKey()), foreign{"one", "#1"}))
	stanzas := []*age.Stanza{whole.Wraps()[0].Stanza(), whole.Wraps()[1].Stanza(), {Type: "one", Args: []string{"#1"}, Body: bytes.Repeat([]byte{7}, 48)}}
	h, err := block.NewHeader(stanzas)
	if err != nil {
		t.Fatal(err)
	}
	cut := func(h block.Header) []byte { return h.Bytes()[:bytes.LastIndex(h.Bytes(), []byte("\n--- "))] }
	if !bytes.Equal(cut(h), cut(whole)) {
		t.Errorf("the header is another\n%s\nwant\n%s", h.Bytes(), whole.Bytes())
	}
	key, err := block.OpenEC(k, h.Wraps()[0])
	if err != nil {
		t.Fatal(err)
	}
	e := block.EnvelopeOf(h)
	if e.Bound() || e.Format() != block.FormatAge || e.Check(key) != nil || e.Check(append(key, key...)) == nil {
		t.Errorf("bound %v, the key: %v", e.Bound(), e.Check(key))
	}
	if h.VerifyMAC(key) == nil || !block.EnvelopeOf(whole).Bound() || block.EnvelopeOf(whole).Check(key) != nil {
		t.Error("the MAC of a header that has none fits, or that of the whole header does not")
	}
	if again, err := block.ParseHeaderBytes(h.Bytes()); err != nil || block.EnvelopeOf(again).Bound() {
		t.Errorf("read again: %v", err)
	}
	for name, s := range map[string][]*age.Stanza{"nothing": nil, "a line": {{Type: "x\n-> y"}}, "a space": {{Type: "x y"}}, "no type": {{}},
		"a bad stanza": {{Type: "kra", Args: []string{"p256"}}}} {
		if _, err := block.NewHeader(s); err == nil {
			t.Errorf("%s is a header", name)
		}
	}
}
