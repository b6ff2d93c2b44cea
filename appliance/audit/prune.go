package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// roundRecords is how many records one base stands for, if their segments are not larger: it bounds what a round holds in memory, and
// what it takes of a disk that is full before it gives something back.
const roundRecords = 1 << 18

// An Exported is somebody's word that he has the first records of this log, once their root was found to be the one he names. Only
// Log.Exported makes one; the zero Exported lets nothing be removed.
type Exported struct {
	log  *Log
	size int64
}

// Exported takes the word that the first size records, whose root is root, were exported.
func (l *Log) Exported(size int64, root [32]byte) (Exported, error) {
	if size < 1 {
		return Exported{}, errors.New("an export has at least one record")
	}
	got, err := l.RootAt(size)
	if err != nil {
		return Exported{}, err
	}
	if got != root {
		return Exported{}, fmt.Errorf("the first %d records of this log have another root: this is an export of another log, or the number or the root is mistyped", size)
	}
	return Exported{l, size}, nil
}

// A Removal is records From up to, but without, To, in as many bytes of segments.
type Removal struct {
	From, To int64
	Bytes    int64
}

// pruner is what prune.go keeps in a log.
type pruner struct {
	mu    sync.Mutex // held while segments are removed; after it, Log.mu may be taken
	spoil error      // a base may be on the disk or not: only a start can tell
}

// Removable returns what Prune would remove: the whole segments of which every record is below before, and was exported. The segment that
// is written stays.
func (l *Log) Removable(e Exported, before int64) (Removal, error) {
	if e.log != l || before > e.size {
		return Removal{}, fmt.Errorf("prune log: records below %d are not all acknowledged as exported, but those below %d", before, e.size)
	}
	if err := l.there(max(before, 1) - 1); err != nil {
		return Removal{}, fmt.Errorf("prune log: %w", err)
	}
	firsts, err := l.segments()
	if err != nil || len(firsts) == 0 {
		return Removal{}, errors.Join(errors.New("prune log: no segment can be found"), err)
	}
	r := Removal{From: firsts[0], To: firsts[0]}
	for i := 1; i < len(firsts) && firsts[i] <= before; i++ {
		info, err := os.Lstat(l.path(segmentName(firsts[i-1])))
		if err != nil {
			return Removal{}, fmt.Errorf("prune log: %w", err)
		}
		r.To, r.Bytes = firsts[i], r.Bytes+info.Size()
	}
	if r.To > r.From {
		return r, nil
	}
	if len(firsts) == 1 {
		return Removal{}, errors.New("prune log: there is nothing to remove yet: the log goes in whole files, and the only one there is, is still written")
	}
	return Removal{}, fmt.Errorf("prune log: there is nothing to remove: the log goes in whole files, and the oldest one ends with record %d", firsts[1]-1)
}

// Prune removes what Removable says, in rounds: a base is made durable, and then the segments that it stands for go. A cut at any point
// leaves a log that opens, with the same root. The error, if it stopped before its end, comes with what was removed. It may run beside
// Append and readers; who reads what goes is told ErrRemoved.
func (l *Log) Prune(e Exported, before int64) (Removal, error) {
	l.prune.mu.Lock()
	defer l.prune.mu.Unlock()
	all, err := l.Removable(e, before)
	if err != nil {
		return Removal{}, err
	}
	done := Removal{From: all.From, To: all.From}
	for done.To < all.To {
		r, err := l.pruneRound(all.To)
		if err != nil {
			return done, fmt.Errorf("prune log: %w", err)
		}
		done.To, done.Bytes = r.To, done.Bytes+r.Bytes
	}
	l.signal() // there is room
	return done, nil
}

// pruneRound removes the first segments before to, at least one.
func (l *Log) pruneRound(to int64) (r Removal, err error) {
	if err := l.mayPrune(); err != nil {
		return r, err
	}
	firsts, err := l.segments()
	if err != nil {
		return r, err
	}
	r = Removal{From: firsts[0], To: firsts[1]}
	for _, first := range firsts[2:] {
		if first <= to && first-r.From <= roundRecords {
			r.To = first
		}
	}
	p, leaves, err := l.pastOf(r.To)
	if err != nil {
		return r, err
	}
	if err := l.writeBase(p, leaves); err != nil {
		l.prune.spoil = errors.New("a write before this failed, and only a restart tells what the disk has of it: reboot")
		if noRoom(err) {
			err = fmt.Errorf("%w: enlarge it", err)
		}
		return r, errors.Join(fmt.Errorf("write %s: nothing more was removed: %w", baseName(r.To), err), l.unwrite(r.To))
	}
	l.past.Store(&p)
	r.Bytes, err = l.sweep()
	return r, err
}

// unwrite takes back a base that was not written whole. If that is durable, it is as if nothing had been tried.
func (l *Log) unwrite(size int64) error {
	if err := l.disk.remove(l.dir, baseName(size)); err != nil {
		return fmt.Errorf("take it back: %w", err)
	}
	l.prune.spoil = nil
	return nil
}

// mayPrune refuses on a log that is closed, or of which only a start can tell what it has.
func (l *Log) mayPrune() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failed, l.prune.spoil)
}

// pastOf reads the records from the base on up to, but without, to. They are held to the tree and to the checkpoint after them.
func (l *Log) pastOf(to int64) (p past, leaves []tlog.Hash, err error) {
	old := l.past.Load()
	f, err := old.after()
	if err != nil {
		return p, nil, err
	}
	hashes, err := l.tree.ReadHashes(receipt.EdgeIndexes(old.Size))
	if err != nil {
		return p, nil, err
	}
	edge, err := receipt.NewEdge(old.Size, hashes)
	if err != nil {
		return p, nil, err
	}
	err = l.walk(old.Size, to, func(b frame) error {
		for _, r := range b.records {
			leaves = append(leaves, r.Leaf())
			edge.Append(leaves[len(leaves)-1])
		}
		return f.pass(b)
	})
	if err != nil {
		return p, nil, err
	}
	c, err := checkpointOf(f.checkpoint)
	if err != nil {
		return p, nil, err
	}
	root, err := l.tree.rootAt(to)
	if err != nil {
		return p, nil, err
	}
	if c.Size != to || edge.Size() != to || c.Root != root || edge.Root() != root {
		return p, nil, fmt.Errorf("%w: records %d to %d are not what the log had", ErrEdited, old.Size, to-1)
	}
	return past{From: old.Size, Size: to, Removed: l.now().UTC().Truncate(time.Second), Checkpoint: f.checkpoint, Path: f.path,
		Lives: f.hsm.states(), Current: f.hsm.current, Proven: f.hsm.proven}, leaves, nil
}

// sweep removes the segments that bases stand for, oldest first, and returns how many bytes they had. A cut may leave some; nothing
// reads them, and Accept sweeps again.
func (l *Log) sweep() (bytes int64, err error) {
	firsts, err := numbers(l.dir, segmentPrefix)
	if err != nil {
		return 0, err
	}
	var gone []string
	for _, first := range firsts {
		if first >= l.past.Load().Size {
			break
		}
		info, err := os.Lstat(l.path(segmentName(first)))
		if err != nil {
			return 0, err
		}
		gone, bytes = append(gone, segmentName(first)), bytes+info.Size()
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if err := l.disk.remove(l.dir, gone...); err != nil {
		return 0, fmt.Errorf("remove segments: not all may be gone; the next start removes the rest: %w", err)
	}
	return bytes, nil
}
