package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlainLeavesNothingForTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"state on /dev/vda2":     "state on /dev/vda2",
		"a\x1b[2Jb\nc\rd\x00":    "a?[2Jb?c?d?",
		"ein Schlüssel fehlt":    "ein Schlüssel fehlt",
		"\u009b31m":              "?31m",
		"bad \xff byte":          "bad ? byte",
		strings.Repeat("x", 500): strings.Repeat("x", maxSaid) + "…",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestFindTTY(t *testing.T) {
	file := filepath.Join(t.TempDir(), "active")
	for in, want := range map[string]string{"ttyS0\n": "/dev/ttyS0", "tty0 ttyS0\n": "/dev/ttyS0", "hvc0": "/dev/hvc0", "\n": ""} {
		must(t, os.WriteFile(file, []byte(in), 0o644))
		if got, err := findTTY(file); got != want || (err == nil) != (want != "") {
			t.Errorf("findTTY(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}
