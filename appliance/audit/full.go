package audit

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// ErrFull is wrapped by the errors of a log for which the disk has no room. Nothing was logged, what was logged is whole, and the
// log goes on by itself when there is room.
//
//	        no room for the next segment, or for hashes
//	good ───────────────────────────────────────────────► full: what is the port's is refused, the rest goes into the spare
//	  ▲                                                     │
//	  └──────────── room again, looked for every second ────┘
var ErrFull = errors.New("the disk is full")

const (
	// spareShare of each segment is kept from releases, refusals and rules, for starts, log-ins and the console of a box with a full disk.
	spareShare = 32
	// reserveShare of a segment stays free on the disk beside a new one: the state and the tree's hashes grow too.
	reserveShare = 2
	lookAgain    = time.Second
)

// noRoom tells a disk that is full from one that is broken.
func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// essential reports the kinds that may take the spare: those that are not of the release port. Rules are of the port, and each start writes
// all of them.
func essential(k receipt.Kind) bool {
	return k != receipt.Release && k != receipt.Refusal && k != receipt.Book
}

// fit sees to it that the segment takes the batch, before anything of it is in the tree. Requests for which there is no room are
// answered here.
func (l *Log) fit(batch []*request) ([]*request, error) {
	if l.takes(batch) {
		return batch, nil
	}
	err := l.roll()
	if err == nil || !noRoom(err) {
		return batch, err
	}
	l.fills(err)
	l.short = max(l.short, l.need(batch))
	if batch = l.turnAway(batch, func(q *request) bool { return !q.essential }); !l.takes(batch) {
		batch = l.turnAway(batch, func(*request) bool { return true })
	}
	return batch, nil
}

// takes reports whether the segment has room for a batch.
func (l *Log) takes(batch []*request) bool {
	return len(batch) == 0 || l.segment != nil && l.segment.end+l.need(batch) <= l.segment.size
}

// need is how many bytes of a segment have to be free for a batch, at most.
func (l *Log) need(batch []*request) int64 {
	n, spare := int64(frameOverhead), int64(0)
	for _, q := range batch {
		n += int64(q.size)
		if q.rekey != nil {
			n += recordOverhead + receipt.MaxPublic // it is made when its place is known
		}
		if !q.essential {
			spare = l.size / spareShare
		}
	}
	return n + spare
}

// turnAway answers some requests that the disk is full, and returns the others.
func (l *Log) turnAway(batch []*request, some func(*request) bool) (kept []*request) {
	for _, q := range batch {
		if !some(q) {
			kept = append(kept, q)
			continue
		}
		q.err = *l.full.Load()
		close(q.done)
	}
	return kept
}

// fills notes that the disk is full, and has the committer look again.
func (l *Log) fills(why error) {
	err := fmt.Errorf("%w: no key is released and nothing is changed until it has more room; have the log exported (log export, log exported) "+
		"and old records removed (log prune), or the disk enlarged; the box goes on by itself: %w", ErrFull, why)
	l.full.Store(&err)
	if l.again == nil {
		l.again = time.AfterFunc(lookAgain, l.signal)
	}
	l.again.Reset(lookAgain)
}

// relieve finds out whether a full disk has room again.
func (l *Log) relieve() error {
	if l.full.Load() == nil {
		return nil
	}
	err := l.tree.flush()
	if err == nil && (l.segment == nil || l.segment.end+l.short > l.segment.size) {
		err = l.roll()
	}
	if noRoom(err) {
		l.fills(err)
		return nil
	}
	if err == nil {
		l.short = 0
		l.full.Store(nil)
	}
	return err
}

// keepFree refuses to take the last of a disk.
func keepFree(dir string, size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if free, want := int64(st.Bavail)*int64(st.Bsize), size+size/reserveShare; free < want {
		return fmt.Errorf("%d bytes are free, want %d: %w", free, want, unix.ENOSPC)
	}
	return nil
}
