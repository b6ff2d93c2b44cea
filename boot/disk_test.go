package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// blockClass lays out /sys/class/block as the kernel does: partition name by device.
func blockClass(t *testing.T, parts map[string]string) string {
	t.Helper()
	class := t.TempDir()
	for dev, name := range parts {
		at, ok := strings.CutPrefix(dev, "usb:")
		if ok {
			behind := filepath.Join(t.TempDir(), "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/block", at)
			must(t, os.MkdirAll(behind, 0o755))
			must(t, os.Symlink(behind, filepath.Join(class, at)))
		} else {
			must(t, os.Mkdir(filepath.Join(class, at), 0o755))
		}
		dev = at
		text := "MAJOR=259\nMINOR=1\nDEVNAME=" + dev + "\nDEVTYPE=disk\n"
		if name != "" {
			text += "PARTN=2\nPARTNAME=" + name + "\n"
		}
		must(t, os.WriteFile(filepath.Join(class, dev, "uevent"), []byte(text), 0o644))
	}
	return class
}

func TestFindPartition(t *testing.T) {
	for name, c := range map[string]struct {
		parts map[string]string
		want  string
		err   string
	}{
		"one":            {map[string]string{"nvme0n1": "", "nvme0n1p1": "kra-esp", "nvme0n1p2": "kra-state"}, "/dev/nvme0n1p2", ""},
		"none":           {map[string]string{"vda": "", "vda1": "kra-esp"}, "", "there is no partition kra-state"},
		"similar":        {map[string]string{"vda1": "kra-state2", "vda2": "KRA-STATE"}, "", "there is no partition kra-state"},
		"no disk":        {nil, "", "there is no partition kra-state"},
		"two":            {map[string]string{"vda2": "kra-state", "vdb1": "kra-state"}, "", "several partitions kra-state: /dev/vda2, /dev/vdb1"},
		"a USB stick's":  {map[string]string{"nvme0n1p2": "kra-state", "usb:sda1": "kra-state"}, "/dev/nvme0n1p2", ""},
		"only a stick's": {map[string]string{"usb:sda1": "kra-state"}, "", "there is no partition kra-state"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findPartition(blockClass(t, c.parts), statePartition)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("findPartition = %q, %v; want %q, %q", got, err, c.want, c.err)
			}
		})
	}
	if _, err := findPartition(blockClass(t, nil), statePartition); err == nil || !strings.Contains(err.Error(), "there is no partition kra-state") {
		t.Errorf("findPartition without disks = %v", err)
	}
}
