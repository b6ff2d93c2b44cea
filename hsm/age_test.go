package hsm_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// stockAge builds age's own command as go.mod has it and returns its path.
func stockAge(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "age")
	if out, err := exec.Command("go", "build", "-o", path, "filippo.io/age/cmd/age").CombinedOutput(); err != nil {
		t.Fatalf("build age: %v\n%s", err, out)
	}
	return path
}

// TestStockAge encrypts with age's own command, to which no plugin is known, to keys in a token. One private-key
// operation in the token opens it.
func TestStockAge(t *testing.T) {
	program := stockAge(t)
	c, _ := hsmtest.New(t)
	for _, x := range []struct {
		kind   wire.Suite
		prefix string
		suite  block.Suite
	}{
		{wire.P256, "age1tag1", block.SuiteP256Tag},
		{wire.Hybrid, "age1tagpq1", block.SuiteHybridTag},
	} {
		k, other := custodyKey(t, c, x.kind, wire.Bound), custodyKey(t, c, x.kind, wire.Bound)
		pub := must(block.ParsePublicKey(k.SPKI))
		to := must(block.AgeRecipient(pub))
		if !strings.HasPrefix(to, x.prefix) {
			t.Fatalf("recipient %.20s, want %s...", to, x.prefix)
		}
		raw := encryptWith(t, program, "for "+to, to)
		h, rest, err := block.ParseHeader(bytes.NewReader(raw), block.MaxHeader)
		if err != nil {
			t.Fatal(err)
		}
		w := h.Wraps()[0]
		tagged := []block.Tagged{must(block.NewTagged(must(block.ParsePublicKey(other.SPKI)))), must(block.NewTagged(pub))}
		ids := block.MatchTag(w, tagged)
		if w.Suite() != x.suite || len(ids) != 1 || ids[0] != k.ID {
			t.Fatalf("%v: tag names %v, want %v", w.Suite(), ids, k.ID)
		}
		before := c.Uses()
		r, _ := unwrap(t, c, w.Named(ids[0]), w.Named(other.ID), w)
		if used := c.Uses() - before; used != 2 {
			t.Errorf("%v: %d private-key operations for two keys, want 2", x.suite, used)
		}
		if r[1].Err != wire.ErrUnwrap || r[2].Err != wire.ErrNoKey {
			t.Errorf("%v: another key: %v, no key: %v", x.suite, r[1].Err, r[2].Err)
		}
		key := keyOf(r[0])
		if err := block.EnvelopeOf(h).Check(key); err != nil {
			t.Fatalf("%v: %v, %v", x.suite, r[0].Err, err)
		}
		plain, err := age.Decrypt(io.MultiReader(bytes.NewReader(h.Bytes()), rest), age.NewInjectedFileKeyIdentity(key))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != "for "+to {
			t.Errorf("%v: plaintext %q, %v", x.suite, got, err)
		}
	}
}

// encryptWith runs age with nothing beside it in PATH.
func encryptWith(t *testing.T, program, text, to string) []byte {
	t.Helper()
	c := exec.Command(program, "-r", to)
	c.Env = []string{"PATH=" + filepath.Dir(program), "HOME=" + os.DevNull}
	c.Stdin = strings.NewReader(text)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("age -r %.20s...: %v\n%s", to, err, errs.String())
	}
	return out.Bytes()
}
