package qemu_test

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/qemu"
)

// TestBoxRecovers exchanges the firmware of a box in service. It comes up in maintenance, names the register, answers nobody on its port and
// prints what its attestation key vouches for; the desk approves that firmware, the approvals go in over the console, and after a restart the
// box releases with the state and the key that it had. With the firmware of before, and its variables, it still does.
func TestBoxRecovers(t *testing.T) {
	g, s := copyOf(t)
	g.firmware = qemu.Unguarded
	if err := g.up("maintenance"); err != nil {
		t.Fatal(err)
	}
	if said := spaces.ReplaceAllString(g.greeting.Text, " "); !strings.Contains(said, "PCR 0 (firmware): expected") || !strings.Contains(said, "domain firmware approve") {
		t.Errorf("the console does not say why, or what to do:\n%s", g.greeting.Text)
	}
	if g.serves() {
		t.Error("a box in maintenance answers on its port")
	}
	request, err := g.operator.PEM("enrol request")
	if err != nil {
		t.Fatal(err)
	}
	strict, err := release(g.lab.manifest)
	if err != nil {
		t.Fatal(err)
	}
	strict.FirmwareAsSeen = false
	if _, err := g.lab.desk.ApproveFleet(strict, request); err == nil || !strings.Contains(err.Error(), "is not approved: PCR 0 is") {
		t.Errorf("the desk approves a release on firmware that nobody approved: %v", err)
	}
	if _, err := g.lab.desk.ApproveFirmware(request, "another build", ""); err != nil {
		t.Fatal(err)
	}
	bundle, err := g.lab.desk.ApproveFleet(strict, request)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.operator.Must("What runs is approved", "enrol install", string(bundle)); err != nil {
		t.Fatal(err)
	}
	if g.serves() {
		t.Error("approvals that were just installed open this boot")
	}
	if err := g.operator.Leave("reboot", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.restarted(); err != nil {
		t.Fatal(err)
	}
	if err := g.mode("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("after recovery: %v", err)
	}
	g.cut()
	g.firmware = qemu.Guarded
	if err := g.box.TakeVars(s.box); err != nil { // which another build has changed: this one would measure them
		t.Fatal(err)
	}
	if err := g.up("enrolled"); err != nil {
		t.Fatalf("the firmware before: %v", err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("the firmware before: %v", err)
	}
}

// TestBoxInMaintenance: an officer's word brings the box into maintenance for one boot.
func TestBoxInMaintenance(t *testing.T) {
	g, s := copyOf(t)
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	if err := g.operator.Leave("system maintenance", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.restarted(); err != nil {
		t.Fatal(err)
	}
	if err := g.mode("maintenance"); err != nil {
		t.Fatal(err)
	}
	if g.serves() {
		t.Error("a box in maintenance answers on its port")
	}
	if err := g.operator.Leave("reboot", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.restarted(); err != nil {
		t.Fatal(err)
	}
	if err := g.mode("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("after maintenance: %v", err)
	}
}
