package image

import (
	"os"
	"path/filepath"
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
	d, err := fetchDebian(cache(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := moduleClosure(d.modules, kernelModules())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range got {
		names = append(names, moduleName(path))
	}
	list := strings.Join(names, " ")
	for _, order := range [][2]string{{"virtio", "virtio_pci"}, {"virtio_ring", "virtio_pci"}, {"failover", "net_failover"}, {"net_failover", "virtio_net"}} {
		before, after := strings.Index(" "+list+" ", " "+order[0]+" "), strings.Index(" "+list+" ", " "+order[1]+" ")
		if before < 0 || after < before {
			t.Errorf("%s must be loaded before %s: %s", order[0], order[1], list)
		}
	}
	if _, err := moduleClosure(d.modules, []string{"no_such_module"}); err == nil {
		t.Error("found a module that is not there")
	}
	if _, err := moduleClosure(filepath.Join(d.modules, "nowhere"), nil); err == nil {
		t.Error("found modules in a folder that is not there")
	}
}
