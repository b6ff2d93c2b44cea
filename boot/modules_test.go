package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Devices as kernels describe them.
const (
	portOfIntel  = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00"
	portOfAnyone = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"
	flashDisk    = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"
	sataDisks    = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"
	portOfTwo    = "pci:v000014E4d00001657sv000014E4sd00001657bc02sc00i00"
)

// machineWith lays out the kernel's list of PCI devices.
func machineWith(t *testing.T, aliases ...string) string {
	t.Helper()
	folder := t.TempDir()
	for i, alias := range aliases {
		dir := filepath.Join(folder, "0000:00:0"+string(rune('0'+i))+".0")
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644))
	}
	return folder
}

// TestDriversByDevice lists modules that are nowhere: each that is tried is an error. Tried are those for every machine and those for the
// devices that are there, in the list's order, and no other.
func TestDriversByDevice(t *testing.T) {
	const list = "/m/crc16.ko\n/m/ext4.ko\n/m/libphy.ko pci:v000014E4d00001657sv*sd*bc*sc*i* pci:v00008086d000010FBsv*sd*bc*sc*i*\n" +
		"/m/e1000e.ko pci:v00008086d000010D3sv*sd*bc*sc*i* pci:v00008086d000010D4sv*sd*bc*sc*i*\n" +
		"/m/tg3.ko pci:v000014E4d00001657sv*sd*bc*sc*i*\n/m/nvme.ko pci:v*d*sv*sd*bc01sc08i02*\n/m/ahci.ko pci:v*d*sv*sd*bc01sc06i01*\n"
	file := filepath.Join(t.TempDir(), "modules")
	must(t, os.WriteFile(file, []byte(list), 0o644))
	for name, c := range map[string]struct {
		devices []string
		want    string
	}{
		"nothing":       {nil, "crc16 ext4"},
		"port and disk": {[]string{portOfIntel, flashDisk}, "crc16 ext4 e1000e nvme"},
		"disk first":    {[]string{flashDisk, portOfIntel}, "crc16 ext4 e1000e nvme"},
		"by class":      {[]string{sataDisks}, "crc16 ext4 ahci"},
		"what it needs": {[]string{portOfTwo}, "crc16 ext4 libphy tg3"},
		"several":       {[]string{portOfIntel, portOfIntel, sataDisks}, "crc16 ext4 e1000e ahci"},
		"of no driver":  {[]string{portOfAnyone, "pci:", "", "usb:v8086p10D3"}, "crc16 ext4"},
		"longer":        {[]string{"x" + portOfIntel}, "crc16 ext4"},
	} {
		t.Run(name, func(t *testing.T) {
			err := loadModules(file, machineWith(t, c.devices...), filepath.Join(t.TempDir(), "none"), func(string) { t.Error("said that it loaded a module") })
			var tried []string
			for line := range strings.Lines(err.Error()) {
				path, _ := strings.CutPrefix(line, "open module: open /m/")
				name, _, _ := strings.Cut(path, ".ko: no such file")
				tried = append(tried, name)
			}
			if got := strings.Join(tried, " "); got != c.want {
				t.Errorf("loads %s; want %s", got, c.want)
			}
		})
	}
}

func TestWantedByFirstDevice(t *testing.T) {
	found, err := findDevices(machineWith(t, portOfAnyone, flashDisk, flashDisk), "/none")
	must(t, err)
	m := moduleLines("/m/nvme.ko pci:v*d*sv*sd*bc01sc08i02*\n\n")
	if len(m) != 1 {
		t.Fatalf("lines: %v", m)
	}
	if address, wanted, err := m[0].wanted(found); address != "0000:00:01.0" || !wanted || err != nil {
		t.Errorf("wanted for %q, %v, %v", address, wanted, err)
	}
	if _, wanted, err := (moduleLine{"/m/x.ko", []string{"pci:["}}).wanted(found); wanted || err == nil {
		t.Errorf("a pattern that is none: %v, %v", wanted, err)
	}
}
