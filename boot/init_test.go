package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// TestSpeedOf: the console has the speed that the kernel was told for its line, or its own.
func TestSpeedOf(t *testing.T) {
	for line, want := range map[string]int{
		"console=ttyS0,115200 quiet panic=1":          115200,
		"console=ttyS0,9600 quiet kra.health=:9443\n": 9600,
		"quiet console=tty0 console=ttyS0,19200n8r":   19200,
		"console=ttyS0,9600 console=ttyS0,57600":      57600,
		"console=ttyS1,9600":                          0,
		"console=ttyS0":                               0,
		"console=ttyS0,":                              0,
		"console=ttyS0,n8":                            0,
		"console=ttyS0,-9600":                         0,
		"console=ttyS0,99999999999999999999":          0,
		"kra.console=ttyS0,9600 xconsole=ttyS0,19200": 0,
		"": 0,
	} {
		if got := speedOf(line, "/dev/ttyS0"); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}

// TestConsoleIsToldItsSpeed: process 1 starts the console with the speed, and without one where it knows none.
func TestConsoleIsToldItsSpeed(t *testing.T) {
	for baud, want := range map[int][]string{9600: {"-baud", "9600"}, 0: nil} {
		b := &box{o: Options{Run: "/run/kra", BinDir: "/bin", TTY: "/dev/ttyS0", Baud: baud}}
		args := b.consoleSpec().confine.Args
		if got := args[slices.Index(args, "/dev/ttyS0")+1:]; !slices.Equal(got, want) {
			t.Errorf("%d baud: %q, want %q behind the line", baud, got, want)
		}
	}
}
