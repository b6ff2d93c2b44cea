package qemu_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image"
)

// TestBoxUnsealsOnce runs an image that the domain approved and that asks for the
// secrets again after the stage advanced: the first answer opens the box, the
// second and a third, of a fresh daemon, are refused for the stage.
func TestBoxUnsealsOnce(t *testing.T) {
	g, s := copyOf(t)
	out := t.TempDir()
	m, err := image.Build(image.Spec{
		Source: "..", Kernel: image.Cloud, Domain: g.lab.desk.Domain(), Firmware: g.lab.keys, Version: "v0.1.1", Epoch: g.lab.manifest.Epoch, Commit: "twice",
		Commands: []image.Command{{Package: "./qemu/testdata/twice", Path: "/init", Link: image.Static}, {Package: "./tpm/cmd/tpmd", Path: "/bin/tpmd", Link: image.Static}},
		Out:      out, Cache: filepath.Join(*dist, "cache"),
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := release(m)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := g.lab.desk.ApproveFleet(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.change("enrol install", string(bundle)); err != nil {
		t.Fatal(err)
	}
	if err := g.lab.desk.SignImage(out); err != nil {
		t.Fatal(err)
	}
	uki, err := os.ReadFile(filepath.Join(out, image.FileSigned))
	if err != nil {
		t.Fatal(err)
	}
	if err := image.InstallUKI(g.box.Disk(), uki); err != nil {
		t.Fatal(err)
	}
	g.unsealTwice(t)
	if err := image.InstallUKI(g.box.Disk(), builtUKI(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
}

func (g *guest) unsealTwice(t *testing.T) {
	t.Helper()
	if err := g.power(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`TWICE first: <nil>`,
		`TWICE second: .*PCR 14 \(stage\): expected stage "open".*found stage "running"`,
		`TWICE of a new daemon: .*PCR 14 \(stage\): expected stage "open".*found stage "running"`,
		`TWICE end`,
	} {
		if _, err := g.machine.Expect(want, 40*time.Second); err != nil {
			t.Error(err)
		}
	}
	if err := g.machine.Wait(anyMoment); err != nil {
		t.Error(err)
	}
}
