package desk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"golang.org/x/sys/unix"
)

// Two desks in one folder take turns: each reads what the other has written. One that finds the other at work waits a little.
const (
	aloneWithin = 10 * time.Second
	alonePoll   = 50 * time.Millisecond
)

// alone has the folder for one act, which may be part of another.
func (d *Desk) alone(act func() error) error {
	if d.acting {
		return act()
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for end := time.Now().Add(aloneWithin); ; time.Sleep(alonePoll) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return fmt.Errorf("%s: another desk is at work there: try again when it is done: %w", d.dir, err)
		}
	}
	d.acting = true
	defer func() { d.acting = false }()
	return act()
}

// nextEnding is of a file that is ready to take the place of another as soon as the journal says so:
//
//	FILE.next written ──► noted in the journal ──► FILE.next renamed to FILE
const nextEnding = ".next"

func (d *Desk) nextOf(path string) string {
	return filepath.Join(d.dir, filepath.Base(path)+nextEnding)
}

// permissionsPath is where the newest permissions are.
func (d *Desk) permissionsPath() string { return filepath.Join(d.dir, PublicDir, PermissionsFile) }

// newest is what the journal says of the newest permissions: their number, zero before the first, and their digest.
func (d *Desk) newest() (number uint64, digest string, err error) {
	all, _, err := d.Journal()
	if err != nil {
		return 0, "", err
	}
	for _, e := range all {
		if e.Act != actRevoke && e.Act != actGrant && e.Act != actRestore && e.Act != actPublish {
			continue
		}
		n, err := strconv.ParseUint(e.Facts[factNumber], 10, 64)
		if err != nil || n <= number {
			return 0, "", fmt.Errorf("journal, entry %d: its permissions have no number, or not the next", e.Sequence)
		}
		number, digest = n, e.Facts[factPermissions]
	}
	return number, digest, nil
}

// Permissions are the newest that the domain has signed; before the first they are of number zero. An older file would bring back whom
// the domain has revoked since: it is refused. One that was noted and not yet put in its place, is put there.
func (d *Desk) Permissions() (s label.SignedPermissions, err error) {
	err = d.alone(func() error { s, err = d.newestPermissions(); return err })
	return s, err
}

func (d *Desk) newestPermissions() (label.SignedPermissions, error) {
	number, want, err := d.newest()
	if err != nil {
		return label.SignedPermissions{}, fmt.Errorf("read permissions: %w", err)
	}
	s, err := d.readPermissions(d.permissionsPath())
	switch {
	case err == nil && s.Permissions.Digest().String() == want:
		return s, nil
	case err == nil && s.Permissions.Sequence > number:
		return s, fmt.Errorf("read permissions: %s is of number %d, and the journal knows of %d only: it is older; put back the newest", d.permissionsPath(), s.Permissions.Sequence, number)
	case errors.Is(err, fs.ErrNotExist) && number == 0:
		return label.SignedPermissions{Permissions: label.Permissions{Domain: d.domain.Name, Mode: label.Revoke, Entries: []label.Permission{}}}, nil
	}
	if next, bad := d.readPermissions(d.nextOf(PermissionsFile)); bad == nil && next.Permissions.Digest().String() == want {
		return next, d.settle()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	return s, fmt.Errorf("read permissions: %s does not hold number %d, which the journal says is the newest: put that back, from a copy or from the domain's board",
		d.permissionsPath(), number)
}

func (d *Desk) readPermissions(path string) (label.SignedPermissions, error) {
	b, err := readFile(path, label.MaxDocument)
	if err != nil {
		return label.SignedPermissions{}, fmt.Errorf("read permissions: %w", err)
	}
	s, err := label.ParsePermissions(b)
	if err != nil {
		return s, err
	}
	_, err = s.Verify(d.domain)
	return s, err
}

// prepare writes permissions and the list that goes with them, so that nothing but two names are to be changed when they are noted.
func (d *Desk) prepare(s label.SignedPermissions, list []byte) error {
	if err := os.MkdirAll(filepath.Join(d.dir, PublicDir), 0o755); err != nil {
		return err
	}
	return errors.Join(writeWhole(d.nextOf(RevokedFile), list, 0o644), writeWhole(d.nextOf(PermissionsFile), s.Bytes(), 0o644))
}

// settle puts both in their places: the permissions last, since their being there says that it is done.
func (d *Desk) settle() error {
	if err := os.Rename(d.nextOf(RevokedFile), filepath.Join(d.dir, RevokedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put permissions in place: %w", err)
	}
	if err := os.Rename(d.nextOf(PermissionsFile), d.permissionsPath()); err != nil {
		return fmt.Errorf("put permissions in place: %w", err)
	}
	return errors.Join(syncDir(d.dir), syncDir(filepath.Join(d.dir, PublicDir)))
}

// syncDir returns when the names in a folder are on the disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
