package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/keyrelease/krabox/image/fat"
	"github.com/keyrelease/krabox/kra/label"
)

// InstallUKI puts a release on the ESP of a stopped disk, in place of the one there.
// Nothing else changes: state stays, other files on the ESP stay.
func InstallUKI(disk string, uki []byte) error {
	if _, err := ReadUKI(uki); err != nil {
		return fmt.Errorf("install release: %w", err)
	}
	return PutFile(disk, BootPath, uki)
}

// InstallApprovals puts approvals of a release on the ESP of a stopped disk, where its box looks for them.
func InstallApprovals(disk string, bundle []byte) error {
	if len(bundle) > label.MaxPreload || label.IsSealed(bundle) {
		return fmt.Errorf("install approvals: want a bundle for all boxes, of at most %d bytes", label.MaxPreload)
	}
	return PutFile(disk, label.PreloadPath, bundle)
}

// PutFile writes one file on the ESP of a stopped disk.
func PutFile(disk, path string, data []byte) error {
	return editESP(disk, func(files fat.Files) error {
		files[path] = data
		return nil
	})
}

// RemoveFile removes one file from the ESP of a stopped disk.
func RemoveFile(disk, path string) error {
	return editESP(disk, func(files fat.Files) error {
		if _, ok := files[path]; !ok {
			return fmt.Errorf("%s: %w", path, os.ErrNotExist)
		}
		delete(files, path)
		return nil
	})
}

// ReadESP returns all files on the ESP of a stopped disk.
func ReadESP(disk string) (fat.Files, error) {
	f, err := os.Open(disk)
	if err != nil {
		return nil, fmt.Errorf("read ESP: %w", err)
	}
	defer f.Close()
	p, err := FindPartition(f, PartitionESP)
	if err != nil {
		return nil, fmt.Errorf("read ESP: %w", err)
	}
	files, err := fat.Read(io.NewSectionReader(f, p.Offset, p.Size))
	if err != nil {
		return nil, fmt.Errorf("read ESP: %w", err)
	}
	return files, nil
}

// editESP rewrites the whole ESP with a changed set of files.
func editESP(disk string, change func(fat.Files) error) (err error) {
	files, err := ReadESP(disk)
	if err != nil {
		return err
	}
	if err := change(files); err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := FindPartition(f, PartitionESP)
	if err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	if err := zero(f, p.Offset, p.Size); err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	if err := fat.Write(io.NewOffsetWriter(f, p.Offset), p.Size, PartitionESP, espSerial, files); err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("change ESP: %w", err)
	}
	return nil
}
