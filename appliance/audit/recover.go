package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyrelease/krabox/kra/receipt"
)

// ErrEdited is wrapped by Open's error when the log's files are not what this box wrote.
var ErrEdited = errors.New("the log was edited")

// Open reads the whole log in dir, which it makes if need be: every record is decrypted and hashed, every batch's
// root compared with its checkpoint. A torn batch is cut only at the very end, where a power cut leaves it; any
// other fault is ErrEdited. Nothing is removed: Accept the log by the NV record, then Rekey, then Append.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{dir: dir, box: o.Box, now: o.Now, size: o.SegmentSize, disk: o.disk, seal: newSealer(o.Key),
		keys: newKeyFile(dir, o.Key), hsm: newTracker()}
	l.past.Store(&past{})
	l.bases = func(size int64) keyFile {
		f := sealedFile(l.path(baseName(size)), o.Key, string(binary.BigEndian.AppendUint64([]byte(baseContext), uint64(size))))
		f.limit = maxBase
		return f
	}
	l.bookmarks = func(name receipt.Hash) keyFile {
		return sealedFile(l.path(bookmarkFile), o.Key, bookmarkContext+string(name[:]))
	}
	if l.size == 0 {
		l.size = segmentSize
	}
	if l.disk == nil {
		l.disk = osDisk{}
	}
	if l.size < minSegment {
		return nil, fmt.Errorf("open log: segments of %d bytes are too small", l.size)
	}
	if err := receipt.CheckBox(o.Box); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), l.segment.close(), l.tree.close())
	}
	l.start()
	return l, nil
}

func (l *Log) recover() (err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(l.dir)); err != nil {
		return err
	}
	if l.tree, err = newTree(l.path("hashes")); err != nil {
		return err
	}
	if err := clean(l.dir); err != nil {
		return err
	}
	l.head.Store(&Head{Root: l.tree.root()})
	bases, err := numbers(l.dir, basePrefix)
	if err != nil {
		return err
	}
	for _, size := range bases {
		if err := l.recoverBase(size); err != nil {
			return fmt.Errorf("%s: %w", baseName(size), err)
		}
	}
	firsts, err := l.segments()
	if err != nil {
		return err
	}
	if len(bases) > 0 && len(firsts) == 0 {
		return fmt.Errorf("%w: no segment follows %s", ErrEdited, baseName(l.tree.size()))
	}
	for i, first := range firsts {
		if err := l.segment.close(); err != nil {
			return err
		}
		if l.segment, err = l.openSegment(first); err != nil {
			return err
		}
		if err := l.recoverSegment(i == len(firsts)-1); err != nil {
			return fmt.Errorf("segment %s: %w", segmentName(first), err)
		}
	}
	return l.tree.flush()
}

// recoverSegment takes over the batches of the segment just opened; only the last one may end torn.
func (l *Log) recoverSegment(last bool) error {
	s := l.segment
	if s.first != l.tree.size() {
		return fmt.Errorf("%w: it begins with record %d, want %d", ErrEdited, s.first, l.tree.size())
	}
	w := newFrameReader(s)
	for {
		f, err := w.next()
		if errors.Is(err, errTorn) {
			return l.tail(w, last)
		}
		if err != nil {
			return err
		}
		if err := l.replay(f); err != nil {
			return err
		}
		s.end = f.end
	}
}

// replay takes over one batch.
func (l *Log) replay(f frame) error {
	if f.first != l.tree.size() {
		return fmt.Errorf("%w: a batch begins with record %d, want %d", ErrEdited, f.first, l.tree.size())
	}
	for _, r := range f.records {
		if err := l.replayRecord(r); err != nil {
			return fmt.Errorf("record %d: %w", l.tree.size(), err)
		}
	}
	return l.replayCheckpoint(f.checkpoint)
}

func (l *Log) replayRecord(r receipt.Record) error {
	g, err := receipt.GlanceAt(r.Public)
	if err != nil {
		return err
	}
	if g.Key {
		p, err := receipt.ParsePublic(r.Public)
		if err != nil {
			return err
		}
		if err := l.setReceiptKey(p.Key.Path); err != nil {
			return err
		}
	}
	one := []record{{leaf: r.Leaf(), item: g.Item}}
	if err := l.hsm.admit(one); err != nil {
		return err
	}
	l.tree.add(one)
	return nil
}

// replayCheckpoint compares the batch's checkpoint with the tree as computed. Its signature is the auditor's affair;
// here the frame's seal vouches for it.
func (l *Log) replayCheckpoint(signed string) error {
	c, err := checkpointOf(signed)
	if err != nil {
		return err
	}
	size, root := l.tree.size(), l.tree.root()
	if c.Size != size || c.Root != root || c.Box != l.box {
		return fmt.Errorf("%w: the checkpoint after record %d is of another log", ErrEdited, size-1)
	}
	l.hsm.hear(c.HSM)
	if err := l.hsm.prove(); err != nil {
		return err
	}
	l.head.Store(&Head{Size: size, Root: root, Checkpoint: signed, HSM: c.HSM})
	l.SetState(c.Generation, c.Reset)
	return l.tree.flush()
}

// tail judges what lies behind the last valid batch of a segment. All zero is the usual end. In the last segment a
// torn batch may lie there, in which no later batch can begin: it was the last write before the power went. It is
// cleared, so that its remains can never be taken for a batch.
func (l *Log) tail(w *frameReader, last bool) error {
	s := w.s
	used, err := w.rest()
	if err != nil || used == 0 {
		return err
	}
	if !last {
		return fmt.Errorf("%w: no valid batch at offset %d, and later segments exist", ErrEdited, s.end)
	}
	if used > maxFrame {
		return fmt.Errorf("%w: %d bytes at offset %d are no valid batch and too many for a torn one", ErrEdited, used, s.end)
	}
	rest, err := w.read(used + sealOverhead) // a batch may end in zeros of its own
	if err != nil {
		return err
	}
	for at := 1; at < len(rest); at++ {
		i := bytes.Index(rest[at:], []byte(frameMagic))
		if i < 0 {
			break
		}
		at += i
		if _, err := openFrame(s.aead, rest[at:], s.end+int64(at)); !errors.Is(err, errTorn) {
			return fmt.Errorf("%w: the batch at offset %d is damaged, but a valid one follows it", ErrEdited, s.end)
		}
	}
	return s.clear(int(used))
}

// clear zeroes what a torn write left behind the end.
func (s *segment) clear(n int) error {
	if _, err := s.file.WriteAt(make([]byte, n), s.end); err != nil {
		return fmt.Errorf("clear torn batch: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("clear torn batch: %w", err)
	}
	return nil
}

// checkpointOf reads a signed checkpoint that came out of a sealed frame.
func checkpointOf(signed string) (receipt.Checkpoint, error) {
	text, _, _ := strings.Cut(signed, "\n\n")
	return receipt.ParseCheckpoint(text + "\n")
}
