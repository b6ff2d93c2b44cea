package block_test

import (
	"strings"

	"filippo.io/age"
	"filippo.io/age/tag"

	"github.com/keyrelease/krabox/kra/block"
)

// stock is the recipient as age itself has it.
func (g *vectors) stock(name string) age.Recipient {
	s, err := block.AgeRecipient(publicOf(g.keys[name]))
	if err != nil {
		g.t.Fatal(err)
	}
	r, err := tag.ParseRecipient(s)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// tagged writes the blocks of stock age, and of hybrid keys.
func (g *vectors) tagged() {
	g.add("hybrid.age", []byte("both halves\n"), []string{"hybrid"})
	g.addTo("p256tag.age", []byte("stock age\n"), []string{"p256"}, g.stock("p256"))
	g.addTo("hybrid-tag.age", []byte("stock age, after quantum computers\n"), []string{"hybrid"}, g.stock("hybrid"))
	g.addTo("tags-and-kra.age", []byte("any one opens\n"), []string{"p256", "p256-second", "p256-third"},
		g.stock("p256"), g.recipient("p256-second"), g.stock("p256-third"))

	one := string(g.encrypt([]byte("one"), g.stock("p256")))
	two := string(g.encrypt([]byte("two"), g.stock("p256-second")))
	pq := string(g.encrypt([]byte("pq"), g.stock("hybrid")))
	g.macFails("tag-foreign.age", []string{"p256", "p256-second"}, "age-encryption.org/v1\n"+stanzaOf(two)+strings.TrimPrefix(one, "age-encryption.org/v1\n"))
	g.macFails("tag-removed.age", []string{"p256"}, g.tagRemoved())
	g.macFails("tags-swapped.age", []string{"p256", "p256-second"}, g.tagsSwapped())

	l := strings.SplitN(one, "\n", 5)
	words, body, mac := strings.Fields(l[1]), l[2], l[3]
	build := func(words []string, body string) string {
		return "age-encryption.org/v1\n" + strings.Join(words, " ") + "\n" + body + "\n" + mac + "\n"
	}
	g.refuse("tag-without-key.age", "2 words", build(words[:3], body))
	g.refuse("tag-words-after.age", "4 words", build(append(words[:4:4], "legal-team"), body))
	g.refuse("tag-of-five-bytes.age", "4 bytes", build([]string{words[0], words[1], "AAAAAAA", words[3]}, body))
	g.refuse("tag-loose-bits.age", "tag", build([]string{words[0], words[1], loose(words[2]), words[3]}, body))
	g.refuse("tag-point-off-curve.age", "encapsulated", build([]string{words[0], words[1], words[2], offCurve(words[3])}, body))
	g.refuse("tag-body-short.age", "length", build(words, body[:40]))
	g.refuse("tag-as-hybrid.age", "length", build([]string{words[0], "mlkem768p256tag", words[2], words[3]}, body))
	h := strings.Fields(strings.SplitN(pq, "\n", 3)[1])
	g.refuse("hybrid-as-tag.age", "length", build([]string{words[0], "p256tag", h[2], h[3]}, body))
	g.refuse("hybrid-tag-cut.age", "length", build([]string{words[0], h[1], h[2], h[3][:len(h[3])-2]}, body))
}

func (g *vectors) two() []string {
	return strings.SplitN(string(g.encrypt([]byte("two"), g.stock("p256"), g.stock("p256-second"))), "\n", 6)
}

func (g *vectors) tagRemoved() string {
	l := g.two()
	return strings.Join([]string{l[0], l[1], l[2], l[5]}, "\n")
}

func (g *vectors) tagsSwapped() string {
	l := g.two()
	return strings.Join([]string{l[0], l[3], l[4], l[1], l[2], l[5]}, "\n")
}
