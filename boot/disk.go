package boot

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"
)

// statePartition is the name in the partition table.
const statePartition = "kra-state"

// diskPatience bounds the wait for a disk: drivers look for theirs while process 1 already runs, and a RAID controller starts its own
// firmware and its disks first.
const diskPatience = time.Minute

// The state partition may have been written by anybody: nothing on it is executed, is a device, or leads elsewhere.
const stateMount = plainMount | unix.MS_NOSYMFOLLOW | unix.MS_NOATIME

// mountState finds the state partition and mounts it. After a file system error the kernel makes it read-only, so that the log's
// next write fails and no key is released.
func mountState(at string) (device string, err error) {
	for until := time.Now().Add(diskPatience); ; time.Sleep(100 * time.Millisecond) {
		device, err = findPartition("/sys/class/block", statePartition)
		if err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("state partition: %w", err)
	}
	point := func() error { return os.MkdirAll(at, 0o711) }
	if _, err := mount.Mount(device, at, "ext4", "errors=remount-ro", stateMount, point); err != nil {
		return "", fmt.Errorf("mount state partition %s: %w", device, err)
	}
	return device, nil
}

// onUSB is where the kernel has what is behind USB. The box's own disk is not: whoever stands before it plugs in what he likes there, and the
// kernel would take in its file system before anything is decided.
var onUSB = regexp.MustCompile(`/usb[0-9]+/`)

// findPartition returns the device of the one partition with a name that is not behind USB. Two of one name is somebody's trick or a mistake:
// neither is taken.
func findPartition(class, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "uevent"))
	if err != nil {
		return "", fmt.Errorf("look for partitions: %w", err)
	}
	var found []string
	for _, f := range files {
		at, err := filepath.EvalSymlinks(f)
		if errors.Is(err, fs.ErrNotExist) || onUSB.MatchString(at) { // pulled meanwhile, or not the box's own
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look at partition: %w", err)
		}
		dev, part, err := readUevent(at)
		if err != nil {
			return "", fmt.Errorf("look at partition: %w", err)
		}
		if part == name && dev != "" {
			found = append(found, "/dev/"+dev)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return "", fmt.Errorf("there is no partition %s", name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("several partitions %s: %s", name, strings.Join(found, ", "))
}

// readUevent reads the kernel's description of a block device.
func readUevent(path string) (device, partition string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		key, value, _ := strings.Cut(s.Text(), "=")
		switch key {
		case "DEVNAME":
			device = value
		case "PARTNAME":
			partition = value
		}
	}
	return device, partition, s.Err()
}
