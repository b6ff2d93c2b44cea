package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A disk makes and opens the files of a log. What create returned without error is durable: name, size and header.
// So is what keep wrote, whole or not at all, and what remove removed of a folder, in which it need not be.
// The real one is osDisk; tests wrap it to fail before or after the deed.
type disk interface {
	create(path string, size int64, header []byte) (file, error)
	open(path string) (file, error)
	keep(path string, data []byte) error
	remove(dir string, names ...string) error
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

// keep writes under another name and renames last.
func (osDisk) keep(path string, data []byte) (err error) {
	tmp := path + unfinished
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

func (osDisk) remove(dir string, names ...string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(dir)
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
