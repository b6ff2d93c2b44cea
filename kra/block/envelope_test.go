package block_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

func quote(s string) string { return strconv.Quote(s) }

func TestEnvelopes(t *testing.T) {
	k := newKey(t)
	h, _ := parse(t, encrypt(t, "x", recipient(t, k)))
	e := block.EnvelopeOf(h)
	if e.Format() != block.FormatAge || !e.Bound() || e.Hash() != h.Hash() || !bytes.Equal(e.Bytes(), h.Bytes()) || len(e.Wraps()) != 1 {
		t.Errorf("an age header as an envelope: %v, bound %v", e.Format(), e.Bound())
	}
	key, err := block.OpenEC(k, e.Wraps()[0])
	if err != nil || e.Check(key) != nil || e.Check(make([]byte, 16)) == nil || e.Check(append(key, key...)) == nil {
		t.Errorf("Check does not tell the key: %v", err)
	}

	raw := []byte("a header of another format")
	ski, _ := block.SKIRef([]byte{1, 2})
	sealed, err := block.Seal(block.SuiteECDHX963, k.PublicKey(), make([]byte, 32), []byte{0, 0, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	w, err := block.NewWrap(block.SuiteECDHX963, ski, sealed.Enc(), sealed.Body(), sealed.Context())
	if err != nil || !w.KeyID().IsZero() || w.Ref() != ski || w.Stanza() != nil {
		t.Fatalf("NewWrap = %v, %v", w.Ref(), err)
	}
	c, err := block.NewEnvelope(block.FormatCMS, raw, []block.Wrap{w})
	if err != nil || c.Bound() || c.Hash() != sha256.Sum256(raw) || len(c.Wraps()) != 1 {
		t.Fatalf("NewEnvelope = %v", err)
	}
	clear(raw)
	clear(c.Bytes())
	clear(c.Wraps())
	if c.Hash() != sha256.Sum256(c.Bytes()) || c.Wraps()[0].Ref() != ski {
		t.Error("a caller can change an envelope")
	}
	j, err := block.NewEnvelope(block.FormatJWE, c.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, ok := range map[int][2]bool{0: {}, 15: {}, 16: {true, true}, 24: {true, true}, 32: {true, true}, 33: {}, 48: {false, true}, 64: {false, true}, 80: {}} {
		if key := make([]byte, n); (c.Check(key) == nil) != ok[0] || (j.Check(key) == nil) != ok[1] {
			t.Errorf("Check of %d bytes in CMS and in JWE is not %v", n, ok)
		}
	}
	stanza := e.Wraps()[0]
	for name, try := range map[string]func() (block.Envelope, error){
		"age":            func() (block.Envelope, error) { return block.NewEnvelope(block.FormatAge, raw, nil) },
		"no format":      func() (block.Envelope, error) { return block.NewEnvelope(0, raw, nil) },
		"unknown format": func() (block.Envelope, error) { return block.NewEnvelope(4, raw, nil) },
		"empty":          func() (block.Envelope, error) { return block.NewEnvelope(block.FormatJWE, nil, nil) },
		"too long": func() (block.Envelope, error) {
			return block.NewEnvelope(block.FormatJWE, make([]byte, block.MaxHeader+1), nil)
		},
		"too many wraps": func() (block.Envelope, error) {
			return block.NewEnvelope(block.FormatJWE, raw, slices.Repeat([]block.Wrap{w}, block.MaxWraps+1))
		},
		"a zero wrap":     func() (block.Envelope, error) { return block.NewEnvelope(block.FormatJWE, raw, []block.Wrap{{}}) },
		"a stanza of age": func() (block.Envelope, error) { return block.NewEnvelope(block.FormatCMS, raw, []block.Wrap{stanza}) },
	} {
		if got, err := try(); err == nil || got.Format() != 0 || got.Check(make([]byte, 16)) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if z := block.EnvelopeOf(block.Header{}); z.Format() != 0 || z.Bound() || z.Check(make([]byte, 16)) == nil || len(z.Wraps()) != 0 {
		t.Error("the zero Header is an envelope")
	}
	names := []string{block.FormatAge.String(), block.FormatCMS.String(), block.FormatJWE.String(), block.Format(0).String()}
	if !slices.Equal(names, []string{"age", "cms", "jwe", "format 0"}) {
		t.Errorf("names %q", names)
	}
}

func TestWrapShapes(t *testing.T) {
	k, h := newKey(t), newHybrid(t)
	tagRef := func(w block.Wrap) block.Ref { return w.Ref() }
	p, err := block.Seal(block.SuiteP256Tag, k.PublicKey(), make([]byte, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := block.Seal(block.SuiteECDHES, k.PublicKey(), make([]byte, 16), []byte{0, 0, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	q, err := block.Seal(block.SuiteHybrid, h.Public(), make([]byte, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	ski, _ := block.SKIRef([]byte{1})
	for name, try := range map[string]func() (block.Wrap, error){
		"our suite by key identifier": func() (block.Wrap, error) { return block.NewWrap(block.SuiteHybrid, ski, q.Enc(), q.Body(), nil) },
		"tag by key identifier":       func() (block.Wrap, error) { return block.NewWrap(block.SuiteP256Tag, ski, p.Enc(), p.Body(), nil) },
		"CMS by tag": func() (block.Wrap, error) {
			return block.NewWrap(block.SuiteECDHES, tagRef(p), x.Enc(), x.Body(), x.Context())
		},
		"no name": func() (block.Wrap, error) {
			return block.NewWrap(block.SuiteECDHES, block.Ref{}, x.Enc(), x.Body(), x.Context())
		},
		"shared info where none is": func() (block.Wrap, error) {
			return block.NewWrap(block.SuiteP256Tag, p.Ref(), p.Enc(), p.Body(), x.Context())
		},
		"no shared info": func() (block.Wrap, error) { return block.NewWrap(block.SuiteECDHES, x.Ref(), x.Enc(), x.Body(), nil) },
		"RSA with encapsulated key": func() (block.Wrap, error) {
			return block.NewWrap(block.SuiteOAEP, ski, x.Enc(), make([]byte, 256), nil)
		},
		"hybrid with a point": func() (block.Wrap, error) { return block.NewWrap(block.SuiteHybrid, q.Ref(), p.Enc(), q.Body(), nil) },
		"wrapped key of 20 bytes": func() (block.Wrap, error) {
			return block.NewWrap(block.SuiteECDHES, x.Ref(), x.Enc(), make([]byte, 28), x.Context())
		},
		"unknown suite":               func() (block.Wrap, error) { return block.NewWrap(99, x.Ref(), x.Enc(), x.Body(), x.Context()) },
		"a tag to an RSA key's suite": func() (block.Wrap, error) { return block.Seal(block.SuiteOAEP, k.PublicKey(), make([]byte, 16), nil) },
		"a stanza with 32 bytes": func() (block.Wrap, error) {
			return block.Seal(block.SuiteP256Tag, k.PublicKey(), make([]byte, 32), nil)
		},
		"a key of 17 bytes": func() (block.Wrap, error) {
			return block.Seal(block.SuiteECDHES, k.PublicKey(), make([]byte, 17), []byte{0, 0, 1, 0})
		},
		"48 bytes in a wrap of CMS": func() (block.Wrap, error) {
			return block.Seal(block.SuiteECDHX963, k.PublicKey(), make([]byte, 48), []byte{0, 0, 1, 0})
		},
		"the suite of half of the key": func() (block.Wrap, error) { return block.Seal(block.SuiteP256Tag, h.Public(), make([]byte, 16), nil) },
	} {
		if w, err := try(); err == nil || w.Suite() != 0 {
			t.Errorf("%s: %v is accepted", name, w.Suite())
		}
	}
	for s := block.SuiteP256; s <= block.SuiteECDHESP384; s++ {
		if got, err := block.ParseSuite(s.String()); err != nil || got != s || !s.Opens(s) || s.Opens(0) || block.Suite(0).Opens(s) {
			t.Errorf("ParseSuite(%q) = %v, %v", s, got, err)
		}
	}
}

// TestReasonsOnce: an error gives every reason why there is no wrap, each once, wherever it stands.
func TestReasonsOnce(t *testing.T) {
	var c block.Candidates
	for _, why := range []string{"b", "a", "b"} {
		c.Add(block.Wrap{}, errors.New(why))
	}
	if e, err := c.Envelope(block.FormatJWE, []byte("head")); err == nil || e.Format() != 0 || !strings.HasSuffix(err.Error(), ": a; b") {
		t.Errorf("Envelope = %v; want a; b", err)
	}
	w, err := block.Seal(block.SuiteECDHES, newKey(t).PublicKey(), make([]byte, 48), []byte{0, 0, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	c.Add(w, nil)
	if e, err := c.Envelope(block.FormatJWE, []byte("head")); err != nil || len(e.Wraps()) != 1 {
		t.Errorf("Envelope with one wrap: %d, %v", len(e.Wraps()), err)
	}
	for range block.MaxWraps {
		c.Add(w, nil)
	}
	if _, err := c.Envelope(block.FormatJWE, []byte("head")); err == nil || !strings.Contains(err.Error(), "more than 64") {
		t.Errorf("Envelope with more wraps than fit: %v", err)
	}
}
