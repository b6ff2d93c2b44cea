package appliance_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A row of FEATURES.md: | id | what holds | `package.TestName` or `package.TestScript/file` |
var featureRow = regexp.MustCompile("^\\| ([EHAF]-[0-9]+) \\| (.+) \\| (`.+`) \\|$")

// A featureTest is one test that fails when a feature goes.
type featureTest struct{ row, pkg, test, script string }

func featureTests(t *testing.T) []featureTest {
	t.Helper()
	f, err := os.Open("FEATURES.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []featureTest
	seen := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if !regexp.MustCompile(`^\| [EHAF]-`).MatchString(s.Text()) {
			continue
		}
		m := featureRow.FindStringSubmatch(s.Text())
		if m == nil {
			t.Errorf("FEATURES.md: not a row: %s", s.Text())
			continue
		}
		if seen[m[1]] {
			t.Errorf("FEATURES.md: %s has two lines", m[1])
		}
		seen[m[1]] = true
		for _, name := range strings.Split(m[3], ", ") {
			name = strings.Trim(name, "`")
			dot := strings.LastIndex(name, ".")
			if dot < 0 {
				t.Errorf("FEATURES.md: %s: %q names no package", m[1], name)
				continue
			}
			test, script, _ := strings.Cut(name[dot+1:], "/")
			out = append(out, featureTest{m[1], name[:dot], test, script})
		}
	}
	return out
}

// testsOf returns the names of the Test and Fuzz functions of a package.
func testsOf(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("FEATURES.md: package %s has no tests", pkg)
	}
	var out []string
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out = append(out, fn.Name.Name)
			}
		}
	}
	return out
}

func TestFeaturesNameTests(t *testing.T) {
	rows := featureTests(t)
	if len(rows) == 0 {
		t.Fatal("FEATURES.md has no rows")
	}
	known := map[string][]string{}
	for _, r := range rows {
		if _, ok := known[r.pkg]; !ok {
			known[r.pkg] = testsOf(t, r.pkg)
		}
		if !slices.Contains(known[r.pkg], r.test) {
			t.Errorf("%s: no test %s in %s", r.row, r.test, r.pkg)
		}
		if r.script == "" {
			continue
		}
		file := strings.ReplaceAll(r.script, "_", "?") + ".txtar"
		if m, _ := filepath.Glob(filepath.Join("..", r.pkg, "testdata", "*", file)); len(m) == 0 {
			t.Errorf("%s: no script %s under %s/testdata", r.row, file, r.pkg)
		}
	}
}
