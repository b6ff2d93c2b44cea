package disks

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
)

const (
	markContext = "kra/disk/v1"
	headBytes   = 1 << 20  // of a disk that are looked at, at its beginning
	tailBytes   = 64 << 10 // and at its end
	maxWord     = 64       // bytes of what a device calls itself
	maxHolds    = 200      // bytes of what is said of its contents
)

// getDiskSeq asks which disk of this boot it is: a name may be another disk's a moment later, this number never is (linux/fs.h).
const getDiskSeq = 0x80081280

// look says what a disk is and holds.
func (d Drawer) look(b block, parts []block) machine.Disk {
	k := machine.Disk{Name: b.name, Model: d.word(b, "model", "product", "vendor"), Serial: d.word(b, "serial", "vpd_pg80"), Bus: bus(b.path), Size: b.size()}
	f, err := d.open(b, os.O_RDONLY)
	if err != nil {
		k.Holds = plain("cannot be opened: "+reason(err), maxHolds)
		return k
	}
	defer f.Close()
	head, tail, err := ends(f, k.Size)
	if err != nil {
		k.Holds = plain("cannot be read: "+reason(err), maxHolds)
		return k
	}
	k.Holds = plain(holds(head, tail, parts), maxHolds)
	k.Mark = markOf(k, b.number, attribute(b.path, "diskseq"), head, tail)
	return k
}

func ends(f *os.File, size int64) (head, tail []byte, err error) {
	head, tail = make([]byte, min(size, headBytes)), make([]byte, min(size, tailBytes))
	if _, err = f.ReadAt(head, 0); err == nil {
		_, err = f.ReadAt(tail, size-int64(len(tail)))
	}
	return head, tail, err
}

func markOf(k machine.Disk, number, seq string, head, tail []byte) machine.Mark {
	b, err := json.Marshal(struct {
		Disk        machine.Disk
		Number, Seq string
		Head, Tail  [32]byte
	}{k, number, seq, sha256.Sum256(head), sha256.Sum256(tail)})
	if err != nil {
		return "" // good for nothing
	}
	return machine.Mark(fmt.Sprintf("%x", sha256.Sum256(append([]byte(markContext+"\x00"), b...))))
}

// open opens a device alone: the kernel refuses one that is mounted, or of which a part is. What was opened is then held to what was listed.
func (d Drawer) open(b block, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.Dev, b.name), flags|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", b.name, err)
	}
	if err := d.is(f, b); err != nil {
		f.Close()
		return nil, fmt.Errorf("open disk %s: %w", b.name, err)
	}
	return f, nil
}

var errOther = errors.New("it is not the disk that was listed")

func (d Drawer) is(f *os.File, b block) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return err
	}
	if n, err := f.Seek(0, io.SeekEnd); err != nil || n != b.size() {
		return errors.Join(errOther, err)
	}
	if d.Files {
		if s.Mode&unix.S_IFMT != unix.S_IFREG {
			return errors.New("it is not a regular file")
		}
		return nil
	}
	if s.Mode&unix.S_IFMT != unix.S_IFBLK || fmt.Sprintf("%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev)) != b.number {
		return errOther
	}
	seq, err := unix.IoctlGetInt(int(f.Fd()), getDiskSeq)
	if err != nil {
		return fmt.Errorf("which disk it is: %w", err)
	}
	if fmt.Sprint(seq) != attribute(b.path, "diskseq") {
		return errOther
	}
	return nil
}

// word is what a device, or what it is plugged into, says under the first of these names that says something.
func (d Drawer) word(b block, names ...string) string {
	root := filepath.Join(d.Sys, "devices")
	for at := b.path; strings.HasPrefix(at, root+"/"); at = filepath.Dir(at) {
		for _, name := range names {
			for _, folder := range []string{at, filepath.Join(at, "device")} {
				if w := plain(attribute(folder, name), maxWord); w != "" && !strings.HasPrefix(w, "0x") {
					return w
				}
			}
		}
	}
	return ""
}

// bus is how a disk is attached, by the way to it.
func bus(path string) string {
	for _, b := range []struct{ part, name string }{{"/usb", "usb"}, {"/virtio", "virtio"}, {"/nvme", "nvme"}, {"/ata", "sata"}} {
		if strings.Contains(path, b.part) {
			return b.name
		}
	}
	return "scsi"
}

// holds says what is on a disk, by its beginning, its end, and the partitions that the kernel sees.
func holds(head, tail []byte, parts []block) string {
	if blank(head) && blank(tail) {
		return "empty"
	}
	if t, size, err := titleOf(head); err == nil {
		return fmt.Sprintf("a backup of box %s, made %s, %d bytes (so says its name)", t.Box, t.Made.UTC().Format("2006-01-02 15:04:05 UTC"), size)
	}
	var names []string
	for _, p := range parts {
		names = append(names, strings.TrimSpace(p.name+" "+plain(p.label, maxWord)))
	}
	what := kindOf(head)
	if len(names) > 0 {
		what = strings.TrimSpace(what + " partitions " + strings.Join(names, ", "))
	}
	if what == "" {
		what = "of a kind that is not known here"
	}
	return "something else: " + what
}

func blank(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// kindOf names what begins a disk, as far as it is known by its mark.
func kindOf(head []byte) string {
	for _, k := range []struct {
		at         int
		mark, name string
	}{
		{3, "NTFS    ", "an NTFS file system"}, {3, "EXFAT   ", "an exFAT file system"}, {54, "FAT1", "a FAT file system"}, {82, "FAT32", "a FAT file system"},
		{1024 + 56, "\x53\xef", "an ext file system"}, {32769, "CD001", "a CD's file system"}, {0, "XFSB", "an XFS file system"}, {65600, "_BHRfS_M", "a btrfs file system"},
		{0, "LUKS\xba\xbe", "an encrypted disk (LUKS)"}, {257, "ustar", "a tar archive that is no backup"}, {512, "EFI PART", "a partition table (GPT)"},
		{510, "\x55\xaa", "a partition table or boot sector"},
	} {
		if len(head) >= k.at+len(k.mark) && string(head[k.at:k.at+len(k.mark)]) == k.mark {
			return k.name
		}
	}
	return ""
}

// reason is why a disk does not do what it is asked, in the kernel's words.
func reason(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return err.Error()
}
