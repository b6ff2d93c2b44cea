package ldap

import (
	"bufio"
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/fuzz/" + f.Name() + "/*")
	if err != nil || len(files) < 3 {
		f.Fatalf("%d committed seeds; want 3 or more", len(files))
	}
}

// Names that a directory takes for one have one key, and a name is under its own parent only.
func FuzzName(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseName(text)
		if err != nil {
			if n.parts != nil {
				t.Fatal("a refused name is there")
			}
			return
		}
		if again, err := parseName(text); err != nil || again.key() != n.key() {
			t.Fatal("a name has two keys")
		}
		if n.under(n.parts) || !n.under(n.parts[1:]) {
			t.Fatal("a name is not directly under its parent")
		}
		if strings.Count(n.key(), `"`)%2 != 0 && !strings.Contains(n.key(), `\"`) {
			t.Fatalf("key %s is open", n.key())
		}
	})
}

// What is read is what was sent, and never more than one message may hold.
func FuzzMessages(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		m := &messages{in: bufio.NewReader(bytes.NewReader(sent)), left: maxBytes}
		got, err := io.ReadAll(io.LimitReader(m, int64(len(sent)+1)))
		if !bytes.HasPrefix(sent, got) {
			t.Fatal("something else is read than was sent")
		}
		if err == nil && len(got) != len(sent) {
			t.Fatal("an end that is none")
		}
		if m.body > maxMessage && err == nil {
			t.Fatal("a message is too long")
		}
	})
}
