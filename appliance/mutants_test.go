package appliance_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var mutants = flag.String("mutants", "few", "which mutants to run: few, all, none, or a part of a file name")

// few are the mutants that every run tries: quick ones, one of each trade.
var few = []string{"E-34-readable-key", "E-37-error-is-yes", "E-61-claim-without-anchor", "A-8-failed-sync-ignored", "H-9-register-forgotten"}

var (
	mutantHead = regexp.MustCompile(`^# row: ([EHAF]-[0-9]+)  test: ([a-z0-9/]+)\.([A-Za-z0-9_/]+)\n`)
	mutantFile = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)
)

// A mutant breaks one feature; the test that FEATURES.md names for it must notice.
type mutant struct {
	file, row, pkg, test string
	patch                []byte
}

func readMutants(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("mutants/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("mutants: none found: %v", err)
	}
	var out []mutant
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m := mutantHead.FindSubmatch(b)
		if m == nil {
			t.Errorf("%s: first line is not '# row: ID  test: pkg.TestName'", f)
			continue
		}
		out = append(out, mutant{filepath.Base(f), string(m[1]), string(m[2]), string(m[3]), b})
	}
	return out
}

// overlay applies the patch to copies of the files it names and tells the go command to see those instead.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for _, f := range mutantFile.FindAllSubmatch(m.patch, -1) {
		name := string(f[1])
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, name)] = to
	}
	c := exec.Command("git", "apply", "--whitespace=nowarn", "-")
	c.Dir, c.Stdin = dir, bytes.NewReader(m.patch)
	c.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s no longer applies: %v\n%s", m.file, err, out)
	}
	j, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, j, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// Each mutant still applies to the code as it is, and FEATURES.md names the test that must notice it, for its row.
func TestMutantsApply(t *testing.T) {
	named := map[string]bool{}
	for _, f := range featureTests(t) {
		test := f.test
		if f.script != "" {
			test += "/" + f.script
		}
		named[f.row+" "+f.pkg+"."+test] = true
	}
	for _, m := range readMutants(t) {
		m.overlay(t)
		if !named[m.row+" "+m.pkg+"."+m.test] {
			t.Errorf("%s: FEATURES.md does not name %s.%s for %s", m.file, m.pkg, m.test, m.row)
		}
	}
}

func TestMutants(t *testing.T) {
	ran := 0
	for _, m := range readMutants(t) {
		if !m.wanted() {
			continue
		}
		ran++
		t.Run(strings.TrimSuffix(m.file, ".patch"), func(t *testing.T) {
			c := exec.Command("go", "test", "-count=1", "-vet=off", "-run", "^"+strings.ReplaceAll(m.test, "/", "$/^")+"$", "./"+m.pkg)
			c.Dir = ".."
			c.Env = append(os.Environ(), "GOFLAGS=-overlay="+m.overlay(t)) // for the programs that a test builds, too
			out, err := c.CombinedOutput()
			switch {
			case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
				t.Fatalf("the mutant does not build:\n%s", out)
			case bytes.Contains(out, []byte("no tests to run")):
				t.Fatalf("%s.%s does not exist", m.pkg, m.test)
			case err == nil:
				t.Errorf("%s survives: %s.%s passes although the feature is broken", m.file, m.pkg, m.test)
			case !bytes.Contains(out, []byte("FAIL")):
				t.Fatalf("go test: %v\n%s", err, out)
			}
		})
	}
	if ran == 0 && *mutants != "none" {
		t.Errorf("-mutants=%s: no mutant matches", *mutants)
	}
}

func (m mutant) wanted() bool {
	switch *mutants {
	case "all":
		return true
	case "none":
		return false
	case "few":
		for _, f := range few {
			if m.file == f+".patch" {
				return true
			}
		}
		return false
	}
	return strings.Contains(m.file, *mutants)
}
