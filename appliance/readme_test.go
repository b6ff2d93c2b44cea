package appliance_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// Each module that the code imports has its line in the README, and no other has one.
func TestReadmeListsDependencies(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "## Dependencies")
	table, _, _ = strings.Cut(table, "\n## ")
	want := map[string]bool{"honnef.co/go/tools": true} // a tool, not an import
	for _, r := range f.Require {
		if !r.Indirect {
			want[r.Mod.Path] = true
		}
	}
	for path := range want {
		if !strings.Contains(table, "`"+path+"`") {
			t.Errorf("README.md: no line for %s", path)
		}
	}
	for row := range strings.Lines(table) {
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(row[2:], " |")
		for name := range strings.SplitSeq(cell, ", ") {
			if path := strings.Trim(name, "`"); !want[path] {
				t.Errorf("README.md: a line for %s, which is not a direct dependency", path)
			}
		}
	}
}
