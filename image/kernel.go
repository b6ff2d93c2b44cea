package image

import (
	"fmt"
	"slices"
	"strings"
)

// A Kernel is one of Debian's kernels, with the modules that an image has of it.
type Kernel int

// The kernels.
const (
	Cloud Kernel = iota + 1 // of a virtual machine: virtio, NVMe
	Full                    // of a server: the drivers below
)

// kernelNames are what a kernel is called on the command line.
var kernelNames = map[Kernel]string{Cloud: "cloud", Full: "full"}

// String is the kernel's name.
func (k Kernel) String() string { return kernelNames[k] }

// MarshalText is for flags; it writes no kernel as nothing.
func (k Kernel) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes the name of a kernel.
func (k *Kernel) UnmarshalText(text []byte) error {
	for kernel, name := range kernelNames {
		if name == string(text) {
			*k = kernel
			return nil
		}
	}
	return fmt.Errorf("no kernel %q: want cloud or full", text)
}

// meta is the Debian package that depends on today's kernel.
func (k Kernel) meta() string {
	if k == Full {
		return "linux-image-amd64"
	}
	return "linux-image-cloud-amd64"
}

// is says whether a package holds a kernel of this kind.
func (k Kernel) is(name string) bool {
	return strings.HasPrefix(name, "linux-image-") && strings.Contains(name, "-cloud-") == (k == Cloud)
}

// A driver is a module that is loaded where the machine has a device for it, with all that it depends on.
type driver struct {
	name string
	also []string // modules that it works with and does not name
}

// always are the modules that are loaded in every machine. In the cloud kernel TPM, NVMe and ext4 are built in. In the full one TPM is;
// ext4 computes its checksums by crc32c, which it does not name as a dependency.
func (k Kernel) always() []string {
	if k == Full {
		return []string{"crc32c_generic", "ext4"}
	}
	return []string{"virtio_pci", "virtio_net"}
}

// drivers are those of servers' network ports and disks, and of the sensors in their processors. Disks behind all but NVMe are SCSI's, to the kernel. Where there is USB, what a stick
// takes is loaded at start, since nothing is later; no other USB device has a driver: not a keyboard, nor a network card.
func (k Kernel) drivers() []driver {
	if k != Full {
		return nil
	}
	disk := []string{"sd_mod"}
	return []driver{
		{"igb", nil}, {"ixgbe", nil}, {"i40e", nil}, {"ice", nil}, {"e1000e", nil}, {"bnxt_en", nil}, {"mlx5_core", nil}, {"tg3", nil},
		{"nvme", nil}, {"ahci", disk}, {"megaraid_sas", disk}, {"mpt3sas", disk}, {"xhci_pci", append([]string{"usb_storage", "uas"}, disk...)},
		{"coretemp", nil}, {"k10temp", nil},
	}
}

// A module is a line of PathModules.
type module struct {
	path    string   // below the modules folder
	aliases []string // PCI devices or processors that it is loaded for, as the kernel's patterns, sorted; none: it is always loaded
}

// line is the module as PathModules has it, for a modules folder inside the image.
func (m module) line(folder string) string {
	return strings.Join(append([]string{folder + "/" + m.path}, m.aliases...), " ") + "\n"
}

// modules are those of the kernel, in the order in which they can be loaded. What a driver depends on is loaded for the same devices.
func (k Kernel) modules(folder string) ([]module, error) {
	s, err := findModules(folder)
	if err != nil {
		return nil, err
	}
	paths, err := s.closure(k.always())
	if err != nil {
		return nil, err
	}
	var all []module
	for _, path := range paths {
		all = append(all, module{path: path})
	}
	fixed := len(all)
	for _, d := range k.drivers() {
		aliases, err := s.aliases(d.name)
		if err != nil {
			return nil, err
		}
		if paths, err = s.closure(append([]string{d.name}, d.also...)); err != nil {
			return nil, err
		}
		for _, path := range paths {
			i := slices.IndexFunc(all, func(m module) bool { return m.path == path })
			if i < 0 {
				i = len(all)
				all = append(all, module{path: path})
			}
			if i >= fixed {
				all[i].aliases = append(all[i].aliases, aliases...)
			}
		}
	}
	for i := range all {
		slices.Sort(all[i].aliases)
		all[i].aliases = slices.Compact(all[i].aliases)
	}
	return all, nil
}
