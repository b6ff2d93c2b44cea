// Package audit is the release log: a group-commit write-ahead log on preallocated files, encrypted at rest, with a
// Merkle tree over its records and a signed checkpoint per batch. No receipt, no key.
//
//	Append ──► request ──► queue ──► committer: tree, checkpoint, one write, one fdatasync ──► Committed
//	                                     │
//	                                     ├─ the disk is full: Health is red until it is not any more (full.go)
//	                                     └─ any other error: the log is closed until it is opened again, Health is red
//
// A folder holds:
//
//	seg-<first record, 20 digits>   64 MiB, preallocated: header, then frames; a frame is one batch (frame.go)
//	hashes                          the tree's stored hashes, rebuilt at each start and never trusted
//	receipt.key                     the receipt key of this boot, encrypted, to sign the next one in (rekey.go)
//	bookmark                        how far a reader has come, sealed (follow.go)
//	base-<size, 20 digits>          what stays of records that were exported and removed, sealed (base.go)
package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// MaxAppend bounds the records of one Append, in bytes.
const MaxAppend = 4 << 20

// Limits.
const (
	segmentSize  = 64 << 20 // a file's default size
	minSegment   = 64 << 10
	maxRequest   = MaxAppend
	maxEntries   = 1024    // entries of one Append
	maxBatch     = 4 << 20 // bytes after which a batch takes no further request
	maxQueue     = 1 << 16 // requests that wait; beyond, Append refuses at once
	stallTimeout = 10 * time.Second
	maxPatience  = 5 * time.Millisecond // how long a record may wait for others
)

var (
	// ErrClosed is wrapped by every error after the log was closed, by Close or by a failure.
	ErrClosed = errors.New("the log is closed")
	// ErrBusy is returned when more requests wait for the disk than the queue holds. Nothing was logged.
	ErrBusy = errors.New("the log is busy")
	// ErrNoKey is returned by Append before the first Rekey of this boot. Nothing was logged.
	ErrNoKey = errors.New("the log has no receipt key yet")
)

// Options say how a log is kept. Key, Box and Now are required.
type Options struct {
	Key         [32]byte         // encrypts the records at rest; from the sealed secret
	Box         string           // name of the box, for the checkpoint's origin
	Now         func() time.Time // the box's clock
	SegmentSize int64            // bytes of a segment file; 0 = 64 MiB

	disk disk // tests inject faults here; nil = the real one
}

// A Log is the release log of one box. Its methods may be called from any number of goroutines.
type Log struct {
	dir  string
	box  string
	now  func() time.Time
	size int64 // of a segment
	disk disk
	keys keyFile

	bookmarks func(name receipt.Hash) keyFile // by what they are of
	bases     func(size int64) keyFile        // what stays of removed records
	past      atomic.Pointer[past]            // of the last base; its zero Size: there is none
	prune     pruner

	mu     sync.Mutex // guards queue, due and failed
	queue  []*request
	due    time.Time // when the first patience in the queue ends
	failed error
	wake   chan struct{} // one token: the queue is not empty, or due is earlier now, or the log was closed
	done   chan struct{} // closed when the committer has ended

	// Only the committer touches these once Open has returned.
	seal    sealer
	segment *segment
	tree    *tree
	hsm     *tracker
	signer  *receipt.Signer
	scratch scratch
	short   int64       // room that the segment lacked when the disk was full
	again   *time.Timer // wakes the committer to look for room; nil: it never had to

	head       atomic.Pointer[Head]
	lastKey    atomic.Pointer[ed25519.PublicKey] // of the last key record; nil in an empty log
	broken     atomic.Pointer[error]             // what Health says; set once
	full       atomic.Pointer[error]             // likewise, while the disk is full
	writing    atomic.Int64                      // when the write under way began, Unix nanoseconds; 0 = none
	generation atomic.Uint64
	reset      atomic.Uint64
}

// A Head is what is durable at one moment.
type Head struct {
	Size       int64
	Root       tlog.Hash
	Checkpoint string // signed note over Size and Root
	HSM        receipt.ChainHead
}

// Head returns the last durable state; Append returns only when a Head covers its records.
func (l *Log) Head() Head { return *l.head.Load() }

// SetState sets the generation of the sealed state and the TPM's resetCount, which later checkpoints carry. Until then
// they carry those of the last checkpoint.
func (l *Log) SetState(generation, reset uint64) {
	l.generation.Store(generation)
	l.reset.Store(reset)
}

// Health returns nil while the log can be written, and otherwise why not and what to do.
func (l *Log) Health() error {
	if err := l.broken.Load(); err != nil {
		return *err
	}
	if err := l.full.Load(); err != nil {
		return *err
	}
	if at := l.writing.Load(); at != 0 {
		if d := time.Since(time.Unix(0, at)); d > stallTimeout {
			return fmt.Errorf("write log: the disk has not answered for %s", d.Round(time.Second))
		}
	}
	return nil
}

// RootAt returns the root of the first size records, for comparison with the NV record.
func (l *Log) RootAt(size int64) (tlog.Hash, error) {
	if have := l.Head().Size; size < 0 || size > have {
		return tlog.Hash{}, fmt.Errorf("compute log root: the log has %d records, want %d", have, size)
	}
	root, err := l.tree.rootAt(size)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("compute log root: %w", err)
	}
	return root, nil
}

// CheckPrefix compares the log with the NV record: it must be at least as long and begin with those very records.
func (l *Log) CheckPrefix(size uint64, root [32]byte) error {
	if have := l.Head().Size; size > uint64(have) {
		return fmt.Errorf("%w: it was cut, %d records are left of at least %d", ErrEdited, have, size)
	}
	got, err := l.RootAt(int64(size))
	if err != nil {
		return err
	}
	if got != root {
		return fmt.Errorf("%w: its first %d records are not those that the TPM remembers", ErrEdited, size)
	}
	return nil
}

// Accept takes the log by the NV record (CheckPrefix), unless records were removed beyond the first exported ones, which an auditor
// acknowledged. Only then goes what a cut left of a removal: below the base of another log lies perhaps this one.
func (l *Log) Accept(size uint64, root [32]byte, exported int64) error {
	if err := l.CheckPrefix(size, root); err != nil {
		return err
	}
	if below, _ := l.Removed(); below > exported {
		return fmt.Errorf("%w: records below %d were removed, but only the first %d were acknowledged as exported", ErrEdited, below, exported)
	}
	l.prune.mu.Lock()
	defer l.prune.mu.Unlock()
	_, err := l.sweep()
	return err
}

// Close ends the log after the write under way. Waiting requests are refused.
func (l *Log) Close() error {
	l.fail(ErrClosed)
	<-l.done
	l.prune.mu.Lock() // a removal under way ends first
	defer l.prune.mu.Unlock()
	return errors.Join(l.segment.close(), l.tree.close())
}

// fail closes the log for good with the first error given.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return
	}
	l.failed = err
	switch {
	case errors.Is(err, ErrClosed):
	case noRoom(err):
		l.failed = fmt.Errorf("%w: the disk is full; enlarge it and restart: %w", ErrClosed, err)
	default:
		l.failed = fmt.Errorf("%w; check the disk and restart: %w", ErrClosed, err)
	}
	l.broken.Store(&l.failed)
	l.signal()
}

// signal wakes the committer; it never blocks.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// start runs the committer.
func (l *Log) start() {
	l.wake, l.done = make(chan struct{}, 1), make(chan struct{})
	go l.commitLoop()
}

func (l *Log) path(name string) string { return filepath.Join(l.dir, name) }
