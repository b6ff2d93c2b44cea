package boot

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/tpm/wire"
)

// listed writes a manifest of the box's programs, but for the one that is left out.
func (b *testBox) listed(t *testing.T, without string) {
	t.Helper()
	type program struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	}
	var m struct {
		Programs []program `json:"programs"`
	}
	files, err := os.ReadDir(b.BinDir)
	must(t, err)
	for _, f := range files {
		path := filepath.Join(b.BinDir, f.Name())
		data, err := os.ReadFile(path)
		must(t, err)
		if f.Name() != without {
			m.Programs = append(m.Programs, program{path, fmt.Sprintf("%x", sha256.Sum256(data))})
		}
	}
	doc, err := json.Marshal(m)
	must(t, err)
	b.Manifest = filepath.Join(filepath.Dir(b.BinDir), "manifest.json")
	must(t, os.WriteFile(b.Manifest, doc, 0o600))
}

// TestOnlyListedProgramsStart: a program that the manifest does not list, or that differs from what it lists by one byte, is not started.
// Where it is the TPM's daemon, the box is locked; where it is another's, that one is missing.
func TestOnlyListedProgramsStart(t *testing.T) {
	t.Run("as listed", func(t *testing.T) {
		b := newTestBox(t, script{State: wire.Enrolled})
		b.listed(t, "")
		b.start(t)
		u := b.awaitUp(t)
		if u.Mode != "enrolled" {
			t.Fatalf("up = %+v", u)
		}
		eventually(t, "programs", func() bool { return slices.Contains(u.Status().Programs, filepath.Join(b.BinDir, "krad")) })
		if s := u.Status(); !slices.ContainsFunc(s.Strangers, func(x string) bool { return strings.Contains(x, "boot.test") }) {
			t.Errorf("this test is not seen as a stranger: %q", s.Strangers)
		}
	})
	t.Run("one is missing in the list", func(t *testing.T) {
		b := newTestBox(t, script{State: wire.Enrolled})
		b.listed(t, "tpmd")
		b.start(t)
		if u := b.awaitUp(t); u.Mode != "locked" || !strings.Contains(u.Reason, "tpmd is not among the programs that the manifest lists") {
			t.Errorf("up = %+v", u)
		}
	})
	t.Run("a byte more", func(t *testing.T) {
		b := newTestBox(t, script{State: wire.Enrolled})
		b.listed(t, "")
		path := filepath.Join(b.BinDir, "tpmd")
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.Remove(path)) // it is a link to what other tests use
		must(t, os.WriteFile(path, append(data, 0), 0o755))
		b.start(t)
		if u := b.awaitUp(t); u.Mode != "locked" || !strings.Contains(u.Reason, "tpmd is not the program that the manifest lists") {
			t.Errorf("up = %+v", u)
		}
	})
	t.Run("no list", func(t *testing.T) {
		b := newTestBox(t, script{State: wire.Enrolled})
		b.Manifest = filepath.Join(t.TempDir(), "nothing")
		b.start(t)
		select {
		case err := <-b.ended:
			b.ended <- err
			if err == nil || !strings.Contains(err.Error(), "list of programs") {
				t.Errorf("Run = %v", err)
			}
		case u := <-b.up:
			t.Errorf("a box without its list is up: %+v", u)
		}
	})
}

// TestProgramsAreReadAgain: what was as listed when it was started is read again when somebody asks, and a byte that is another, or a file
// that is gone, is told. Where there is no list there is nothing to read.
func TestProgramsAreReadAgain(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled})
	b.listed(t, "")
	p, err := readRoster(b.Manifest)
	must(t, err)
	n := len(p.paths)
	if n < 3 {
		t.Fatalf("%d programs", n)
	}
	for at, path := range p.paths {
		must(t, p.check(path))
		if x, err := p.program(at); err != nil || x != (machine.Program{Path: path, Of: n}) {
			t.Errorf("program %d = %+v, %v", at, x, err)
		}
	}
	for at, spoil := range []func(string) error{
		func(path string) error { return os.WriteFile(path, []byte("another"), 0o755) },
		func(string) error { return nil },
	} {
		must(t, os.Remove(p.paths[at])) // it is a link to what other tests use
		must(t, spoil(p.paths[at]))
		if x, err := p.program(at); err != nil || x.Of != n || !strings.Contains(x.Fault, p.paths[at]) {
			t.Errorf("a program that was spoilt: %+v, %v", x, err)
		}
	}
	if x, err := p.program(n); err == nil {
		t.Errorf("program %d of %d = %+v", n, n, x)
	}
	if x, err := (*roster)(nil).program(0); err != nil || x != (machine.Program{}) {
		t.Errorf("without a list: %+v, %v", x, err)
	}
	for text, want := range map[string]string{
		`{"programs":[` + strings.Repeat(`{"path":"/x","sha256":""},`, 3) + `{"path":"/y"}]}`: "",
		manyPrograms(machine.MaxPrograms + 1):                                                 "it has 4097, limit 4096",
	} {
		must(t, os.WriteFile(b.Manifest, []byte(text), 0o600))
		if _, err := readRoster(b.Manifest); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("readRoster = %v, want %q", err, want)
		}
	}
}

func manyPrograms(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"path":"/%d"}`, i))
	}
	return `{"programs":[` + strings.Join(all, ",") + `]}`
}
