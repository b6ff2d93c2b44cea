package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
)

// large is a definition of n access identifiers with a key each, sharing a hundred rules.
func large(n int) Definition {
	var d Definition
	for i := range 100 {
		d.Groups = append(d.Groups, GroupDef{Name: GroupName(fmt.Sprintf("g%d", i)), Members: []string{fmt.Sprintf("corp:CN=p%d,O=Example", i)}})
		d.Rules = append(d.Rules, RuleDef{RuleName(fmt.Sprintf("r%d", i)), fmt.Sprintf("groups.has(\"g%d\")", i)})
	}
	for i := range n {
		id := block.KeyID(sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i))))
		d.Access = append(d.Access, AccessDef{ID: AccessID(fmt.Sprintf("access-%d", i)), Keys: []block.KeyID{id},
			Lists: []string{fmt.Sprintf("r%d && r%d", i%100, (i+1)%100), fmt.Sprintf("r%d", i%100)}})
	}
	return d
}

func TestTenThousandAccessIDs(t *testing.T) { // built in well under a second, changed in a fraction of that
	d := large(10_000)
	start := time.Now()
	b := compile(t, d)
	built := time.Since(start)
	d.Access[5000].Lists = []string{"r1"}
	d.Rules[3].Expr = "true"
	start = time.Now()
	next, err := Compile(2, d, b)
	if err != nil {
		t.Fatal(err)
	}
	changed := time.Since(start)
	t.Logf("built in %v, changed in %v", built, changed)
	if built > 5*time.Second || changed > time.Second {
		t.Errorf("built in %v, changed in %v", built, changed)
	}
	if b.rules.At("r4") != next.rules.At("r4") || b.rules.At("r3") == next.rules.At("r3") {
		t.Error("rules are not reused as they should be")
	}
	if b.Version() != 1 || next.Version() != 2 || len(next.AllAccess()) != 10_000 {
		t.Error("the book was changed by its successor")
	}
}

func TestCompileRefuses(t *testing.T) {
	k := block.KeyID{1}
	many := make([]string, MaxLists+1)
	for i := range many {
		many[i] = "r"
	}
	for name, change := range map[string]func(*Definition){
		"rule twice":        func(d *Definition) { d.Rules = append(d.Rules, d.Rules[0]) },
		"rule name":         func(d *Definition) { d.Rules[0].Name = "id" },
		"group twice":       func(d *Definition) { d.Groups = append(d.Groups, d.Groups[0]) },
		"group name":        func(d *Definition) { d.Groups[0].Name = "Legal" },
		"member":            func(d *Definition) { d.Groups[0].Members = []string{"alice"} },
		"member twice":      func(d *Definition) { d.Groups[0].Members = []string{"corp:CN=a", "corp:CN=a"} },
		"access twice":      func(d *Definition) { d.Access = append(d.Access, d.Access[0]) },
		"access identifier": func(d *Definition) { d.Access[0].ID = "Legal team" },
		"title":             func(d *Definition) { d.Access[0].Title = "a\x1b[2J" },
		"key twice":         func(d *Definition) { d.Access[0].Keys = []block.KeyID{k, k} },
		"key zero":          func(d *Definition) { d.Access[0].Keys = []block.KeyID{{}} },
		"lists":             func(d *Definition) { d.Access[0].Lists = many },
		"group in use":      func(d *Definition) { d.Groups = nil },
		"rule in use":       func(d *Definition) { d.Rules = nil },
		"shared too much": func(d *Definition) {
			for i := range MaxShared + 1 {
				d.Access = append(d.Access, AccessDef{ID: AccessID(fmt.Sprintf("x%d", i)), Keys: []block.KeyID{k}})
			}
		},
	} {
		first := compile(t, one(`groups.has("legal")`, k))
		d := one(`groups.has("legal")`, k)
		change(&d)
		for _, prev := range []*Book{nil, first} {
			if _, err := Compile(2, d, prev); err == nil {
				t.Errorf("%s: compiled (with a book before it: %v)", name, prev != nil)
			}
		}
	}
}

func TestBookKeepsNothingOfTheCaller(t *testing.T) {
	d := one("true", block.KeyID{1})
	b := compile(t, d)
	d.Access[0].Keys[0], d.Access[0].Lists[0], d.Groups[0].Members[0] = block.KeyID{2}, "x", "y"
	got, _ := b.Access("legal-team")
	got.Keys[0] = block.KeyID{3}
	if again, _ := b.Access("legal-team"); again.Keys[0] != (block.KeyID{1}) || again.Lists[0] != "r" || len(b.AccessOf(block.KeyID{1})) != 1 {
		t.Errorf("book changed: %+v", again)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		k := newKey(b)
		d := large(n)
		d.Rules = append(d.Rules, RuleDef{"office", `clock.within("Mon-Fri 08:00-18:00 Europe/Berlin") && source.net("10.20.0.0/16")`})
		d.Access = append(d.Access, AccessDef{ID: "legal-team", Keys: []block.KeyID{keyID(b, k)}, Lists: []string{"r1 && r2", "office"}})
		book, h, f := compile(b, d), header(b, k), facts(b)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := book.Decide(Request{block.EnvelopeOf(h), f}, workday()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	d := large(10_000)
	for b.Loop() {
		compile(b, d)
	}
}

// seeded fails when the fuzz target has lost its seeds.
func seeded(f *testing.F) {
	f.Helper()
	if seeds, err := os.ReadDir("testdata/fuzz/" + f.Name()); err != nil || len(seeds) < 3 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
}

func FuzzRule(f *testing.F) { // whatever compiles has come to an outcome, and neither panics
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		b, err := Compile(1, one(text), nil)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if strings.ContainsAny(line, "\x1b\r\x07") {
					t.Errorf("error carries control characters: %q", err)
				}
			}
			return
		}
		tr, err := b.Explain("legal-team", facts(t), workday())
		if err != nil || len(tr.Lists()) != 1 || tr.Lists()[0].Outcome == 0 {
			t.Errorf("%s: %v %v", text, tr.Lists(), err)
		}
	})
}

func FuzzExpand(f *testing.F) { // whatever expands either is CEL already or compiles
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		cel, err := Expand(text)
		if err != nil || cel == text || len(cel) > MaxText {
			return
		}
		if _, err := Compile(1, one(cel), nil); err != nil && !strings.Contains(err.Error(), "unknown ") && !strings.Contains(err.Error(), "no authority may") && !strings.Contains(err.Error(), "may cost") {
			t.Errorf("%s expands to %s: %v", text, cel, err)
		}
	})
}
