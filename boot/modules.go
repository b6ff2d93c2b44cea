package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
)

// Where the kernel lists what is on the machine's buses, and says what its processors are.
const (
	pciDevices = "/sys/bus/pci/devices"
	processors = "/sys/devices/system/cpu/modalias"
)

// A device is one that the machine has.
type device struct {
	address string // such as "0000:00:02.0"
	alias   string // what it is, as modules' patterns match it: pci:v00008086d…, cpu:type:x86,…
}

// A moduleLine is a line of the module list: a path, and then for a driver the devices that it is loaded for, as the kernel's patterns.
type moduleLine struct {
	path     string
	patterns []string // none: it is loaded in every machine
}

// loadModules loads the kernel modules that a file lists, one a line in the order to load them, as far as the machine has devices for them,
// and says for which. The kernel checks their signatures. A module without its hardware is no error of ours, and what does need it says so
// later.
func loadModules(list, devices, processors string, say func(line string)) error {
	b, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("read module list: %w", err)
	}
	found, err := findDevices(devices, processors)
	errs := []error{err}
	for _, m := range moduleLines(string(b)) {
		why, wanted, err := m.wanted(found)
		if err == nil && wanted {
			err = loadModule(m.path)
		}
		if errs = append(errs, err); err == nil && why != "" {
			say("module " + strings.TrimSuffix(path.Base(m.path), ".ko") + " for " + why)
		}
	}
	return errors.Join(errs...)
}

func moduleLines(list string) []moduleLine {
	var all []moduleLine
	for line := range strings.Lines(list) {
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, moduleLine{words[0], words[1:]})
		}
	}
	return all
}

// wanted says whether the module is to be loaded, and for which device, the first of those that are there.
func (m moduleLine) wanted(devices []device) (address string, wanted bool, err error) {
	if len(m.patterns) == 0 {
		return "", true, nil
	}
	for _, d := range devices {
		for _, pattern := range m.patterns {
			ok, err := path.Match(pattern, d.alias)
			if err != nil {
				return "", false, fmt.Errorf("devices of module %s: %w", m.path, err)
			}
			if ok {
				return d.address, true, nil
			}
		}
	}
	return "", false, nil
}

// findDevices lists what is on the machine's buses, in the order of addresses, and then its processors, which are all alike. A machine without
// such a bus has no devices there.
func findDevices(folder, processors string) ([]device, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "modalias"))
	if err != nil {
		return nil, fmt.Errorf("look for devices: %w", err)
	}
	var all []device
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("look at device: %w", err)
		}
		all = append(all, device{filepath.Base(filepath.Dir(f)), strings.TrimSpace(string(b))})
	}
	switch b, err := os.ReadFile(processors); {
	case err == nil:
		all = append(all, device{"the processors", strings.TrimSpace(string(b))})
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("look at processors: %w", err)
	}
	return all, nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	err = kmodule.FileInit(f, "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}
