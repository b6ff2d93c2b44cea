package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// scratch is the committer's reused memory.
type scratch struct{ clear, sealed []byte }

// commitLoop writes batches until the log is closed.
func (l *Log) commitLoop() {
	defer close(l.done)
	for range l.wake {
		for more := true; more; {
			l.await()
			batch, err := l.take()
			if err == nil && len(batch) > 0 {
				err = l.commit(batch)
			}
			if err == nil {
				err = l.relieve()
			}
			if err != nil {
				l.fail(err)
				l.refuse(batch)
				if batch, err = l.take(); err != nil { // what queued up meanwhile
					l.refuse(batch)
				}
				return
			}
			more = len(batch) > 0
		}
	}
}

// await lets the queue fill for as long as all in it have patience.
func (l *Log) await() {
	for {
		left := l.patience()
		if left <= 0 {
			return
		}
		select {
		case <-l.wake:
		case <-time.After(left):
		}
	}
}

func (l *Log) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil || len(l.queue) == 0 {
		return 0
	}
	return time.Until(l.due)
}

// take returns the next batch. Once the log has failed it returns every waiting request and the failure.
func (l *Log) take() ([]*request, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.queue)
	if l.failed == nil {
		n = batchOf(l.queue, int(min(maxBatch, l.size/2)))
	}
	batch := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return batch, l.failed
}

// batchOf says how many requests from the front share a batch of at most limit bytes. A new receipt key has one of its
// own.
func batchOf(queue []*request, limit int) int {
	size := 0
	for n, q := range queue {
		if n > 0 && (q.rekey != nil || queue[0].rekey != nil || size+q.size > limit) {
			return n
		}
		size += q.size
	}
	return len(queue)
}

// refuse ends requests with the log's failure, save those that have their answer.
func (l *Log) refuse(batch []*request) {
	l.mu.Lock()
	err := l.failed
	l.mu.Unlock()
	for _, q := range batch {
		select {
		case <-q.done:
		default:
			q.err = err
			close(q.done)
		}
	}
}

// commit makes one batch durable and answers it. An error leaves the log in no defined state: the caller closes it.
func (l *Log) commit(batch []*request) error {
	batch, err := l.fit(batch)
	if err != nil {
		return err
	}
	if batch = l.admit(batch); len(batch) == 0 {
		return nil
	}
	first := l.tree.size()
	clear, err := l.gather(batch)
	if err != nil {
		return err
	}
	head, clear, err := l.sign(clear)
	if err != nil {
		return err
	}
	if err := l.write(first, clear); err != nil {
		return err
	}
	if err := l.tree.flush(); noRoom(err) {
		l.fills(err) // the records are durable, and their hashes in memory
	} else if err != nil {
		return err
	}
	l.head.Store(head)
	l.answer(batch, first, head)
	return nil
}

// admit answers the requests that may not be logged and returns the others.
func (l *Log) admit(batch []*request) []*request {
	kept := batch[:0]
	for _, q := range batch {
		if q.err = l.admitOne(q); q.err != nil || len(q.records) == 0 {
			close(q.done)
			continue
		}
		kept = append(kept, q)
	}
	return kept
}

func (l *Log) admitOne(q *request) error {
	if q.rekey != nil {
		return l.introduce(q)
	}
	if l.signer == nil {
		return ErrNoKey
	}
	if q.lacking {
		q.records = l.hsm.lackingOnly(q.records)
	}
	return l.hsm.admit(q.records)
}

// gather adds the batch to the tree and the tracker and returns its records as a frame holds them.
func (l *Log) gather(batch []*request) ([]byte, error) {
	count := 0
	for _, q := range batch {
		count += len(q.records)
	}
	b := binary.BigEndian.AppendUint32(l.scratch.clear[:0], uint32(count))
	for _, q := range batch {
		for i := range q.records {
			r := &q.records[i]
			b = appendRecord(b, &r.Record)
			l.hsm.hear(r.hsm)
		}
		l.tree.add(q.records)
	}
	if err := l.hsm.prove(); err != nil {
		return nil, fmt.Errorf("follow hsm chain: %w", err)
	}
	return b, nil
}

// sign makes the checkpoint of the tree as it is now and adds it to the frame.
func (l *Log) sign(clear []byte) (*Head, []byte, error) {
	size, root := l.tree.size(), l.tree.root()
	signed, err := l.signer.Checkpoint(receipt.Checkpoint{Size: size, Root: root, HSM: l.hsm.proven,
		Generation: l.generation.Load(), Reset: l.reset.Load(), Time: l.now()})
	if err != nil {
		return nil, nil, err
	}
	clear = binary.BigEndian.AppendUint32(clear, uint32(len(signed)))
	clear = append(clear, signed...)
	return &Head{Size: size, Root: root, Checkpoint: signed, HSM: l.hsm.proven}, clear, nil
}

// write seals the batch into the current segment, which has room for it, and waits for the disk.
func (l *Log) write(first int64, clear []byte) error {
	l.writing.Store(time.Now().UnixNano())
	defer l.writing.Store(0)
	s := l.segment
	if s.end+int64(frameHeader+sealOverhead+len(clear)) > s.size {
		return errors.New("write log: the batch is longer than it was said to be")
	}
	b := appendFrame(l.scratch.sealed[:0], s.aead, s.end, first, clear)
	if _, err := s.file.WriteAt(b, s.end); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	s.end += int64(len(b))
	l.scratch = scratch{clear: clear, sealed: b}
	return nil
}

// roll starts a new segment; the old one is full.
func (l *Log) roll() error {
	l.writing.Store(time.Now().UnixNano())
	defer l.writing.Store(0)
	s, err := l.newSegment(l.tree.size())
	if err != nil {
		return err
	}
	old := l.segment
	l.segment = s
	return old.close()
}

// answer hands each request what it needs to make its receipts.
func (l *Log) answer(batch []*request, first int64, head *Head) {
	path := l.signer.Path()
	for _, q := range batch {
		q.first, q.total = first, head.Size
		q.result = Committed{checkpoint: head.Checkpoint, path: path}
		first += int64(len(q.records))
		close(q.done)
	}
}

// receipts proves each record of an answered request, in the goroutine of the one who waited.
func (l *Log) receipts(q *request) error {
	q.result.receipts = make([]receipt.Receipt, len(q.records))
	for i := range q.records {
		r, at := &q.records[i], q.first+int64(i)
		proof, err := l.tree.prove(q.total, at)
		if err != nil {
			return fmt.Errorf("prove record %d: %w", at, err)
		}
		q.result.receipts[i] = receipt.Receipt{Index: at, Public: r.Public, Commitment: r.commitment, Proof: proof}
	}
	return nil
}
