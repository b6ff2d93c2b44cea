package qemu_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/manifest"
)

// TestBoxEnters takes a factory box into service: the registers are as predicted, a key is released, with a receipt. All that runs there is
// what the manifest lists, which is in the initramfs and so in PCR 11.
func TestBoxEnters(t *testing.T) {
	g, s := copyOf(t)
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	shown, err := g.operator.Do("status")
	if err != nil {
		t.Fatal(err)
	}
	shown = spaces.ReplaceAllString(shown, " ")
	var run []string
	for _, c := range image.Commands() {
		if c.Path != "/bin/stage1" { // it becomes the program that it starts
			run = append(run, c.Path)
		}
		if !slices.ContainsFunc(g.lab.manifest.Programs, func(p manifest.Program) bool { return p.Path == c.Path }) {
			t.Errorf("the manifest does not list %s", c.Path)
		}
	}
	slices.Sort(run)
	if want := "programs " + strings.Join(run, ", ") + ": as the image lists them"; !strings.Contains(shown, want) || strings.Contains(shown, "NOT LISTED") {
		t.Errorf("status lacks %q, or shows a stranger:\n%s", want, shown)
	}
	if shown, err = g.operator.Do("system test"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("the %d programs of the image (SHA-256)", len(g.lab.manifest.Programs)); !strings.Contains(shown, want) || strings.Contains(shown, "FAILED") {
		t.Errorf("system test lacks %q:\n%s", want, shown)
	}
}
