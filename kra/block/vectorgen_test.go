package block_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

// writeVectors makes the blocks and keys that are missing: to make one anew, remove it.
func writeVectors(t *testing.T) {
	g := &vectors{t: t, keys: map[string]crypto.PrivateKey{}, old: map[string]vector{}}
	if raw, err := os.ReadFile(filepath.Join(vectorDir, "vectors.json")); err == nil {
		var old []vector
		if err := json.Unmarshal(raw, &old); err != nil {
			t.Fatal(err)
		}
		for _, v := range old {
			g.old[v.File] = v
		}
	}
	for _, name := range []string{"p256", "p256-second", "p256-third", "p384", "rsa2048", "rsa3072", "rsa4096", "hybrid"} {
		g.keys[name] = writeKey(t, name)
	}
	g.good()
	g.bad()
	g.tagged()
	raw, err := json.MarshalIndent(g.all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	g.write("vectors.json", append(raw, '\n'))
}

type vectors struct {
	t    *testing.T
	keys map[string]crypto.PrivateKey
	all  []vector
	old  map[string]vector
}

func (g *vectors) write(name string, b []byte) {
	if err := os.WriteFile(filepath.Join(vectorDir, name), b, 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func (g *vectors) recipient(name string) age.Recipient {
	r, err := block.NewRecipient(publicOf(g.keys[name]))
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *vectors) encrypt(payload []byte, to ...age.Recipient) []byte {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err == nil {
		_, err = w.Write(payload)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return b.Bytes()
}

// add writes a block that keys open, and returns it.
func (g *vectors) add(file string, payload []byte, keys []string, to ...age.Recipient) string {
	for _, k := range keys {
		to = append(to, g.recipient(k))
	}
	return g.addTo(file, payload, keys, to...)
}

// addTo is add where to is all recipients.
func (g *vectors) addTo(file string, payload []byte, keys []string, to ...age.Recipient) string {
	raw := g.encrypt(payload, to...)
	h, _, err := block.ParseHeader(bytes.NewReader(raw), block.MaxHeader)
	if err != nil {
		g.t.Fatal(err)
	}
	fileKey, err := openWith(g.keys[keys[0]], h)
	if err != nil {
		g.t.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	g.put(vector{File: file, Expect: "opens", Wraps: wrapsOf(h), Keys: keys,
		FileKey: hex.EncodeToString(fileKey), Payload: hex.EncodeToString(sum[:])}, string(raw))
	return string(raw)
}

func wrapsOf(h block.Header) (out []string) {
	for _, w := range h.Wraps() {
		out = append(out, wrapName(w))
	}
	return out
}

func (g *vectors) put(v vector, raw string) {
	if old, ok := g.old[v.File]; ok {
		if _, err := os.Stat(filepath.Join(vectorDir, v.File)); err == nil {
			g.all = append(g.all, old)
			return
		}
	}
	g.all = append(g.all, v)
	g.write(v.File, []byte(raw))
}

func (g *vectors) refuse(file, why, raw string) {
	g.put(vector{File: file, Expect: "refused", Why: why}, raw)
}

func (g *vectors) good() {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		g.t.Fatal(err)
	}
	g.add("p256.age", []byte("The quick brown fox.\n"), []string{"p256"})
	g.add("p256-empty.age", nil, []string{"p256"})
	g.add("p256-two-chunks.age", bytes.Repeat([]byte{0x5a}, 64<<10+1), []string{"p256"})
	g.add("rsa2048.age", []byte("two thousand and forty-eight\n"), []string{"rsa2048"})
	g.add("rsa3072.age", []byte("three thousand and seventy-two\n"), []string{"rsa3072"})
	g.add("rsa4096.age", []byte("four thousand and ninety-six\n"), []string{"rsa4096"})
	g.add("p384.age", []byte("The quick brown fox, on P-384.\n"), []string{"p384"})
	g.add("three-keys.age", []byte("any one opens\n"), []string{"p256", "rsa3072", "p256-second"})
	g.add("mixed.age", []byte("an ordinary recipient beside a key-release key\n"), []string{"p256"}, x.Recipient())
	g.add("future-suite.age", []byte("a suite of a later version passes through\n"), []string{"p256"}, foreign{"kra", "p521", "anything"})
	g.add("foreign-stanza.age", []byte("a stanza of somebody else\n"), []string{"p256"}, foreign{"example.com/other", "#1"})
	g.add("same-key-twice.age", []byte("wasteful, not wrong\n"), []string{"p256"}, g.recipient("p256"))
}

// foreign is a recipient of a type that block does not know.
type foreign []string

func (f foreign) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: f[0], Args: f[1:], Body: bytes.Repeat([]byte{7}, 48)}}, nil
}

func (g *vectors) bad() {
	one := string(g.encrypt([]byte("one"), g.recipient("p256")))
	two := string(g.encrypt([]byte("two"), g.recipient("p256-second")))
	rsa := string(g.encrypt([]byte("rsa"), g.recipient("rsa2048")))
	head := one[:strings.Index(one, "\n--- ")+5+43+1]
	first, body, mac := strings.SplitN(one, "\n", 5)[1], strings.SplitN(one, "\n", 5)[2], strings.SplitN(one, "\n", 5)[3]
	words := strings.Fields(first)
	build := func(lines ...string) string { return "age-encryption.org/v1\n" + strings.Join(lines, "\n") + "\n" }

	spliced := stanzaOf(two) + strings.TrimPrefix(one, "age-encryption.org/v1\n")
	g.macFails("spliced-foreign.age", []string{"p256", "p256-second"}, "age-encryption.org/v1\n"+spliced)
	g.macFails("stanza-removed.age", []string{"p256"}, remove(g, "p256"))
	g.macFails("mac-changed.age", []string{"p256"}, strings.Replace(one, mac, "--- "+strings.Repeat("A", 43), 1))
	g.macFails("unknown-stanza-added.age", []string{"p256"}, strings.Replace(one, "v1\n", "v1\n-> x\n\n", 1))
	g.put(vector{File: "body-changed.age", Expect: "wrap", Wraps: []string{p256Name(g, "p256")}, Keys: []string{"p256"}}, strings.Replace(one, body, flip(body), 1))
	g.put(vector{File: "key-id-changed.age", Expect: "wrap", Wraps: []string{p256Name(g, "p256-second")}, Keys: []string{"p256", "p256-second"}},
		strings.Replace(one, words[3], keyWord(g, "p256-second"), 1))

	g.refuse("empty.age", "not an age v1 file", "")
	g.refuse("version-two.age", "not an age v1 file", strings.Replace(one, "/v1", "/v2", 1))
	g.refuse("armored.age", "not an age v1 file", "-----BEGIN AGE ENCRYPTED FILE-----\n")
	g.refuse("cut-in-stanza.age", "cut short", head[:80])
	g.refuse("cut-in-mac.age", "cut short", head[:len(head)-1])
	g.refuse("no-stanza.age", "no stanza", build(mac))
	g.refuse("crlf.age", "not an age v1 file", strings.ReplaceAll(head, "\n", "\r\n"))
	g.refuse("crlf-stanza.age", "words", strings.Replace(one, first, first+"\r", 1))
	g.refuse("two-spaces.age", "words", strings.Replace(one, "-> kra ", "-> kra  ", 1))
	g.refuse("space-at-end.age", "words", strings.Replace(one, first, first+" ", 1))
	g.refuse("tab.age", "words", strings.Replace(one, "-> kra p256", "-> kra\tp256", 1))
	g.refuse("no-type.age", "words", build("-> ", "", mac))
	g.refuse("body-padded.age", "base64", build(first, body+"=", mac))
	g.refuse("body-bits.age", "base64", build(first, loose(body), mac))
	g.refuse("body-long-line.age", "base64", build("-> x", strings.Repeat("A", 68), "", mac))
	g.refuse("body-not-ended.age", "base64", build("-> x", strings.Repeat("A", 64), mac))
	g.refuse("mac-short.age", "MAC", build(first, body, mac[:len(mac)-4]))
	g.refuse("mac-bits.age", "MAC", build(first, body, loose(mac)))
	g.refuse("mac-two-words.age", "MAC", build(first, body, mac+" A"))
	g.refuse("no-suite.age", "suite", build("-> kra", body, mac))
	g.refuse("no-key-id.age", "words", build("-> kra p256", body, mac))
	g.refuse("policy-argument.age", "5 words", build(first+" legal-team", body, mac))
	g.refuse("key-id-short.age", "key id", build(strings.Replace(first, words[3], words[3][:40], 1), body, mac))
	g.refuse("key-id-zero.age", "zero", build(strings.Replace(first, words[3], strings.Repeat("A", 43), 1), body, mac))
	g.refuse("point-off-curve.age", "encapsulated", build(strings.Replace(first, words[4], offCurve(words[4]), 1), body, mac))
	g.refuse("point-compressed.age", "length", build(strings.Replace(first, words[4], words[4][:44], 1), body, mac))
	g.refuse("body-short.age", "length", build(first, body[:40], mac))
	g.refuse("rsa-with-enc.age", "4 words", strings.Replace(rsa, "-> kra rsa-oaep "+keyWord(g, "rsa2048"), "-> kra rsa-oaep "+keyWord(g, "rsa2048")+" AAAA", 1))
	g.refuse("rsa-short.age", "length", build("-> kra rsa-oaep "+keyWord(g, "rsa2048"), body, mac))
	g.refuse("scrypt-not-alone.age", "scrypt", build("-> scrypt AAAA 18", body, first, body, mac))
	g.refuse("65-wraps.age", "known suites", build(strings.Repeat(first+"\n"+body+"\n", 64)+first, body, mac))
	g.refuse("1025-stanzas.age", "too many stanzas", build(strings.Repeat("-> x\n\n", 1024)+"-> x", "", mac))
	g.refuse("too-long.age", "longer", build("-> x", strings.Repeat(strings.Repeat("A", 64)+"\n", 1100), mac))
}

func (g *vectors) macFails(file string, keys []string, raw string) {
	h, _, err := block.ParseHeader(strings.NewReader(raw), block.MaxHeader)
	if err != nil {
		g.t.Fatal(err)
	}
	g.put(vector{File: file, Expect: "mac", Wraps: wrapsOf(h), Keys: keys}, raw)
}

func keyWord(g *vectors, name string) string {
	id, err := block.KeyIDOf(publicOf(g.keys[name]))
	if err != nil {
		g.t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodeToString(id[:])
}

func p256Name(g *vectors, name string) string {
	id, _ := block.KeyIDOf(publicOf(g.keys[name]))
	return fmt.Sprintf("p256 %v", id)
}

// stanzaOf returns the first stanza of a block.
func stanzaOf(raw string) string {
	l := strings.SplitN(raw, "\n", 4)
	return l[1] + "\n" + l[2] + "\n"
}

// remove returns a block to two keys with the stanza of the second taken out.
func remove(g *vectors, keep string) string {
	raw := string(g.encrypt([]byte("two"), g.recipient(keep), g.recipient("p256-second")))
	l := strings.SplitN(raw, "\n", 6)
	return strings.Join([]string{l[0], l[1], l[2], l[5]}, "\n")
}

// flip changes the first character of a base64 word.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// loose sets a trailing bit that the encoding leaves zero.
func loose(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i|1])
}

func offCurve(word string) string {
	b, _ := base64.RawStdEncoding.DecodeString(word)
	b[64] ^= 1
	return base64.RawStdEncoding.EncodeToString(b)
}
