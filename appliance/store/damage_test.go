package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// TestDamagedFile flips bits and cuts the file everywhere: it opens as the very state it was, or not at all, and nothing
// that bbolt does about it ends the process.
func TestDamagedFile(t *testing.T) {
	b := newBench(t, AccessAdd{"legal-team", "Legal team"}, RuleAdd{"office", "true"}, GroupAdd{"legal", "corp:CN=alice"},
		TokenSet{map[string][]byte{"token.object": bytes.Repeat([]byte("x"), 5000)}})
	whole := b.copy(t)
	a, err := Open(b.path, testKey, b.nv.record)
	if err != nil {
		t.Fatal(err)
	}
	want := a.State().Root()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	refusals := 0
	for i := range 400 {
		data := bytes.Clone(whole)
		if i%10 == 0 {
			data = data[:random.IntN(len(data))]
		} else if i%10 == 1 {
			at := random.IntN(len(data)/4096) * 4096
			clear(data[at : at+4096])
		} else {
			data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}
		b.paste(t, data)
		a, err := Open(b.path, testKey, b.nv.record)
		if err != nil {
			refusals++
			var r *Rollback
			if !errors.Is(err, ErrDamaged) && !errors.As(err, &r) {
				t.Fatalf("damage %d: error %v; want ErrDamaged", i, err)
			}
			continue
		}
		if a.State().Root() != want {
			t.Fatalf("damage %d: another state was accepted", i)
		}
		a.Close()
	}
	if refusals < 50 {
		t.Errorf("%d of 400 damaged files were refused: the test damages nothing", refusals)
	}
}

// TestEditedRecordRefused edits what a bit flip would hardly hit: records that are whole in themselves.
func TestEditedRecordRefused(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	commit(t, s, AccessAdd{"a", ""})
	old := *s.file
	before := map[string][]byte{}
	read(t, &old, "access", before)
	commit(t, s, AccessTitle{"a", "new title"})
	after := map[string][]byte{}
	read(t, s.file, "access", after)
	for name := range before { // the older, properly sealed record in the newer file
		write(t, s.file, "access", name, before[name])
	}
	closeStore(t, s)
	if _, err := Open(b.path, testKey, b.nv.record); !errors.Is(err, ErrDamaged) {
		t.Errorf("an older record in a newer file: %v; want ErrDamaged", err)
	}
}

func TestNothingReadableOnDisk(t *testing.T) {
	b := newBench(t, AccessAdd{"legal-team", "Legal team"}, GroupAdd{"legal", "corp:CN=mallory"}, RuleAdd{"weekdays", "clock"},
		PINSet{User: NewSecret([]byte("31415926"))})
	data := string(b.copy(t))
	for _, word := range []string{"alice", "legal-team", "Legal team", "mallory", "weekdays", "31415926", "argon2id"} {
		if strings.Contains(data, word) {
			t.Errorf("the file shows %q", word)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	b := newBench(t, PINSet{User: NewSecret([]byte("31415926"))})
	s := b.boot(t)
	for _, text := range []string{sprint("%v", s.State()), sprint("%+v", s.State().PINs()), sprint("%#v", s.State().PINs())} {
		if strings.Contains(text, "31415926") || strings.Contains(text, "51 49 52") {
			t.Errorf("prints the PIN: %s", text)
		}
	}
}

func TestOpenLeavesNothingBehind(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(b.path, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.path, testKey, b.nv.record); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v; want ErrDamaged", err)
	}
	if got := string(b.copy(t)); got != "not a database" {
		t.Errorf("the file was written to: %q", got)
	}
}
