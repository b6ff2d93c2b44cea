package block_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/tag"

	"github.com/keyrelease/krabox/kra/block"
)

func tagged(t testing.TB, pub crypto.PublicKey) block.Tagged {
	t.Helper()
	k, err := block.NewTagged(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func stock(t testing.TB, pub crypto.PublicKey) *tag.Recipient {
	t.Helper()
	s, err := block.AgeRecipient(pub)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tag.ParseRecipient(s)
	if err != nil || r.String() != s {
		t.Fatalf("age reads %.20s as %v, %v", s, r, err)
	}
	return r
}

// TestTagsAreAges takes age's own package as the oracle, and a crowd of keys.
func TestTagsAreAges(t *testing.T) {
	p, h := newKey(t), newHybrid(t)
	among := []block.Tagged{}
	for range 20 {
		among = append(among, tagged(t, newKey(t).PublicKey()), tagged(t, newHybrid(t).Public()))
	}
	for _, pub := range []crypto.PublicKey{p.PublicKey(), h.Public()} {
		header, _ := parse(t, encrypt(t, "x", stock(t, pub)))
		w := header.Wraps()[0]
		if w.Ref().Kind() != block.RefTag || !w.KeyID().IsZero() {
			t.Fatalf("a tag names key %v by %v", w.KeyID(), w.Ref())
		}
		if got := block.MatchTag(w, among); len(got) != 0 {
			t.Errorf("tag of a stranger matches %v", got)
		}
		id, _ := block.KeyIDOf(pub)
		crowd := slices.Concat(among[:7], []block.Tagged{tagged(t, pub)}, among[7:])
		if got := block.MatchTag(w, crowd); !slices.Equal(got, []block.KeyID{id}) {
			t.Errorf("tag matches %v, want %v", got, id)
		}
		if got := w.Named(id); got.KeyID() != id || !w.KeyID().IsZero() {
			t.Errorf("Named = %v, and the wrap before it has %v", got.KeyID(), w.KeyID())
		}
	}
	// The hybrid tag is of the P-256 half alone, under another salt: the half itself does not match.
	header, _ := parse(t, encrypt(t, "x", stock(t, h.Public())))
	if got := block.MatchTag(header.Wraps()[0], []block.Tagged{tagged(t, h.ec.PublicKey()), {}}); len(got) != 0 {
		t.Errorf("half of a hybrid key matches: %v", got)
	}
	ours, _ := parse(t, encrypt(t, "x", recipient(t, p)))
	if got := block.MatchTag(ours.Wraps()[0], []block.Tagged{tagged(t, p.PublicKey())}); len(got) != 0 {
		t.Errorf("a wrap with a key id matches a tag: %v", got)
	}
	if got := ours.Wraps()[0]; got.Named(block.KeyID{9}).KeyID() != got.KeyID() {
		t.Error("a wrap that names its key can be renamed")
	}
}

// TestSealedTag: what Seal makes is what age makes.
func TestSealedTag(t *testing.T) {
	for s, pub := range map[block.Suite]crypto.PublicKey{block.SuiteP256Tag: newKey(t).PublicKey(), block.SuiteHybridTag: newHybrid(t).Public()} {
		w, err := block.Seal(s, pub, make([]byte, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := stock(t, pub).Tag(w.Enc())
		if err != nil || !strings.HasSuffix(w.Ref().String(), ":"+hexOf(raw)) || w.Stanza().Type != s.String() {
			t.Errorf("%v: %v, age's tag is %x, %v", s, w.Ref(), raw, err)
		}
	}
}

// TestSubstitutedStanzas: a stanza that is removed, added, exchanged with another block's, or moved is found under the
// key that is about to be released, with tags as with key ids.
func TestSubstitutedStanzas(t *testing.T) {
	a, b := newKey(t), newKey(t)
	for name, to := range map[string][2]age.Recipient{
		"tags":    {stock(t, a.PublicKey()), stock(t, b.PublicKey())},
		"key ids": {recipient(t, a), recipient(t, b)},
		"mixed":   {stock(t, a.PublicKey()), recipient(t, b)},
	} {
		one, two := lines(encrypt(t, "one", to[0], to[1])), lines(encrypt(t, "two", to[0], to[1]))
		for change, l := range map[string][][]byte{
			"whole":                one,
			"first removed":        slices.Concat(one[:1], one[3:]),
			"second removed":       slices.Concat(one[:3], one[5:]),
			"swapped":              slices.Concat(one[:1], one[3:5], one[1:3], one[5:]),
			"foreign added":        slices.Concat(one[:5], two[1:3], one[5:]),
			"foreign in front":     slices.Concat(one[:1], two[1:5], one[1:]),
			"second exchanged":     slices.Concat(one[:3], two[3:5], one[5:]),
			"same added":           slices.Concat(one[:5], one[1:3], one[5:]),
			"unknown added":        slices.Concat(one[:5], [][]byte{[]byte("-> x\n"), []byte("\n")}, one[5:]),
			"MAC of another block": slices.Concat(one[:5], two[5:]),
		} {
			h, err := block.ParseHeaderBytes(bytes.Join(l, nil))
			if err != nil {
				t.Fatalf("%s, %s: %v", name, change, err)
			}
			opened := 0
			for _, k := range []crypto.PrivateKey{a, b} {
				for _, w := range h.Wraps() {
					key, err := openAny(k, w)
					if err != nil {
						continue
					}
					opened++
					if fits := block.EnvelopeOf(h).Check(key) == nil; fits != (change == "whole") {
						t.Errorf("%s, %s: fits %v", name, change, fits)
					}
				}
			}
			if opened == 0 {
				t.Errorf("%s, %s: nothing opened: nothing was tested", name, change)
			}
		}
	}
}

// lines are the five lines of a header with two stanzas, and its MAC.
func lines(raw []byte) [][]byte { return bytes.SplitAfterN(raw, []byte("\n"), 7)[:6] }

func openAny(key crypto.PrivateKey, w block.Wrap) ([]byte, error) {
	return openWrap(key, name(w, publicOf(key)))
}

// TestHybridIsNotMixed: nobody beside a hybrid key gives the file key to a quantum computer.
func TestHybridIsNotMixed(t *testing.T) {
	h, err := block.NewRecipient(newHybrid(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	if w, err := age.Encrypt(&bytes.Buffer{}, h, recipient(t, newKey(t))); err == nil {
		t.Errorf("a hybrid key beside a P-256 key: %v, want a refusal", w)
	}
	for name, beside := range map[string]age.Recipient{"age's tagged hybrid": stock(t, newHybrid(t).Public()), "another": h} {
		if _, err := age.Encrypt(&bytes.Buffer{}, h, beside); err != nil {
			t.Errorf("a hybrid key beside %s: %v", name, err)
		}
	}
}

func TestAgeRecipientRefused(t *testing.T) {
	p, err := block.AgeRecipient(newKey(t).PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{"upper case": strings.ToUpper(p), "cut": p[:len(p)-1], "X25519": x.Recipient().String(), "nothing": "",
		"changed": p[:20] + "q" + p[21:] + "q", "another plugin": "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"} {
		if _, err := block.ParseAgeRecipient(s); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := block.AgeRecipient(r.Public()); err == nil {
		t.Error("an RSA key has a tagged recipient")
	}
	if _, err := block.NewTagged(r.Public()); err == nil {
		t.Error("an RSA key has tags")
	}
}

// BenchmarkMatchTag is the cost of one stock stanza with as many tagged keys as there may be.
func BenchmarkMatchTag(b *testing.B) {
	for name, pub := range map[string]crypto.PublicKey{"p256": newKey(b).PublicKey(), "hybrid": newHybrid(b).Public()} {
		b.Run(name, func(b *testing.B) {
			h, _ := parse(b, encrypt(b, "x", stock(b, pub)))
			among := slices.Repeat([]block.Tagged{tagged(b, pub)}, block.MaxTagged)
			for b.Loop() {
				if len(block.MatchTag(h.Wraps()[0], among)) != block.MaxTagged {
					b.Fatal("no match")
				}
			}
		})
	}
}
