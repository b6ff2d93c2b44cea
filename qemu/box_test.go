package qemu_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/manifest"
)

// TestBoxEnters takes a factory box into service: the registers are as predicted, a key is released, with a receipt. All that runs there is
// what the manifest lists, which is in the initramfs and so in PCR 11; the firmware's log adds up to the registers. A further route is put on.
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
	g.says(t, "system events", "EV_EFI_BOOT_SERVICES_APPLICATION", "extended after the log, by this box, to stage running",
		"the log adds up to what the TPM has, apart from what was extended after it")
	if err := errors.Join(g.operator.Must("The box uses", "network route add 198.51.100.0/24 via 10.0.2.2", "yes"), g.operator.Must("from now on", "network confirm")); err != nil {
		t.Fatal(err)
	}
	g.says(t, "network show", "now "+guestAddress+"/24 on eth0 by DHCP", "host name "+boxName+", route 198.51.100.0/24 via 10.0.2.2")
	if err := g.decrypt(s); err != nil {
		t.Errorf("with a further route: %v", err)
	}
}
