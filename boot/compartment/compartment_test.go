package compartment

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func policy() Policy {
	return Policy{Kind: Sealed, UID: 1001, GID: 1001, Read: []string{"/lib", "/etc/kra/domain.json"}, Write: []string{"/state/tpm"},
		OpenFiles: 256, Program: "/bin/tpmd", Args: []string{"-device", "/dev/tpm0", "--", "-rw", "/"}}
}

func TestPolicyGoesThroughTheCommandLine(t *testing.T) {
	for name, p := range map[string]Policy{
		"sealed":      policy(),
		"open":        {Kind: Open, OpenFiles: 1, Program: "/bin/krad"},
		"no argument": {Kind: Sealed, UID: 1, GID: 1, OpenFiles: 1, Program: "/bin/krad"},
	} {
		got, err := Parse(p.Command())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(got.Args) == 0 {
			got.Args = p.Args
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestNoPolicyIsLooserByMistake: what is missing, unknown or ambiguous stops the start.
func TestNoPolicyIsLooserByMistake(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"no kind":        func(p *Policy) { p.Kind = 0 },
		"root":           func(p *Policy) { p.UID = 0 },
		"root's group":   func(p *Policy) { p.GID = 0 },
		"negative user":  func(p *Policy) { p.UID = -1 },
		"no user":        func(p *Policy) { p.UID = maxID },
		"no files":       func(p *Policy) { p.OpenFiles = 0 },
		"too many files": func(p *Policy) { p.OpenFiles = maxOpenFiles + 1 },
		"relative":       func(p *Policy) { p.Read = []string{"etc"} },
		"dots":           func(p *Policy) { p.Write = []string{"/state/tpm/.."} },
		"empty path":     func(p *Policy) { p.Write = []string{""} },
		"program":        func(p *Policy) { p.Program = "tpmd" },
	} {
		p := policy()
		change(&p)
		if _, err := Parse(p.Command()); err == nil {
			t.Errorf("%s: %q was taken", name, p.Command())
		}
	}
	for name, args := range map[string][]string{
		"nothing":      nil,
		"no program":   {"-kind", "sealed", "-uid", "1", "-gid", "1", "-files", "1"},
		"unknown flag": append([]string{"-caps", "all"}, policy().Command()...),
		"unknown kind": {"-kind", "loose", "-files", "1", "--", "/bin/krad"},
	} {
		if _, err := Parse(args); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestMissingPathStopsTheStart(t *testing.T) {
	p := policy()
	p.Read, p.Write = nil, []string{"/nowhere/at/all"}
	if _, err := p.rules(); err == nil {
		t.Error("a policy for a missing path made rules")
	}
	p.Write = []string{"/tmp"}
	rules, err := p.rules()
	if err != nil || len(rules) != 2 {
		t.Errorf("rules = %v, %v", rules, err)
	}
	if slices.Contains(p.Write, p.Program) {
		t.Error("a program can be written")
	}
}
