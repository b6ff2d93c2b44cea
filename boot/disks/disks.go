// Package disks is how process 1 puts a backup on a disk that somebody plugged in, and reads one from there.
//
//	krad --list, write, read--> Clerk --one at a time--> Drawer --> /dev/sdb
//
// No file system is ever mounted: the whole device is an archive as tar(1) knows it, of one file, from its first byte on, and nobody
// but this package reads it. The box's own disks are found by what is mounted and by the names of their partitions, and are not in
// the list, nor can they be opened: the kernel refuses a device that has an owner.
package disks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/boot/machine"
)

// ownPartitions are the names of a box's partitions. A disk that has one is some box's own.
var ownPartitions = []string{"kra-state", "kra-esp"}

const sector = 512 // bytes, in which the kernel counts

// A Drawer is where the kernel shows the disks.
type Drawer struct {
	Sys    string // where sysfs is mounted
	Dev    string // the folder of devices
	Mounts string // mountinfo of process 1
	// Files has regular files stand for devices: of a test on a host, where whoever runs it has none.
	Files bool
}

// Kernel is the Drawer of a machine.
func Kernel() Drawer {
	return Drawer{Sys: "/sys", Dev: "/dev", Mounts: "/proc/self/mountinfo"}
}

// A block is a block device as the kernel lists it.
type block struct {
	name   string
	path   string // of its folder, without symbolic links
	number string // major:minor
	label  string // of a partition, in the partition table
	part   bool
	held   bool // by another device, such as a mapped one
}

// disk is the name of the whole disk.
func (b block) disk() string {
	if b.part {
		return filepath.Base(filepath.Dir(b.path))
	}
	return b.name
}

// blocks are all block devices, by name.
func (d Drawer) blocks() ([]block, error) {
	class := filepath.Join(d.Sys, "class", "block")
	names, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var all []block
	for _, n := range names {
		b := block{name: n.Name()}
		if b.path, err = filepath.EvalSymlinks(filepath.Join(class, b.name)); errors.Is(err, os.ErrNotExist) {
			continue // unplugged
		} else if err != nil {
			return nil, fmt.Errorf("list disks: %w", err)
		}
		b.number = attribute(b.path, "dev")
		b.part = attribute(b.path, "partition") != ""
		holders, _ := os.ReadDir(filepath.Join(b.path, "holders"))
		b.held = len(holders) > 0
		for line := range strings.Lines(attribute(b.path, "uevent")) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTNAME="); ok {
				b.label = name
			}
		}
		all = append(all, b)
	}
	return all, nil
}

// own are the names of the disks that are a box's, or in use. Where this box's own is not among them nothing is known, and no disk is safe.
func (d Drawer) own(all []block) (map[string]bool, error) {
	text, err := os.ReadFile(d.Mounts)
	if err != nil {
		return nil, fmt.Errorf("list what is mounted: %w", err)
	}
	if len(text) == 0 {
		return nil, errors.New("list what is mounted: nothing is")
	}
	mounted := map[string]bool{}
	for line := range strings.Lines(string(text)) { // ID, parent, major:minor, …: proc(5)
		f := strings.Fields(line)
		if len(f) < 3 || !strings.Contains(f[2], ":") {
			return nil, errors.New("list what is mounted: a line is malformed")
		}
		if !strings.HasPrefix(f[2], "0:") { // no device is under it
			mounted[f[2]] = true
		}
	}
	own := map[string]bool{}
	for _, b := range all {
		if mounted[b.number] || b.held || slices.Contains(ownPartitions, b.label) {
			own[b.disk()] = true
		}
		delete(mounted, b.number)
	}
	switch {
	case len(mounted) > 0:
		return nil, errors.New("what is mounted is on a disk that the kernel does not list")
	case len(own) == 0:
		return nil, errors.New("the box's own disk is not found, so none is taken for another's")
	}
	return own, nil
}

// foreign are the disks that are not the box's own, by name.
func (d Drawer) foreign() (disks []block, parts map[string][]block, err error) {
	all, err := d.blocks()
	if err != nil {
		return nil, nil, err
	}
	own, err := d.own(all)
	if err != nil {
		return nil, nil, err
	}
	parts = map[string][]block{}
	for _, b := range all {
		switch {
		case own[b.disk()]:
		case b.part:
			parts[b.disk()] = append(parts[b.disk()], b)
		case machine.IsDisk(b.name) && b.size() > 0:
			disks = append(disks, b)
		}
	}
	return disks[:min(len(disks), machine.MaxDisks)], parts, nil
}

// size is in bytes; 0: there is no medium in it.
func (b block) size() int64 {
	n, err := strconv.ParseInt(attribute(b.path, "size"), 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0
	}
	return n * sector
}

// List is of the disks that may hold a backup, with what each holds.
func (d Drawer) List() ([]machine.Disk, error) {
	all, parts, err := d.foreign()
	if err != nil {
		return nil, err
	}
	var list []machine.Disk
	for _, b := range all {
		list = append(list, d.look(b, parts[b.name]))
	}
	return list, nil
}

// find opens a disk, if it is the one that was marked and holds what it held then.
func (d Drawer) find(name string, mark machine.Mark, flags int) (*os.File, machine.Disk, error) {
	all, parts, err := d.foreign()
	if err != nil {
		return nil, machine.Disk{}, err
	}
	i := slices.IndexFunc(all, func(b block) bool { return b.name == name })
	if i < 0 {
		return nil, machine.Disk{}, fmt.Errorf("there is no disk %s, or it is the box's own", name)
	}
	now := d.look(all[i], parts[name])
	if now.Mark == "" {
		return nil, now, fmt.Errorf("disk %s %s", name, now.Holds)
	}
	if now.Mark != mark {
		return nil, now, fmt.Errorf("disk %s is not the one that was listed, or does not hold any more what it held", name)
	}
	f, err := d.open(all[i], flags)
	return f, now, err
}

// attribute is a short text that the kernel says of a device, or nothing.
func attribute(folder, name string) string {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 4<<10)
	n, _ := f.Read(b)
	return strings.TrimSpace(string(b[:n]))
}

// plain is a text of a device, which may say anything, in printable ASCII.
func plain(s string, most int) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)), " ")
	return s[:min(len(s), most)]
}
