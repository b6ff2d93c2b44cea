// Package diskstest has disks for tests: regular files, and the folders in which the kernel would show them.
package diskstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/boot/disks"
)

// The box's own disk of every rack.
const Own = "nvme0n1"

// A Rack is a machine with a disk of its own, whose state is mounted, and with what is plugged in.
type Rack struct {
	t      testing.TB
	dir    string
	minor  int
	Drawer disks.Drawer
}

// New makes one.
func New(t testing.TB) *Rack {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &Rack{t: t, dir: dir, Drawer: disks.Drawer{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), Mounts: filepath.Join(dir, "mountinfo"), Files: true}}
	for _, folder := range []string{"sys/class/block", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.Plug(Disk{Name: Own, Way: "pci0000:00/0000:00:04.0/nvme/nvme0", Size: 1 << 20, Parts: []string{"p1", "kra-esp", "p2", "kra-state"}})
	r.Mount("0:5", r.Number(Own+"p2"))
	return r
}

// A Disk is one that is plugged in.
type Disk struct {
	Name, Model, Serial string
	Way                 string   // to it, below sys/devices; that of a USB stick if empty
	Size                int64    // in bytes
	Parts               []string // of each partition what follows the disk's name in its own, and its label
}

// Plug plugs a disk in, of zeros, and returns the path of the file that is its contents.
func (r *Rack) Plug(d Disk) string {
	r.t.Helper()
	way := d.Way
	if way == "" {
		way = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0"
		r.write(filepath.Join("sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/serial"), d.Serial)
	}
	folder := filepath.Join("sys/devices", way, "block", d.Name)
	r.block(folder, d.Name, d.Size)
	r.write(filepath.Join(folder, "device/model"), d.Model)
	for i := 0; i < len(d.Parts); i += 2 {
		part := filepath.Join(folder, d.Name+d.Parts[i])
		r.block(part, d.Name+d.Parts[i], d.Size/2)
		r.write(filepath.Join(part, "partition"), fmt.Sprint(i/2+1))
		r.write(filepath.Join(part, "uevent"), "DEVNAME="+d.Name+d.Parts[i]+"\nPARTNAME="+d.Parts[i+1])
	}
	file := r.File(d.Name)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Truncate(file, d.Size); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// block makes the folder of a block device.
func (r *Rack) block(folder, name string, size int64) {
	r.t.Helper()
	r.minor++
	r.write(filepath.Join(folder, "dev"), fmt.Sprintf("8:%d", r.minor))
	r.write(filepath.Join(folder, "size"), fmt.Sprint(size/512))
	r.write(filepath.Join(folder, "diskseq"), fmt.Sprint(r.minor))
	link := filepath.Join(r.dir, "sys/class/block", name)
	if err := os.Symlink(filepath.Join(r.dir, folder), link); err != nil {
		r.t.Fatal(err)
	}
}

func (r *Rack) write(file, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// Unplug takes a disk out, and leaves its contents.
func (r *Rack) Unplug(name string) {
	r.t.Helper()
	link := filepath.Join(r.dir, "sys/class/block", name)
	folder, err := filepath.EvalSymlinks(link)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.RemoveAll(folder); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Remove(link); err != nil {
		r.t.Fatal(err)
	}
}

// File is the path of a disk's contents.
func (r *Rack) File(name string) string { return filepath.Join(r.dir, "dev", name) }

// Number is what the kernel calls a device: major:minor.
func (r *Rack) Number(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "sys/class/block", name, "dev"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b[:len(b)-1])
}

// Mount has file systems mounted on these devices, and no others.
func (r *Rack) Mount(numbers ...string) {
	r.t.Helper()
	text := ""
	for i, n := range numbers {
		text += fmt.Sprintf("%d 1 %s / /mnt%d rw - ext4 dev rw\n", i+20, n, i)
	}
	r.write("mountinfo", text[:max(0, len(text)-1)])
}

// Set writes a file below sys/class/block/NAME.
func (r *Rack) Set(name, file, text string) {
	r.t.Helper()
	r.write(filepath.Join("sys/class/block", name, file), text)
}
