package appliance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgain: a failed test has a second chance that is told of; what fails twice, races, panics, ends the process or does
// not build has none.
func TestAgain(t *testing.T) {
	again, err := filepath.Abs("../.ci/again")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, body string
		passes     bool
		says       string
	}{
		{"passes", ``, true, ""},
		{"fails once", `if err := os.Mkdir(os.Getenv("SEEN"), 0o700); err == nil { t.Error("first") }`, true, "unsteady, passed the second time: TestIt"},
		{"fails twice", `t.Error(os.Getpid())`, false, "once more: TestIt"},
		{"races", `n, c := 0, make(chan int); go func() { n++; close(c) }(); n++; <-c; _ = os.Args`, false, "DATA RACE"},
		{"panics", `panic(os.Getpid())`, false, "panic: "},
		{"ends", `os.Exit(1)`, false, "FAIL"},
		{"does not build", `undefined(os.Args)`, false, "build failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{
				"go.mod":        "module m\n\ngo 1.26\n",
				"it_test.go":    "package m\n\nimport (\"os\"; \"testing\")\n\nvar _ = os.Args\n\nfunc TestIt(t *testing.T) { " + c.body + " }\n",
				"of/of_test.go": "package of\n\nimport \"testing\"\n\nfunc TestOther(*testing.T) {}\n",
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(again, "./...", "-race", "-vet=off")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "SEEN="+filepath.Join(dir, "seen"))
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.passes || !strings.Contains(string(out), c.says) {
				t.Errorf("%v, want passed %v and %q:\n%s", err, c.passes, c.says, out)
			}
			if !c.passes && strings.Contains(string(out), "unsteady") || c.name != "fails twice" && !c.passes && strings.Contains(string(out), "once more") {
				t.Errorf("a second chance:\n%s", out)
			}
		})
	}
}
