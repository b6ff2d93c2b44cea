package boxtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An Edit changes a text that is once in a file of this module. A box whose programs are built with it is the product but for that: so
// a test sees in seconds what takes a day, and the product needs no knob for it.
type Edit struct{ File, Old, New string }

// overlay is what go build -overlay reads.
type overlay struct{ Replace map[string]string }

// edited builds the programs with edits into a folder of the test.
func edited(t testing.TB, edits []Edit) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("find module: %v", err)
	}
	root, o := strings.TrimSpace(string(out)), inherited(t)
	for _, e := range edits {
		o.apply(t, filepath.Join(root, e.File), dir, e)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	file, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "bin")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := build(bin, nil, "-overlay="+file); err != nil {
		t.Fatal(err)
	}
	return bin
}

// inherited is the overlay that this test runs under, when somebody breaks the product to see whether the test notices.
func inherited(t testing.TB) overlay {
	t.Helper()
	o := overlay{map[string]string{}}
	for _, flag := range strings.Fields(os.Getenv("GOFLAGS")) {
		file, ok := strings.CutPrefix(flag, "-overlay=")
		if !ok {
			continue
		}
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o overlay) apply(t testing.TB, file, dir string, e Edit) {
	t.Helper()
	from := file
	if other, ok := o.Replace[file]; ok {
		from = other
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), e.Old); n != 1 {
		t.Fatalf("%s has %q %d times, want once", e.File, e.Old, n)
	}
	to := filepath.Join(dir, strings.ReplaceAll(e.File, "/", "-"))
	if err := os.WriteFile(to, []byte(strings.Replace(string(text), e.Old, e.New, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Replace[file] = to
}
