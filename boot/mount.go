package boot

import (
	"errors"
	"fmt"
	"os"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"
)

// A mountPoint is one line of the image's mount table.
type mountPoint struct {
	kind, path string
	flags      uintptr
	options    string
}

const plainMount = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts, in order. What the kernel offers comes first; the state partition is found and mounted by mountState.
var mounts = [...]mountPoint{
	{"proc", "/proc", plainMount, ""},
	{"sysfs", "/sys", plainMount, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"tmpfs", "/run", plainMount, "mode=0755,size=64m"},
	{"securityfs", "/sys/kernel/security", plainMount, ""},
}

// mountAll mounts the table.
func mountAll() error {
	for _, m := range mounts {
		point := func() error { return os.MkdirAll(m.path, 0o755) }
		_, err := mount.Mount(m.kind, m.path, m.kind, m.options, m.flags, point)
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted devtmpfs
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

// sealRoot makes the image in memory read-only. Programs lose their read bits first: the kernel then lets nobody trace or dump
// a daemon, whoever it runs as.
func sealRoot(binDir string) error {
	programs, err := os.ReadDir(binDir)
	if err != nil {
		return fmt.Errorf("list programs: %w", err)
	}
	for _, p := range programs {
		if err := os.Chmod(binDir+"/"+p.Name(), 0o711); err != nil {
			return fmt.Errorf("protect program: %w", err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make image read-only: %w", err)
	}
	return nil
}
