package image

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestStateFiles(t *testing.T) {
	disk := testDisk(t)
	device := fmt.Sprintf("%s?offset=%d", disk, stateOffset)
	for _, request := range []string{"mkdir tpm", "write /etc/hostname tpm/label.json", "sif tpm/label.json mode 0100600", "sif tpm/label.json uid 77"} {
		if out, err := exec.Command(toolPath("debugfs"), "-w", "-R", request, device).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	names, err := ListState(disk, "tpm")
	if err != nil || len(names) != 1 || names[0] != "label.json" {
		t.Errorf("ListState: %q, %v", names, err)
	}
	for _, want := range [][]byte{[]byte("x"), bytes.Repeat([]byte("grown"), 100_000), {}} {
		if err := WriteStateFile(disk, "tpm/label.json", want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadStateFile(disk, "tpm/label.json")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	stat, err := exec.Command(toolPath("debugfs"), "-R", "stat tpm/label.json", device).Output()
	if err != nil || !strings.Contains(string(stat), "Mode:  0600") || !strings.Contains(string(stat), "User:    77") {
		t.Errorf("owner or mode changed: %v\n%s", err, stat)
	}
	if out, err := exec.Command(toolPath("e2fsck"), "-fn", device).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	if _, err := ReadStateFile(disk, "tpm/nothing"); err == nil {
		t.Error("read a file that is not there")
	}
	if err := WriteStateFile(disk, "tpm/nothing", nil); err == nil {
		t.Error("replaced a file that is not there")
	}
}
