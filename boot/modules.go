package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
)

// loadModules loads the kernel modules that a file lists, one path a line in the order to load them. The kernel checks their
// signatures. A module without its hardware is no error of ours, and what does need it says so later.
func loadModules(list string) error {
	b, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("read module list: %w", err)
	}
	var errs []error
	for path := range strings.Lines(string(b)) {
		if path = strings.TrimSpace(path); path != "" {
			errs = append(errs, loadModule(path))
		}
	}
	return errors.Join(errs...)
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
