package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CopyPartition writes a partition of a stopped disk to a file of its own, sparse.
func CopyPartition(disk, name, to string) error {
	in, p, err := openPartition(disk, name, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("copy partition %s: %w", name, err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy partition %s: %w", name, err)
	}
	err = out.Truncate(p.Size)
	if err == nil {
		err = copyData(out, 0, in, p.Offset, p.Size)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy partition %s: %w", name, err)
	}
	return nil
}

// RestorePartition puts a copy made by CopyPartition back on a stopped disk, byte for byte.
func RestorePartition(disk, name, from string) error {
	out, p, err := openPartition(disk, name, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("restore partition %s: %w", name, err)
	}
	err = restore(out, p, from)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("restore partition %s: %w", name, err)
	}
	return nil
}

func restore(out *os.File, p Partition, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || info.Size() != p.Size {
		return errors.Join(err, fmt.Errorf("%s is not a copy of this partition", from))
	}
	if err := zero(out, p.Offset, p.Size); err != nil {
		return err
	}
	return copyData(out, p.Offset, in, 0, p.Size)
}

// CopyFile copies a file, keeping holes: a disk image is mostly holes.
func CopyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	err = out.Truncate(info.Size())
	if err == nil {
		err = copyData(out, 0, in, 0, info.Size())
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	return nil
}

func openPartition(disk, name string, flag int) (*os.File, Partition, error) {
	f, err := os.OpenFile(disk, flag, 0)
	if err != nil {
		return nil, Partition{}, err
	}
	p, err := FindPartition(f, name)
	if err != nil {
		return nil, Partition{}, errors.Join(err, f.Close())
	}
	return f, p, nil
}

// zero makes a range of a file read as zeroes, by a hole.
func zero(f *os.File, offset, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
}

// copyData copies the data of a range and leaves its holes.
func copyData(out io.WriterAt, to int64, in *os.File, from, size int64) error {
	for at := from; at < from+size; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || data >= from+size {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, from+size)
		run := io.NewSectionReader(in, data, hole-data)
		if _, err := io.Copy(io.NewOffsetWriter(out, to+data-from), run); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
