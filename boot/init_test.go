package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitRefusesToBeAnythingElse: on a host its last step would kill every process.
func TestInitRefusesToBeAnythingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-o", path, "./cmd/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "process 1 of the appliance") {
		t.Errorf("init on a host: %v\n%s", err, out)
	}
}
