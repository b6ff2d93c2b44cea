package image

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// kernelModules are what the cloud kernel lacks for its network: TPM, NVMe and ext4 are built in.
func kernelModules() []string { return []string{"virtio_pci", "virtio_net"} }

// moduleClosure returns the named modules and all they depend on, in the order
// in which they can be loaded, as paths below the modules folder.
func moduleClosure(folder string, names []string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find modules: %w", err)
	}
	var ordered []string
	for _, name := range names {
		if ordered, err = addModule(ordered, files, name); err != nil {
			return nil, fmt.Errorf("find modules: %w", err)
		}
	}
	for i, path := range ordered {
		if ordered[i], err = filepath.Rel(folder, path); err != nil {
			return nil, fmt.Errorf("find modules: %w", err)
		}
	}
	return ordered, nil
}

func addModule(ordered []string, files map[string]string, name string) ([]string, error) {
	path, ok := files[name]
	if !ok {
		return nil, fmt.Errorf("kernel has no module %s", name)
	}
	if slices.Contains(ordered, path) {
		return ordered, nil
	}
	needs, err := moduleNeeds(path)
	if err != nil {
		return nil, err
	}
	for _, n := range needs {
		if ordered, err = addModule(ordered, files, n); err != nil {
			return nil, err
		}
	}
	return append(ordered, path), nil
}

// moduleNeeds reads "depends=" in the module itself: the package has no modules.dep before depmod runs.
func moduleNeeds(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := f.Section(".modinfo")
	if info == nil {
		return nil, fmt.Errorf("%s has no .modinfo", path)
	}
	data, err := info.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			needs := strings.Split(list, ",")
			for i, n := range needs {
				needs[i] = moduleName(n)
			}
			return needs, nil
		}
	}
	return nil, nil
}

// moduleName is the kernel's name of a module: file names may have dashes.
func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}
