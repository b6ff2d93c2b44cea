package block_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

func newKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func recipient(t testing.TB, k *ecdh.PrivateKey) block.Recipient {
	t.Helper()
	r, err := block.NewRecipient(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func encrypt(t testing.TB, payload string, to ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err == nil {
		_, err = io.WriteString(w, payload)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parse(t testing.TB, raw []byte) (block.Header, []byte) {
	t.Helper()
	h, r, err := block.ParseHeader(bytes.NewReader(raw), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return h, rest
}

func TestTwoPortions(t *testing.T) {
	raw := encrypt(t, "payload", recipient(t, newKey(t)))
	h, ciphertext := parse(t, raw)
	if got := slices.Concat(h.Bytes(), ciphertext); !bytes.Equal(got, raw) {
		t.Error("header portion and ciphertext portion are not the block")
	}
	if want := 16 + len("payload") + 16; len(ciphertext) != want {
		t.Errorf("ciphertext portion has %d bytes; want %d", len(ciphertext), want)
	}
	if _, err := block.ParseHeaderBytes(raw); err == nil {
		t.Error("ParseHeaderBytes takes a header with a payload behind it")
	}
}

func TestFreshFileKey(t *testing.T) {
	k := newKey(t)
	seen := map[string]bool{}
	for range 50 {
		h, ciphertext := parse(t, encrypt(t, "same payload", recipient(t, k)))
		key, err := block.OpenEC(k, h.Wraps()[0])
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(key)] || seen[string(ciphertext)] {
			t.Fatal("file key or ciphertext repeats")
		}
		seen[string(key)], seen[string(ciphertext)] = true, true
	}
}

// counted counts the public key operations of an encryption.
type counted struct {
	block.Recipient
	n *int
}

func (c counted) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	*c.n++
	return c.Recipient.WrapWithLabels(fileKey)
}

func TestOnePublicKeyOperationPerKey(t *testing.T) {
	n := 0
	to := counted{recipient(t, newKey(t)), &n}
	w, err := age.Encrypt(io.Discard, to, to, to)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || n != 3 {
		t.Errorf("64 MiB to 3 keys = %d public key operations, %v; want 3", n, err)
	}
}

func TestAnyKeyOpens(t *testing.T) {
	keys := []*ecdh.PrivateKey{newKey(t), newKey(t), newKey(t)}
	raw := encrypt(t, "x", recipient(t, keys[0]), recipient(t, keys[1]), recipient(t, keys[2]))
	h, _ := parse(t, raw)
	if len(h.Wraps()) != len(keys) {
		t.Fatalf("%d entries; want %d", len(h.Wraps()), len(keys))
	}
	for i, k := range keys {
		w := h.Wraps()[i]
		if id, _ := block.KeyIDOf(k.PublicKey()); w.KeyID() != id {
			t.Errorf("entry %d names key %v; want %v", i, w.KeyID(), id)
		}
		key, err := block.OpenEC(k, w)
		if err != nil || h.VerifyMAC(key) != nil {
			t.Errorf("key %d does not open its entry: %v", i, err)
		}
		if _, err := block.OpenEC(k, h.Wraps()[(i+1)%3]); err == nil {
			t.Errorf("key %d opens an entry of another", i)
		}
	}
}

func TestNoPolicyInBlock(t *testing.T) {
	h, _ := parse(t, encrypt(t, "x", recipient(t, newKey(t)), recipient(t, newKey(t))))
	only := regexp.MustCompile(`^age-encryption.org/v1\n(-> kra p256 [A-Za-z0-9+/]{43} [A-Za-z0-9+/]{87}\n[A-Za-z0-9+/]{43}\n){2}--- [A-Za-z0-9+/]{43}\n$`)
	if !only.Match(h.Bytes()) {
		t.Errorf("header carries more than key ids and wrapped keys:\n%s", h.Bytes())
	}
	for _, extra := range []string{" legal-team", " allow=alice", " AAAA"} {
		lines := strings.SplitAfterN(string(h.Bytes()), "\n", 3)
		bad := lines[0] + strings.TrimSuffix(lines[1], "\n") + extra + "\n" + lines[2]
		if _, err := block.ParseHeaderBytes([]byte(bad)); err == nil {
			t.Errorf("a stanza may carry %q", extra)
		}
	}
}

func TestForeignStanzasPassThrough(t *testing.T) {
	k := newKey(t)
	raw := encrypt(t, "x", foreign{"one", "#1"}, recipient(t, k), foreign{"kra", "p999", "of-a-later-version"})
	h, _ := parse(t, raw)
	if got, want := h.StanzaTypes(), []string{"one", "kra", "kra"}; !slices.Equal(got, want) {
		t.Errorf("StanzaTypes = %q; want %q", got, want)
	}
	if len(h.Wraps()) != 1 || !bytes.HasPrefix(raw, h.Bytes()) {
		t.Errorf("%d wraps; want 1, and the header as it was", len(h.Wraps()))
	}
}

func TestHeaderIsUnchangeable(t *testing.T) {
	raw := encrypt(t, "x", recipient(t, newKey(t)))
	h, _ := parse(t, raw)
	before := h.Hash()
	clear(h.Bytes())
	clear(h.Wraps())
	clear(h.StanzaTypes())
	h.Wraps()[0].Body()[0]++
	h.Wraps()[0].Enc()[0]++
	again, err := block.ParseHeaderBytes(h.Bytes())
	if err != nil || again.Hash() != before {
		t.Errorf("a caller can change a header: %v", err)
	}
}

func TestZeroValuesAreInert(t *testing.T) {
	if _, err := block.OpenEC(newKey(t), block.Wrap{}); err == nil {
		t.Error("the zero Wrap opens")
	}
	if err := (block.Header{}).VerifyMAC(make([]byte, block.FileKeySize)); !errors.Is(err, block.ErrMAC) {
		t.Errorf("zero Header VerifyMAC = %v; want ErrMAC", err)
	}
	if err := (block.FileKey{}).Use(func([]byte) error { return nil }); !errors.Is(err, block.ErrSpent) {
		t.Errorf("zero FileKey Use = %v; want ErrSpent", err)
	}
	if _, err := block.WrapFileKey(newKey(t).PublicKey(), make([]byte, 15)); err == nil {
		t.Error("a short file key is wrapped")
	}
}

func TestFileKeyIsUsedOnceAndCleared(t *testing.T) {
	secret := []byte("0123456789abcdef")
	k, err := block.NewFileKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k); strings.Contains(s, "0123") || strings.Contains(s, "3031") {
		t.Errorf("fmt shows the key: %s", s)
	}
	if err := k.Use(func(b []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret, make([]byte, 16)) {
		t.Error("the key is not cleared after use")
	}
	if err := k.Use(func([]byte) error { return nil }); !errors.Is(err, block.ErrSpent) {
		t.Errorf("second Use = %v; want ErrSpent", err)
	}
}

func BenchmarkParseHeader(b *testing.B) {
	h, _ := parse(b, encrypt(b, "x", recipient(b, newKey(b))))
	raw := h.Bytes()
	for b.Loop() {
		if _, err := block.ParseHeaderBytes(raw); err != nil {
			b.Fatal(err)
		}
	}
}
