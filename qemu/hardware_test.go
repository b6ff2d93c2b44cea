package qemu_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/qemu"
)

// hardwareLab builds the image for servers, for a copy of the domain: a box of it is enrolled under the name of another test's.
func hardwareLab(t *testing.T) (*lab, string) {
	t.Helper()
	shared, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	l, out := *shared, t.TempDir()
	l.domain = filepath.Join(out, "domain")
	if err := os.CopyFS(l.domain, os.DirFS(*domain)); err != nil {
		t.Fatal(err)
	}
	if l.desk, err = desk.Open(l.domain); err != nil {
		t.Fatal(err)
	}
	l.manifest, err = image.Build(image.Spec{
		Source: "..", Kernel: image.Full, Commands: image.Commands(), Libraries: image.Libraries(), Domain: l.desk.Domain(), Firmware: l.keys,
		Version: l.manifest.Version, Epoch: l.manifest.Epoch, Commit: "hardware-" + l.manifest.Commit, Out: out, Cache: filepath.Join(*dist, "cache"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.desk.SignImage(out); err != nil {
		t.Fatal(err)
	}
	return &l, filepath.Join(out, image.FileDisk)
}

// TestBoxHardware takes a box with the image for servers into service, in a machine without anything of virtio: Debian's full kernel, an Intel
// network card, an NVMe disk, and SATA and RAID controllers without disks. Drivers of these are loaded, and no other; the registers are as
// predicted; state is found on the disk, and the port answers. A USB stick that is plugged in later takes a backup, and is pulled again.
func TestBoxHardware(t *testing.T) {
	t.Parallel()
	l, disk := hardwareLab(t)
	g := &guest{lab: l, card: "e1000e", disk: []string{"nvme,drive=disk,serial=kra", "megasas", "qemu-xhci,id=xhci"}, stick: filepath.Join(t.TempDir(), "stick")}
	if err := errors.Join(os.WriteFile(g.stick, nil, 0o600), os.Truncate(g.stick, 8<<20)); err != nil {
		t.Fatal(err)
	}
	defer g.cut()
	var err error
	if g.box, err = qemu.NewBox(t.TempDir(), disk, l.keys); err != nil {
		t.Fatal(err)
	}
	if err := g.up("factory"); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(g.box.Log())
	if err != nil {
		t.Fatal(err)
	}
	loaded := map[string]bool{}
	for line := range strings.Lines(string(said)) {
		if _, rest, ok := strings.Cut(line, "kra: module "); ok {
			name, _, _ := strings.Cut(rest, " for 0000:")
			loaded[name] = true
		}
	}
	for _, name := range []string{"e1000e", "nvme", "ahci", "megaraid_sas", "sd_mod", "xhci-pci", "usb-storage", "uas"} {
		if !loaded[name] {
			t.Errorf("driver %s was not loaded", name)
		}
	}
	for _, name := range []string{"igb", "ixgbe", "i40e", "ice", "bnxt_en", "mlx5_core", "tg3", "mpt3sas"} {
		if loaded[name] {
			t.Errorf("driver %s was loaded for no device", name)
		}
	}
	if !strings.Contains(string(said), "kra: state on /dev/nvme0n1p2") {
		t.Error("state is not on the NVMe disk")
	}
	if err := g.enrol(); err != nil {
		t.Fatal(err)
	}
	a, err := g.agent(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(t.Context(), l.host.Scale(anyMoment))
	defer cancel()
	if _, err := patiently(ctx, func() (client.Directory, error) { return a.Directory(ctx) }); err != nil {
		t.Errorf("the port: %v", err)
	}
	if shown, err := g.operator.Do("status"); err != nil || !strings.Contains(spaces.ReplaceAllString(shown, " "), "on eth0") {
		t.Errorf("status, %v:\n%s", err, shown)
	}
	g.sticks(t)
	if t.Failed() {
		t.Logf("the console said:\n%s", said)
	}
}

// sticks plugs a USB stick in, has a backup written there, and pulls it out again.
func (g *guest) sticks(t *testing.T) {
	t.Helper()
	do := func(line, want string, answers ...string) string {
		t.Helper()
		shown, err := g.operator.Do(line, answers...)
		if err != nil || !strings.Contains(spaces.ReplaceAllString(shown, " "), want) {
			t.Fatalf("%s: %v, want %q in\n%s", line, err, want, shown)
		}
		return shown
	}
	lists := func(want string) {
		t.Helper()
		for late := time.Now().Add(g.lab.host.Scale(anyMoment)); ; time.Sleep(500 * time.Millisecond) {
			shown, err := g.operator.Do("backup disks")
			if err == nil && strings.Contains(spaces.ReplaceAllString(shown, " "), want) {
				return
			}
			if err != nil || time.Now().After(late) {
				t.Fatalf("backup disks: %v, want %q in\n%s", err, want, shown)
			}
		}
	}
	do("backup disks", "no disk but the box's own")
	do("backup key shares 2 of 2", "2 shares were made", "yes")
	request := ""
	for range 2 {
		request = do("backup share", "", strings.Join(shareLine.FindAllString(do("backup key next", "Write it down"), -1), "\n"))
	}
	approval, err := g.lab.desk.ApproveBackupKey([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	do("backup key accept", "is this box's", string(approval))
	if err := g.machine.Plug("usb", "usb-storage", map[string]string{"bus": "xhci.0", "drive": "stick", "serial": "4C530001"}); err != nil {
		t.Fatal(err)
	}
	lists("serial 4C530001, 8.4 MB, by usb: empty")
	do("backup make to disk sda", "was read back", "yes")
	do("backup verify from disk sda", "of this domain, whole")
	if out, err := exec.Command("tar", "tf", g.stick).Output(); err != nil || !strings.HasPrefix(string(out), "kra-backup-"+boxName+"-") {
		t.Errorf("tar lists %s, %v", out, err)
	}
	if err := g.machine.Pull("usb"); err != nil {
		t.Fatal(err)
	}
	lists("no disk but the box's own")
	do("backup verify from disk sda", "There is no disk sda")
	do("status", "on eth0")
}
