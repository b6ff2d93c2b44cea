package qemu_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/manifest"
)

// nextRelease builds the image again with another version and commit stamp, for the same domain.
func nextRelease(t *testing.T, l *lab) (manifest.Image, []byte) {
	t.Helper()
	out := t.TempDir()
	m, err := image.Build(image.Spec{
		Source: "..", Commands: image.Commands(), Libraries: image.Libraries(), Kernel: image.Cloud, Domain: l.desk.Domain(), Firmware: l.keys,
		Version: "v0.2.0", Epoch: l.manifest.Epoch + 1, Commit: "next-" + l.manifest.Commit, Out: out, Cache: filepath.Join(*dist, "cache"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.desk.SignImage(out); err != nil {
		t.Fatal(err)
	}
	uki, err := os.ReadFile(filepath.Join(out, image.FileSigned))
	if err != nil {
		t.Fatal(err)
	}
	return m, uki
}

// TestBoxUpgrades puts the next release on the disk. Not approved: maintenance. Approved by
// the desk, on the console of that box: the same state opens without
// resealing, and the key is released. The release before still opens it too.
func TestBoxUpgrades(t *testing.T) {
	g, s := copyOf(t)
	next, uki := nextRelease(t, g.lab)
	if next.PCR4 == g.lab.manifest.PCR4 || next.PCR11 == g.lab.manifest.PCR11 {
		t.Fatal("the next release measures like this one")
	}
	if err := image.InstallUKI(g.box.Disk(), uki); err != nil {
		t.Fatal(err)
	}
	if err := g.up("maintenance"); err != nil {
		t.Fatalf("a release that nobody approved: %v", err)
	}
	r, err := release(next)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := g.lab.desk.ApproveFleet(r)
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := g.operator.Do("enrol install", string(bundle)); err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	if err := g.operator.Leave("reboot", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.restarted(); err != nil {
		t.Fatal(err)
	}
	if err := g.mode("enrolled"); err != nil {
		t.Fatalf("approved: %v", err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("approved: %v", err)
	}
	g.cut()
	if err := image.InstallUKI(g.box.Disk(), builtUKI(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatalf("the release before: %v", err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("the release before: %v", err)
	}
}

// TestBoxUpgradesUnattended puts the next release on the disk together with the domain's approvals of it: the box opens under it at once,
// and nobody pastes anything. Approvals of another domain in that place change nothing.
func TestBoxUpgradesUnattended(t *testing.T) {
	g, s := copyOf(t)
	next, uki := nextRelease(t, g.lab)
	r, err := release(next)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := g.lab.desk.ApproveFleet(r)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(bundle), "\nA", "\nB", 1)
	if forged == string(bundle) {
		forged = string(bundle[:len(bundle)/2])
	}
	for _, c := range []struct {
		name, bundle, mode string
	}{{"forged", forged, "maintenance"}, {"signed", string(bundle), "enrolled"}} {
		if err := image.InstallApprovals(g.box.Disk(), []byte(c.bundle)); err != nil {
			t.Fatal(err)
		}
		if err := image.InstallUKI(g.box.Disk(), uki); err != nil {
			t.Fatal(err)
		}
		if err := g.up(c.mode); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.mode == "enrolled" {
			if err := g.decrypt(s); err != nil {
				t.Error(err)
			}
		}
		g.cut()
	}
}
