package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// window is how many of the newest stored hashes stay in memory at least (at most about twice that), 2 MiB.
const window = 1 << 16

// A tree is the Merkle tree's stored hashes: all in a file that is rebuilt at each start and never synced, the
// newest and the edge also in memory, so that appending and proving new records reads no disk. One goroutine
// writes; anyone may read.
type tree struct {
	file *os.File

	mu      sync.RWMutex
	now     receipt.Edge        // of all leaves
	edge    map[int64]tlog.Hash // what of the edge at the last trim lies before the tail
	tail    []tlog.Hash         // the newest stored hashes
	base    int64               // index of tail[0]
	flushed int64               // stored hashes in the file
}

// newTree begins an empty tree. Its file's lock is that of the whole log: two writers would ruin it.
func newTree(path string) (*tree, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log hashes: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock log, which another process may have open: %w", err), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("open log hashes: %w", err), f.Close())
	}
	return &tree{file: f, edge: map[int64]tlog.Hash{}}, nil
}

func (t *tree) close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}

// add takes more leaves. Nothing reaches the file before flush.
func (t *tree) add(leaves []record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range leaves {
		t.tail = t.now.AppendStored(t.tail, leaves[i].leaf)
	}
}

// flush writes the new hashes to the file and lets go of old ones.
func (t *tree) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := t.tail[t.flushed-t.base:]
	b := make([]byte, 0, len(fresh)*tlog.HashSize)
	for i := range fresh {
		b = append(b, fresh[i][:]...)
	}
	if _, err := t.file.WriteAt(b, t.flushed*tlog.HashSize); err != nil {
		return fmt.Errorf("write log hashes: %w", err)
	}
	t.flushed += int64(len(fresh))
	return t.trim()
}

// trim renews the edge and then forgets all but the window.
func (t *tree) trim() error {
	if len(t.tail) < 2*window {
		return nil
	}
	at := receipt.EdgeIndexes(t.now.Size())
	hs, err := t.read(at)
	if err != nil {
		return err
	}
	t.edge = make(map[int64]tlog.Hash, len(at))
	for i, x := range at {
		t.edge[x] = hs[i]
	}
	cut := len(t.tail) - window
	t.tail = append(t.tail[:0], t.tail[cut:]...)
	t.base += int64(cut)
	return nil
}

// ReadHashes makes a tree a tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.read(indexes)
}

func (t *tree) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= t.base && x < t.base+int64(len(t.tail)) {
			out[i] = t.tail[x-t.base]
		} else if h, ok := t.edge[x]; ok {
			out[i] = h
		} else if _, err := t.file.ReadAt(out[i][:], x*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("read log hashes: %w", err)
		}
	}
	return out, nil
}

// root returns the root of all leaves.
func (t *tree) root() tlog.Hash {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.now.Root()
}

// rootAt returns the root of the first n leaves.
func (t *tree) rootAt(n int64) (tlog.Hash, error) { return tlog.TreeHash(n, t) }

// prove returns the inclusion proof of record i in the tree of n leaves.
func (t *tree) prove(n, i int64) (tlog.RecordProof, error) { return tlog.ProveRecord(n, i, t) }

// size returns the number of leaves.
func (t *tree) size() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.now.Size()
}
