package appliance_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	threatTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	refusal    = regexp.MustCompile("^`([^`]+)`$")
)

// Each row of THREATS.md whose table has a column of tests names tests that exist, and where it says what an attack is refused with, one of
// them asks for just that.
func TestThreatsNameTests(t *testing.T) {
	text, err := os.ReadFile("THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	var head []string
	rows, attacks := 0, 0
	for line := range strings.Lines(string(text)) {
		cells, ok := row(line)
		switch {
		case !ok:
			head = nil
		case head == nil:
			head = cells
		case strings.HasPrefix(cells[0], "-"), head[len(head)-1] != "test":
		case len(cells) != len(head):
			t.Errorf("THREATS.md: %d cells, want %d: %s", len(cells), len(head), line)
		default:
			rows++
			tests := threatTest.FindAllStringSubmatch(cells[len(cells)-1], -1)
			if len(tests) == 0 {
				t.Errorf("THREATS.md: no test: %s", line)
			}
			for _, m := range tests {
				if _, ok := known[m[1]]; !ok {
					known[m[1]] = testsOf(t, m[1])
				}
				if !slices.Contains(known[m[1]], m[2]) {
					t.Errorf("THREATS.md: no test %s in %s", m[2], m[1])
				}
			}
			if head[0] == "attack" {
				attacks++
				words := refusal.FindStringSubmatch(cells[1])
				if words == nil || !said(t, tests, words[1]) {
					t.Errorf("THREATS.md: no test of the row says %s: %s", cells[1], line)
				}
			}
		}
	}
	if rows < 50 || attacks < 15 {
		t.Errorf("THREATS.md: %d rows and %d attacks were read", rows, attacks)
	}
}

// row reads a line of a table.
func row(line string) (cells []string, ok bool) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") {
		return nil, false
	}
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cells = append(cells, strings.TrimSpace(cell))
	}
	return cells, true
}

// said reports whether one of the tests asks for the words: in its own body, as a text or as a name such as TPMRCValue. What stands in a
// comment is not asked for.
func said(t *testing.T, tests [][]string, words string) bool {
	t.Helper()
	return slices.ContainsFunc(tests, func(m []string) bool {
		return slices.ContainsFunc(wordsOf(t, m[1], m[2]), func(s string) bool { return strings.Contains(s, words) })
	})
}

// wordsOf are the texts and names in the body of a test.
func wordsOf(t *testing.T, pkg, test string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == test {
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					switch x := n.(type) {
					case *ast.BasicLit:
						if s, err := strconv.Unquote(x.Value); err == nil && x.Kind == token.STRING {
							out = append(out, s)
						}
					case *ast.Ident:
						out = append(out, x.Name)
					}
					return true
				})
			}
		}
	}
	return out
}
