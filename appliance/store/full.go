package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrFull is wrapped by errors about a disk that has no room for a change. Nothing was changed, and the store is open.
var ErrFull = errors.New("the disk is full")

// changeRoom is what must be free for a change beside what it writes, in bytes: bbolt copies the pages on the way to a record.
const changeRoom = 1 << 20

// recordRoom is a page of a record's own, which names that lie apart each take, and half a page on the way to it.
const recordRoom = 4096 + 2048

// Room returns nil while the disk has room for a change, and else an error that wraps ErrFull. It waits for no commit.
func (s *Store) Room() error { return roomFor(s.dir, 0) }

// roomFor asks before anything is written: half a change that the disk did not take leaves open what it holds.
func roomFor(dir string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("ask for room on the disk: %w", err)
	}
	if free, want := int64(st.Bavail)*int64(st.Bsize), changeRoom+2*bytes; free < want {
		return fmt.Errorf("%w: %d KiB are free, and a change needs %d; enlarge the disk, the box goes on by itself", ErrFull, free>>10, want>>10)
	}
	return nil
}

// room is roomFor what a draft writes.
func (f *file) room(next *State) error {
	bytes := int64(0)
	for _, e := range next.edits {
		bytes += int64(len(e.key)+len(e.value)) + recordRoom
	}
	return roomFor(filepath.Dir(f.path), bytes)
}
