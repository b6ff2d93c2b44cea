package disks

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// On a disk, from its first byte on:
//
//	header, 512 bytes | text of the backup | zeros to a multiple of 512, and 1024 more     POSIX.1-1988, ustar
//
// The one file is named kra-backup-BOX-20061102T150405Z.txt. On any Linux "tar tf /dev/sdb" lists it and "tar xf /dev/sdb" gives it
// back; what tar(1) makes of it anew, put on another disk from its first byte on, is read here too.
const (
	stamp      = "20060102T150405Z"
	tarBlock   = 512
	maxArchive = machine.MaxBackup + 64<<10 // bytes that are read of a disk
)

var fileName = regexp.MustCompile(`^(?:\./)?kra-backup-([a-z0-9][a-z0-9-]{0,62})-([0-9]{8}T[0-9]{6}Z)\.txt$`)

var errNoBackup = errors.New("it holds no backup")

// archive is what is written to a disk.
func archive(t machine.Title, text []byte) ([]byte, error) {
	if len(text) == 0 || len(text) > machine.MaxBackup || !machine.IsBackupText(string(text)) {
		return nil, errors.New("that is no backup's text")
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("kra-backup-%s-%s.txt", t.Box, t.Made.UTC().Format(stamp)), Mode: 0o444,
		Size: int64(len(text)), ModTime: t.Made.UTC().Truncate(time.Second), Format: tar.FormatUSTAR}
	if !fileName.MatchString(h.Name) {
		return nil, errors.New("a backup of no box")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(h); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return b.Bytes(), nil
}

// header reads the head of an archive, whose first file must be a backup as a plain file: no link, no sparse file, no foreign record.
func header(r *tar.Reader) (t machine.Title, size int64, err error) {
	h, err := r.Next()
	if err != nil {
		return t, 0, errNoBackup
	}
	m := fileName.FindStringSubmatch(h.Name)
	if h.Typeflag != tar.TypeReg || h.Linkname != "" || m == nil {
		return t, 0, errNoBackup
	}
	for key := range h.PAXRecords {
		if key != "mtime" && key != "atime" && key != "ctime" {
			return t, 0, fmt.Errorf("%w that is a plain file: its archive says %.40q of it", errNoBackup, key)
		}
	}
	if h.Size <= 0 || h.Size > machine.MaxBackup {
		return t, 0, fmt.Errorf("its file has %d bytes, and a backup at most %d", h.Size, machine.MaxBackup)
	}
	if t.Made, err = time.Parse(stamp, m[2]); err != nil {
		return t, 0, errNoBackup
	}
	t.Box = m[1]
	return t, h.Size, nil
}

// titleOf reads only the head.
func titleOf(head []byte) (machine.Title, int64, error) {
	return header(tar.NewReader(bytes.NewReader(head)))
}

// unpack reads the text of the backup out of an archive. Nothing is set aside for more than there is.
func unpack(r io.Reader) (string, error) {
	a := tar.NewReader(io.LimitReader(r, maxArchive))
	_, size, err := header(a)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	if n, err := io.Copy(&text, io.LimitReader(a, size)); err != nil || n != size {
		return "", fmt.Errorf("its backup ends after byte %d of %d: %w", n, size, errors.Join(err, io.ErrUnexpectedEOF))
	}
	if !machine.IsBackupText(text.String()) {
		return "", fmt.Errorf("%w: there are other letters in it than a backup has", errNoBackup)
	}
	return text.String(), nil
}
