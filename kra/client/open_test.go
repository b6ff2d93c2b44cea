package client_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/policy"
)

func TestNoPlaintextBeforeTheHeaderIsVerified(t *testing.T) {
	mine := identity(t)
	h, rest, err := client.ReadHeader(bytes.NewReader(encrypt(t, "secret", mine.Recipient())))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := block.NewFileKey(make([]byte, block.FileKeySize))
	if err != nil {
		t.Fatal(err)
	}
	read := &counting{r: rest}
	var damaged *client.Damaged
	if r, err := client.Payload(h, read, wrong); !errors.As(err, &damaged) || r != nil || read.n != 0 {
		t.Errorf("Payload with another key = %v, %v after %d bytes; want it refused before any", r, err, read.n)
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func TestDamagedBlocks(t *testing.T) {
	mine := identity(t)
	text := strings.Repeat("0123456789abcdef", 10<<10) // three chunks
	raw := encrypt(t, text, mine.Recipient())
	o := opener(t, client.AskNever, nil, mine)
	if got, _, err := decrypt(t.Context(), o, raw); err != nil || got != text {
		t.Fatal(err)
	}
	start := bytes.Index(raw, []byte("\n--- ")) + 49
	chunk := 64<<10 + 16
	for _, n := range []int{0, 1, 30, start - 1, start, start + 15, start + 16, start + 17, start + 16 + chunk, start + 16 + chunk + 1, start + 16 + 2*chunk, len(raw) - 1} {
		checkDamaged(t, fmt.Sprintf("cut to %d", n), o, raw[:n], text)
	}
	for _, n := range []int{0, 25, 80, start - 3, start, start + 20, len(raw) - 1} {
		bad := bytes.Clone(raw)
		bad[n] ^= 1
		checkDamaged(t, fmt.Sprintf("byte %d changed", n), o, bad, text)
	}
	checkDamaged(t, "something appended", o, append(bytes.Clone(raw), 0), text)
}

// checkDamaged asserts the kind of the error, and that what was read before is a part of the plaintext.
func checkDamaged(t *testing.T, name string, o *client.Opener, raw []byte, text string) {
	t.Helper()
	got, _, err := decrypt(t.Context(), o, raw)
	var damaged *client.Damaged
	if !errors.As(err, &damaged) && !errors.Is(err, client.ErrNotAsked) && !errors.Is(err, client.ErrNoKey) {
		t.Errorf("%s: %v; want it damaged", name, err)
	}
	if !strings.HasPrefix(text, got) {
		t.Errorf("%s: plaintext that was not encrypted", name)
	}
}

func TestFaultyDiskIsNotADamagedBlock(t *testing.T) {
	mine := identity(t)
	raw := encrypt(t, strings.Repeat("x", 200<<10), mine.Recipient())
	fault := errors.New("input/output error")
	for _, n := range []int{10, 250, 100 << 10} {
		src := io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(fault))
		h, rest, err := client.ReadHeader(src)
		if err == nil {
			answers, _ := opener(t, client.AskNever, nil, mine).Open(t.Context(), []block.Header{h})
			var r io.Reader
			if r, err = client.Payload(h, rest, answers[0].Release.Key); err == nil {
				_, err = io.Copy(io.Discard, r)
			}
		}
		var damaged *client.Damaged
		if !errors.Is(err, fault) || errors.As(err, &damaged) {
			t.Errorf("fault after %d bytes: %v; want the fault itself", n, err)
		}
	}
}

func TestEncryptRefusesAndMerges(t *testing.T) {
	a := newAgent(t)
	keys := to(t, as(t, a, ""), []kra.AccessID{"legal-team", "legal-team", "board"})
	h, _, err := client.ReadHeader(bytes.NewReader(encrypt(t, "x", keys...)))
	if err != nil || len(h.Wraps()) != 2 {
		t.Errorf("a key that is named twice: %d wraps, %v; want 2", len(h.Wraps()), err)
	}
	if _, err := client.Encrypt(io.Discard); err == nil {
		t.Error("Encrypt to nobody")
	}
	var many []age.Recipient
	for range block.MaxWraps {
		many = append(many, freshKey(t))
	}
	if h, _, err := client.ReadHeader(bytes.NewReader(encrypt(t, "x", many...))); err != nil || len(h.Wraps()) != block.MaxWraps {
		t.Errorf("%d keys: %v", len(many), err)
	}
	if _, err := client.Encrypt(io.Discard, append(many, freshKey(t))...); err == nil {
		t.Errorf("a block to %d keys is made, which no agent would read", len(many)+1)
	}
}

func freshKey(t *testing.T) block.Recipient {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := block.NewRecipient(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHeaderKnowsNoReaders encrypts for 10 and for 100,000 who may read, and lets the last of them in.
func TestHeaderKnowsNoReaders(t *testing.T) {
	key := freshKey(t)
	sizes := map[int]int{}
	for _, readers := range []int{10, 100_000} {
		book := bookOf(t, key.KeyID(), readers)
		h, _, err := client.ReadHeader(bytes.NewReader(encrypt(t, "x", key)))
		if err != nil {
			t.Fatal(err)
		}
		sizes[readers] = len(h.Bytes())
		last, err := kra.ParseDecryptor(fmt.Sprintf("corp:CN=u%d", readers-1))
		if err != nil {
			t.Fatal(err)
		}
		facts := policy.Facts{Decryptor: last, Source: netip.MustParseAddr("192.0.2.1"), Channel: policy.Authenticated}
		if _, err := book.Decide(policy.Request{Envelope: block.EnvelopeOf(h), Facts: facts}, time.Now()); err != nil {
			t.Errorf("the last of %d readers: %v", readers, err)
		}
	}
	if sizes[10] != sizes[100_000] {
		t.Errorf("header has %d bytes for 10 readers and %d for 100,000", sizes[10], sizes[100_000])
	}
}

func bookOf(t *testing.T, key block.KeyID, readers int) *policy.Book {
	t.Helper()
	d := policy.Definition{Rules: []policy.RuleDef{{Name: "readers", Expr: `groups.has("readers")`}},
		Access: []policy.AccessDef{{ID: "legal-team", Title: "Legal team", Keys: []block.KeyID{key}, Lists: []string{"readers"}}},
		Groups: []policy.GroupDef{{Name: "readers"}}}
	for i := range readers {
		d.Groups[0].Members = append(d.Groups[0].Members, fmt.Sprintf("corp:CN=u%d", i))
	}
	b, err := policy.Compile(1, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
