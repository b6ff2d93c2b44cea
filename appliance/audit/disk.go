package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A disk makes and opens the files of a log. What create returned without error is durable: name, size and header.
// The real one is osDisk; tests wrap it to fail before or after the deed.
type disk interface {
	create(path string, size int64, header []byte) (file, error)
	open(path string) (file, error)
}

// A file is written at any place below its size. Sync returns nil only when all earlier writes are durable; after
// an error nothing is known of them.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

type osDisk struct{}

// unfinished ends the name of a file that create has not finished.
const unfinished = ".new"

// create preallocates under another name and renames last, so that a cut never leaves half a segment. The rename
// refuses to replace a file.
func (osDisk) create(path string, size int64, header []byte) (_ file, err error) {
	if err := keepFree(filepath.Dir(path), size); err != nil {
		return nil, err
	}
	tmp := path + unfinished
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(tmp))
		}
	}()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", size, err)
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return nil, fmt.Errorf("rename %s: %w", filepath.Base(tmp), err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// An osFile syncs data only: size and blocks were settled by create.
type osFile struct{ *os.File }

func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
