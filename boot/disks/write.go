package disks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
)

// Write puts a backup on a marked disk, in place of all that is there, and reads it back.
//
//	first block and last bytes emptied --> text --> first block --> read back from the disk and compared
//
// Each step is on the disk before the next one begins: cut off anywhere, the disk holds a backup that is whole, or none.
func (d Drawer) Write(name string, mark machine.Mark, t machine.Title, text []byte) (err error) {
	all, err := archive(t, text)
	if err != nil {
		return err
	}
	f, k, err := d.find(name, mark, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil && closed != nil {
			err = fmt.Errorf("write disk %s: %w", name, closed)
		}
	}()
	if k.Size < int64(len(all))+tailBytes {
		return fmt.Errorf("disk %s has %d bytes, and this backup takes %d", name, k.Size, len(all)+tailBytes)
	}
	if err := put(f, all, k.Size); err != nil {
		return fmt.Errorf("write disk %s: %s; it may hold neither this backup nor what it held", name, reason(err))
	}
	if err := d.compare(f, all); err != nil {
		return fmt.Errorf("read disk %s back: %s; do not rely on what is on it", name, reason(err))
	}
	return nil
}

func put(f *os.File, all []byte, size int64) error {
	for _, x := range []struct {
		what []byte
		at   int64
	}{
		{make([]byte, tarBlock), 0}, {make([]byte, tailBytes), size - tailBytes}, // a copy of a partition table is there
		{all[tarBlock:], tarBlock}, {all[:tarBlock], 0},
	} {
		if _, err := f.WriteAt(x.what, x.at); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

var errDiffers = errors.New("it does not hold what was written")

// compare reads from the disk, not from the kernel's memory of it.
func (d Drawer) compare(f *os.File, all []byte) error {
	if !d.Files {
		if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
			return err
		}
	}
	got := make([]byte, 1<<20)
	for at := 0; at < len(all); at += len(got) {
		want := all[at:min(len(all), at+len(got))]
		if _, err := f.ReadAt(got[:len(want)], int64(at)); err != nil {
			return err
		}
		if !bytes.Equal(got[:len(want)], want) {
			return errDiffers
		}
	}
	if !d.Files {
		_ = unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0) // partitions that are no more; they are not used either way
	}
	return nil
}

// Read returns the text of the backup on a marked disk.
func (d Drawer) Read(name string, mark machine.Mark) (string, error) {
	f, k, err := d.find(name, mark, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := unpack(io.NewSectionReader(f, 0, k.Size))
	if err != nil {
		return "", fmt.Errorf("read disk %s: %s", name, reason(err))
	}
	return text, nil
}
