package audit

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const segmentPrefix = "seg-"

// A segment is one file of the log. Only the committer and recovery touch it.
type segment struct {
	file  file
	aead  cipher.AEAD
	first int64 // its first record
	size  int64 // of the file
	end   int64 // where the next frame goes
}

func segmentName(first int64) string { return numbered(segmentPrefix, first) }

func numbered(prefix string, n int64) string { return fmt.Sprintf("%s%020d", prefix, n) }

// newSegment makes the file whose first record will be first.
func (l *Log) newSegment(first int64) (*segment, error) {
	var salt [32]byte
	rand.Read(salt[:])
	header := append([]byte(segmentMagic), salt[:]...)
	header = binary.BigEndian.AppendUint64(header, uint64(first))
	aead, err := l.seal.cipher(salt[:], first)
	if err != nil {
		return nil, err
	}
	header = aead.Seal(header, nil, nil, header)
	f, err := l.disk.create(l.path(segmentName(first)), l.size, header)
	if err != nil {
		return nil, fmt.Errorf("create log segment: %w", err)
	}
	return &segment{file: f, aead: aead, first: first, size: l.size, end: segmentHeader}, nil
}

// openSegment opens the file of that first record; its end is not known yet.
func (l *Log) openSegment(first int64) (*segment, error) {
	name := l.path(segmentName(first))
	info, err := os.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("open log segment: %w", err)
	}
	f, err := l.disk.open(name)
	if err != nil {
		return nil, fmt.Errorf("open log segment: %w", err)
	}
	s := &segment{file: f, first: first, size: info.Size(), end: segmentHeader}
	if err := s.readHeader(l.seal); err != nil {
		return nil, errors.Join(fmt.Errorf("open log segment %s: %w", segmentName(first), err), f.Close())
	}
	return s, nil
}

func (s *segment) readHeader(seal sealer) error {
	var h [segmentHeader]byte
	if _, err := s.file.ReadAt(h[:], 0); err != nil {
		return err
	}
	if string(h[:16]) != segmentMagic || binary.BigEndian.Uint64(h[48:]) != uint64(s.first) {
		return fmt.Errorf("%w: damaged header", ErrEdited)
	}
	var err error
	if s.aead, err = seal.cipher(h[16:48], s.first); err != nil {
		return err
	}
	if _, err := s.aead.Open(nil, nil, h[segmentStart:], h[:segmentStart]); err != nil {
		return fmt.Errorf("%w: the header is of another box, or was edited", ErrEdited)
	}
	return nil
}

func (s *segment) close() error {
	if s == nil || s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// segments lists the first records of the segments from the last base on, in order. What a cut left of those before it is not the
// log's any more.
func (l *Log) segments() ([]int64, error) {
	all, err := numbers(l.dir, segmentPrefix)
	for len(all) > 0 && all[0] < l.past.Load().Size {
		all = all[1:]
	}
	return all, err
}

// numbers lists the numbers of the files with a prefix in a folder, in order.
func numbers(dir, prefix string) ([]int64, error) {
	list, err := os.ReadDir(dir) // sorted by name, hence by number
	if err != nil {
		return nil, err
	}
	var all []int64
	for _, e := range list {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || strings.HasSuffix(digits, unfinished) {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || numbered(prefix, n) != e.Name() {
			return nil, fmt.Errorf("strange file %q in the log", e.Name())
		}
		all = append(all, n)
	}
	return all, nil
}

// clean removes files that a cut left half made.
func clean(dir string) (err error) {
	for _, prefix := range []string{segmentPrefix, basePrefix} {
		half, bad := filepath.Glob(filepath.Join(dir, prefix+"*"+unfinished))
		err = errors.Join(err, bad)
		for _, name := range half {
			err = errors.Join(err, os.Remove(name))
		}
	}
	return err
}
