package image

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// A moduleSet is a kernel's modules folder.
type moduleSet struct {
	folder string
	files  map[string]string // name -> path below the folder
}

func findModules(folder string) (moduleSet, error) {
	s := moduleSet{folder, map[string]string{}}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".ko") {
			return err
		}
		s.files[moduleName(path)], err = filepath.Rel(folder, path)
		return err
	})
	if err != nil {
		return moduleSet{}, fmt.Errorf("find modules: %w", err)
	}
	return s, nil
}

// closure returns the named modules and all they depend on, in the order
// in which they can be loaded, as paths below the modules folder.
func (s moduleSet) closure(names []string) (ordered []string, err error) {
	for _, name := range names {
		if ordered, err = s.add(ordered, name); err != nil {
			return nil, fmt.Errorf("find modules: %w", err)
		}
	}
	return ordered, nil
}

func (s moduleSet) add(ordered []string, name string) ([]string, error) {
	path, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("kernel has no module %s", name)
	}
	if slices.Contains(ordered, path) {
		return ordered, nil
	}
	lists, err := s.info(name, "depends")
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		for need := range strings.SplitSeq(list, ",") {
			if ordered, err = s.add(ordered, moduleName(need)); err != nil {
				return nil, err
			}
		}
	}
	return append(ordered, path), nil
}

// aliases are the PCI devices or the processors that a driver is for, as the kernel's patterns.
func (s moduleSet) aliases(name string) ([]string, error) {
	all, err := s.info(name, "alias")
	if err != nil {
		return nil, fmt.Errorf("find modules: %w", err)
	}
	devices := slices.DeleteFunc(all, func(a string) bool {
		return !strings.HasPrefix(a, "pci:") && !strings.HasPrefix(a, "cpu:") || len(strings.Fields(a)) != 1
	})
	if len(devices) == 0 {
		return nil, fmt.Errorf("find modules: %s is for no PCI device or processor", name)
	}
	return devices, nil
}

// info reads what a module says of itself under a key: the package has no modules.dep or modules.alias before depmod runs.
func (s moduleSet) info(name, key string) ([]string, error) {
	path, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("kernel has no module %s", name)
	}
	f, err := elf.Open(filepath.Join(s.folder, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s has no .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	var values []string
	for field := range strings.SplitSeq(string(data), "\x00") {
		if value, ok := strings.CutPrefix(field, key+"="); ok && value != "" {
			values = append(values, value)
		}
	}
	return values, nil
}

// moduleName is the kernel's name of a module: file names may have dashes.
func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}
