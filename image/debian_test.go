package image

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFetchRefusesDamage puts a damaged package in the cache: it is neither used nor taken for a new version.
func TestFetchRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	pin, ok := pinned()[stubPackage]
	if !ok {
		t.Fatalf("%s is not pinned", stubPackage)
	}
	file := cached(dir, stubPackage, pin.Version)
	if err := os.WriteFile(file, []byte("not a package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(dir, t.TempDir(), stubPackage); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("fetch: %v", err)
	}
}

func TestModuleClosure(t *testing.T) {
	d, err := fetchDebian(Cloud, cache(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Cloud.modules(d.modules)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range got {
		names = append(names, moduleName(m.path))
		if len(m.aliases) > 0 {
			t.Errorf("%s is not loaded in every machine", m.path)
		}
	}
	list := strings.Join(names, " ")
	for _, order := range [][2]string{{"virtio", "virtio_pci"}, {"virtio_ring", "virtio_pci"}, {"failover", "net_failover"}, {"net_failover", "virtio_net"}} {
		before, after := strings.Index(" "+list+" ", " "+order[0]+" "), strings.Index(" "+list+" ", " "+order[1]+" ")
		if before < 0 || after < before {
			t.Errorf("%s must be loaded before %s: %s", order[0], order[1], list)
		}
	}
	s, err := findModules(d.modules)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.closure([]string{"no_such_module"}); err == nil {
		t.Error("found a module that is not there")
	}
	if _, err := s.aliases("failover"); err == nil || !strings.Contains(err.Error(), "is for no PCI device") {
		t.Errorf("a driver for no device: %v", err)
	}
	if _, err := findModules(filepath.Join(d.modules, "nowhere")); err == nil {
		t.Error("found modules in a folder that is not there")
	}
}

// TestHardwareModules holds the modules of a server's image to what a server is promised: the drivers, what they depend on, and nothing else;
// in an order in which they load; each driver for its devices only, with what it depends on.
func TestHardwareModules(t *testing.T) {
	d, err := fetchDebian(Full, cache(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(d.release, "cloud") {
		t.Fatalf("the full kernel is %s", d.release)
	}
	s, err := findModules(d.modules)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Full.modules(d.modules)
	if err != nil {
		t.Fatal(err)
	}
	at, needed := map[string]int{}, map[string]bool{}
	for i, m := range all {
		at[moduleName(m.path)] = i
	}
	for i, m := range all {
		lists, err := s.info(moduleName(m.path), "depends")
		if err != nil {
			t.Fatal(err)
		}
		for need := range strings.SplitSeq(strings.Join(lists, ","), ",") {
			if need = moduleName(need); need == "." {
				continue
			}
			j, ok := at[need]
			if !ok || j >= i {
				t.Errorf("%s must be loaded before %s", need, m.path)
				continue
			}
			needed[need] = true
			if missing := without(m.aliases, all[j].aliases); len(all[j].aliases) > 0 && (len(m.aliases) == 0 || len(missing) > 0) {
				t.Errorf("%s is not loaded where %s is: %v", need, m.path, missing)
			}
		}
	}
	promised := []string{"igb", "ixgbe", "i40e", "ice", "e1000e", "bnxt_en", "mlx5_core", "tg3", "nvme", "ahci", "megaraid_sas", "mpt3sas", "xhci_pci", "coretemp", "k10temp"}
	for _, name := range promised {
		if i, ok := at[name]; !ok || len(all[i].aliases) == 0 {
			t.Errorf("%s is not there, or loaded in every machine", name)
		}
	}
	for name, i := range at {
		if !needed[name] && !slices.Contains(append(promised, "sd_mod", "usb_storage", "uas", "ext4", "crc32c_generic"), name) {
			t.Errorf("%s is there for nothing", name)
		}
		if always := slices.Contains([]string{"crc32c_generic", "crc16", "mbcache", "jbd2", "ext4"}, name); always != (len(all[i].aliases) == 0) {
			t.Errorf("%s is loaded for %v", name, all[i].aliases)
		}
	}
	for name, device := range map[string]string{
		"e1000e": "pci:v00008086d000010D3sv*sd*bc*sc*i*", "nvme": "pci:v*d*sv*sd*bc01sc08i02*", "ahci": "pci:v*d*sv*sd*bc01sc06i01*",
		"usb_storage": "pci:v*d*sv*sd*bc0Csc03i30*", "uas": "pci:v*d*sv*sd*bc0Csc03i30*", "xhci_pci": "pci:v*d*sv*sd*bc0Csc03i30*",
		"sd_mod": "pci:v*d*sv*sd*bc01sc06i01*", "megaraid_sas": "pci:v00001000d00000060sv*sd*bc*sc*i*", "igb": "pci:v00008086d00001521sv*sd*bc*sc*i*",
		"coretemp": "cpu:type:x86,ven0000fam*mod*:feature:*01C0*", "k10temp": "pci:v00001022d000014E3sv*sd*bc*sc*i*",
	} {
		if !slices.Contains(all[at[name]].aliases, device) {
			t.Errorf("%s is not loaded for %s, but for %v", name, device, all[at[name]].aliases)
		}
	}
}

// without returns what is in all and not in some.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// TestKernelPinned: each kernel has a pin of its own, which no other takes.
func TestKernelPinned(t *testing.T) {
	for _, k := range []Kernel{Cloud, Full} {
		var found []string
		for name := range pinned() {
			if k.is(name) {
				found = append(found, name)
			}
		}
		if len(found) != 1 || (k == Cloud) != strings.Contains(found[0], "cloud") {
			t.Errorf("pins of the %s kernel: %v", k, found)
		}
		var again Kernel
		if err := again.UnmarshalText([]byte(k.String())); err != nil || again != k {
			t.Errorf("%s is %s: %v", k, again, err)
		}
	}
	var none Kernel
	if err := none.UnmarshalText(nil); err == nil || none != 0 {
		t.Error("there is a kernel without a name")
	}
}
