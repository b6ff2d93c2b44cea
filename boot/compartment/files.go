package compartment

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	kernel "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// minLandlock is the least landlock ABI that a compartment is entered with: with ABI 1 a file could not be moved between two
// folders of one daemon. Linux 6.1 has 2.
const minLandlock = 2

// restrictFiles lets the daemon touch nothing but its policy's paths and its own program. It never makes do with less than asked:
// the library's best-effort mode would start the daemon unconfined on a kernel without landlock.
func restrictFiles(p Policy) error {
	if p.Kind != Sealed {
		return nil
	}
	abi, err := kernel.LandlockGetABIVersion()
	if err != nil {
		return fmt.Errorf("ask for landlock: %w", err)
	}
	if abi < minLandlock {
		return fmt.Errorf("landlock ABI is %d, want at least %d", abi, minLandlock)
	}
	rules, err := p.rules()
	if err != nil {
		return err
	}
	if abi == minLandlock {
		return landlock.V2.RestrictPaths(rules...)
	}
	return landlock.V3.RestrictPaths(rules...) // and truncation
}

// rules grants execution with reading, as landlock's helpers do; what a daemon may read holds no programs but libraries.
func (p Policy) rules() ([]landlock.Rule, error) {
	rules := []landlock.Rule{landlock.ROFiles(p.Program)}
	for _, path := range p.Read {
		dir, err := isDir(path)
		if err != nil {
			return nil, err
		}
		if dir {
			rules = append(rules, landlock.RODirs(path))
		} else {
			rules = append(rules, landlock.ROFiles(path))
		}
	}
	for _, path := range p.Write {
		dir, err := isDir(path)
		if err != nil {
			return nil, err
		}
		if dir {
			rules = append(rules, landlock.RWDirs(path).WithRefer())
		} else {
			rules = append(rules, landlock.RWFiles(path))
		}
	}
	return rules, nil
}

func isDir(path string) (bool, error) {
	i, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return i.IsDir(), nil
}
