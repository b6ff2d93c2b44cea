package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A Cursor reads what is durable in a log, batch after batch, beside Append and without a word to it. One goroutine uses it.
type Cursor struct {
	log    *Log
	next   int64 // the first record that was not returned yet
	batch  int64 // the first record of the next batch
	reader *frameReader
}

// Follow returns a cursor before record from, which may be the one that comes next.
func (l *Log) Follow(from int64) *Cursor { return &Cursor{log: l, next: from} }

// Next returns the records of one batch, and the index of the first, or io.EOF while there is none that is durable. After
// another error the cursor is where it was.
func (c *Cursor) Next() (first int64, records []receipt.Record, err error) {
	for err == nil && records == nil {
		first, records, err = c.step()
	}
	if err != nil && err != io.EOF {
		err = errors.Join(fmt.Errorf("follow log: %w", err), c.Close())
	}
	return first, records, err
}

// step returns nothing where a segment ends, and for batches that lie before the place to begin.
func (c *Cursor) step() (int64, []receipt.Record, error) {
	if c.next >= c.log.Head().Size {
		return 0, nil, io.EOF
	}
	if c.reader == nil {
		if err := c.open(); err != nil {
			return 0, nil, err
		}
	}
	f, err := c.reader.next()
	if errors.Is(err, errTorn) && c.batch > c.reader.s.first && (c.log.hasSegment(c.batch) || c.log.there(c.batch) != nil) {
		return 0, nil, c.Close()
	}
	if err == nil && f.first != c.batch {
		err = fmt.Errorf("%w: a batch begins with record %d, want %d", ErrEdited, f.first, c.batch)
	}
	if err != nil {
		return 0, nil, err
	}
	c.batch += int64(len(f.records))
	if c.batch <= c.next {
		return 0, nil, nil
	}
	first := c.next
	records := f.records[first-f.first:]
	c.next = c.batch
	return first, records, nil
}

// open opens the segment that holds the next record.
func (c *Cursor) open() error {
	firsts, err := c.log.segments()
	if err != nil {
		return err
	}
	if err := c.log.there(c.next); err != nil {
		return err
	}
	at := int64(-1)
	for _, first := range firsts {
		if first <= c.next {
			at = first
		}
	}
	if at < 0 {
		return fmt.Errorf("no segment holds record %d", c.next)
	}
	s, err := c.log.openSegment(at)
	if err != nil {
		return err
	}
	c.reader, c.batch = newFrameReader(s), at
	return nil
}

// Close gives back the file that is open; Next opens another.
func (c *Cursor) Close() error {
	if c.reader == nil {
		return nil
	}
	s := c.reader.s
	c.reader = nil
	return s.close()
}

// A Bookmark keeps how far somebody has read, beside the log, sealed for this log and for what it is called:
//
//	salt 32 | nonce 12 | ciphertext of (record 8, root of all records before it 32) | tag 16
//
// under HKDF-SHA256(store key, salt, "kra/log-bookmark/v1" ‖ SHA-256 of what it is called). Whoever has the disk can put an older one
// back, and then the same is read twice; he cannot have anything left out.
type Bookmark struct {
	log  *Log
	file keyFile
}

const (
	bookmarkFile    = "bookmark"
	bookmarkContext = "kra/log-bookmark/v1"
)

// Bookmark returns the log's bookmark for whatever name is of. There is one file: another name finds nothing in it.
func (l *Log) Bookmark(name receipt.Hash) Bookmark { return Bookmark{l, l.bookmarks(name)} }

// Save makes index the durable place to go on.
func (b Bookmark) Save(index int64) error {
	root, err := b.log.RootAt(index)
	if err == nil {
		var sealed []byte
		if sealed, err = b.file.seal(append(binary.BigEndian.AppendUint64(nil, uint64(index)), root[:]...)); err == nil {
			err = replaceFile(b.file.path, sealed)
		}
	}
	if err != nil {
		return fmt.Errorf("save bookmark: %w", err)
	}
	return nil
}

// ErrNoBookmark says that there is none of this name, or that it is not of this log as it is now: read from the beginning.
var ErrNoBookmark = errors.New("no bookmark of this log")

// Load returns the place that was saved last.
func (b Bookmark) Load() (int64, error) {
	sealed, err := b.file.read()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ErrNoBookmark
	}
	if err != nil {
		return 0, fmt.Errorf("load bookmark: %w", err)
	}
	plain, err := b.file.open(sealed)
	if err != nil || len(plain) != 8+tlog.HashSize {
		return 0, ErrNoBookmark
	}
	index := int64(binary.BigEndian.Uint64(plain))
	root, err := b.log.RootAt(index)
	if err != nil || string(root[:]) != string(plain[8:]) {
		return 0, ErrNoBookmark // the log goes on otherwise than it did
	}
	return index, nil
}
