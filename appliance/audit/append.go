package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// An Entry is what the caller knows of one record; the log adds time, salt and place.
type Entry struct {
	Kind    receipt.Kind
	Book    uint64            // version of the rules that decided; 0 = none
	Access  string            // access identifier, if one passed
	Header  *receipt.Hash     // SHA-256 of the block's header, if there is one
	Item    *receipt.Item     // the unwrap this record accounts for
	Answer  *receipt.Hash     // of a key that never left the HSM: kra.Binding.Answer
	Shown   *receipt.Hash     // of a release to a platform: digest of what it showed on the channel
	HSM     receipt.ChainHead // hsmd's chain head as it came with the answer; zero Instance = none
	Private any               // encoded as JSON: decryptor, facts, trace, reason; nil = {}

	Patience time.Duration // how long the record may wait for others, to share signature and disk; at most maxPatience
}

// A Committed is proof that the records of one Append are durable. Only Append makes one; the zero Committed
// holds no receipt and permits nothing.
type Committed struct {
	receipts   []receipt.Receipt
	checkpoint string
	path       receipt.Path
}

// Receipts returns one receipt per entry, in the order given.
func (c Committed) Receipts() []receipt.Receipt { return c.receipts }

// Checkpoint returns the signed note that covers all the receipts.
func (c Committed) Checkpoint() string { return c.checkpoint }

// Path returns the certificate path of the key that signed the checkpoint.
func (c Committed) Path() receipt.Path { return c.path }

// A record is an entry in its final bytes.
type record struct {
	receipt.Record
	commitment receipt.Hash
	leaf       tlog.Hash
	kind       receipt.Kind
	item       *receipt.Item
	hsm        receipt.ChainHead
}

// bytes is what the record takes in a frame.
func (r *record) bytes() int { return recordOverhead + len(r.Public) + len(r.Private) }

// A request is one Append that waits for its batch. The committer fills result or err and then closes done.
type request struct {
	records   []record
	size      int
	rekey     *rekey    // instead of records
	essential bool      // it may take the spare
	lacking   bool      // only the records of items that the log lacks
	due       time.Time // when its patience ends; zero = it has none

	done   chan struct{}
	result Committed // without receipts, which the waiting goroutine makes
	first  int64     // index of the first record
	total  int64     // size of the tree that the checkpoint signs
	err    error
}

// Append logs the entries side by side in one batch and returns when they are durable. On any error no key may
// leave: the records may or may not be in the log. A context that ends stops the waiting, not the writing.
func (l *Log) Append(ctx context.Context, entries ...Entry) (Committed, error) {
	q, err := l.prepare(entries)
	if err != nil {
		return Committed{}, fmt.Errorf("append to log: %w", err)
	}
	if err := l.submit(ctx, q); err != nil {
		return Committed{}, fmt.Errorf("append to log: %w", err)
	}
	if err := l.receipts(q); err != nil {
		return Committed{}, fmt.Errorf("append to log: %w", err)
	}
	return q.result, nil
}

// prepare does everything that needs no order, in the caller's goroutine.
func (l *Log) prepare(entries []Entry) (*request, error) {
	if len(entries) == 0 || len(entries) > maxEntries {
		return nil, fmt.Errorf("%d entries, want 1 to %d", len(entries), maxEntries)
	}
	q := &request{records: make([]record, len(entries)), essential: true, done: make(chan struct{})}
	now, patience := receipt.NewStamp(l.now()), maxPatience
	for i, e := range entries {
		if e.Kind == receipt.ReceiptKey {
			return nil, errors.New("receipt keys are logged by Rekey")
		}
		p := receipt.Public{Kind: e.Kind, Time: now, Book: e.Book, Access: e.Access, Header: e.Header, Item: e.Item, Answer: e.Answer, Shown: e.Shown}
		r, err := newRecord(p, e.Private)
		if err != nil {
			return nil, err
		}
		r.hsm = e.HSM
		q.records[i] = r
		q.size += r.bytes()
		q.essential = q.essential && essential(e.Kind)
		patience = min(patience, e.Patience)
	}
	if patience > 0 {
		q.due = time.Now().Add(patience)
	}
	if q.size > maxRequest || int64(q.size) > l.size/2 {
		return nil, fmt.Errorf("%d bytes are too many for one append", q.size)
	}
	return q, nil
}

func newRecord(p receipt.Public, private any) (record, error) {
	pub, err := p.Encode()
	if err != nil {
		return record{}, err
	}
	priv := []byte("{}")
	if private != nil {
		if priv, err = json.Marshal(private); err != nil {
			return record{}, fmt.Errorf("encode record: %w", err)
		}
	}
	if len(priv) > receipt.MaxPrivate {
		return record{}, fmt.Errorf("encode record: private part longer than %d bytes", receipt.MaxPrivate)
	}
	return sealedRecord(receipt.Record{Public: pub, Salt: receipt.NewSalt(), Private: priv}, p), nil
}

// sealedRecord computes what hashing needs.
func sealedRecord(r receipt.Record, p receipt.Public) record {
	c := r.Commitment()
	return record{Record: r, commitment: c, leaf: receipt.Leaf(r.Public, c), kind: p.Kind, item: p.Item}
}

// submit queues q and waits for its batch.
func (l *Log) submit(ctx context.Context, q *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.enqueue(q); err != nil {
		return err
	}
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) enqueue(q *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if full := l.full.Load(); full != nil && !q.essential {
		return *full
	}
	if len(l.queue) >= maxQueue {
		return ErrBusy
	}
	if len(l.queue) == 0 || q.due.Before(l.due) {
		l.due = q.due
		l.signal()
	}
	l.queue = append(l.queue, q)
	return nil
}
