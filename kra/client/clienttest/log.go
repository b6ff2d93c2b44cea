package clienttest

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A releaseLog keeps its records and tree in memory. The agent's lock guards it.
type releaseLog struct {
	signer   *receipt.Signer
	instance receipt.Instance
	head     receipt.ChainHead
	records  []receipt.Record
	hashes   []tlog.Hash
}

func newLog(t testing.TB, p *pki) *releaseLog {
	t.Helper()
	s, err := receipt.NewSigner(Box, p.receiptKey, p.receiptPath)
	if err != nil {
		t.Fatal(err)
	}
	l := &releaseLog{signer: s, instance: receipt.Instance{1}}
	l.head = receipt.ChainHead{Instance: l.instance, Head: receipt.FirstHead(l.instance)}
	link := s.NewLink(nil, 0)
	l.add(receipt.Public{Kind: receipt.ReceiptKey, Time: receipt.NewStamp(time.Now()), Key: &link})
	l.add(receipt.Public{Kind: receipt.HSMInstance, Time: receipt.NewStamp(time.Now())})
	return l
}

func (l *releaseLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

// add logs a record and returns its index. A record that cannot be logged is a fault of the test.
func (l *releaseLog) add(p receipt.Public) int64 {
	raw, err := p.Encode()
	if err != nil {
		panic(err)
	}
	r := receipt.Record{Public: raw, Salt: receipt.NewSalt(), Private: []byte(`{}`)}
	index := int64(len(l.records))
	hashes, err := tlog.StoredHashesForRecordHash(index, r.Leaf(), l)
	if err != nil {
		panic(err)
	}
	l.records, l.hashes = append(l.records, r), append(l.hashes, hashes...)
	return index
}

func (l *releaseLog) append(o opening) int64 {
	h := receipt.Hash(o.header.Hash())
	item := receipt.Item{Instance: l.instance, N: l.head.N + 1, Key: receipt.Hash(o.key.id), Ciphertext: o.wrap.Hash()}
	l.head.N, l.head.Head = item.N, receipt.NextHead(l.head.Head, item.Key, item.Ciphertext)
	return l.add(receipt.Public{Kind: receipt.Release, Time: receipt.NewStamp(time.Now()), Book: 1,
		Access: string(o.key.public.Access), Header: &h, Item: &item, Answer: o.answer})
}

func (l *releaseLog) checkpoint() (string, error) {
	size := int64(len(l.records))
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		return "", err
	}
	return l.signer.Checkpoint(receipt.Checkpoint{Size: size, Root: root, HSM: l.head, Generation: 1, Time: time.Now()})
}

func (l *releaseLog) receipt(index int64) ([]byte, error) {
	proof, err := tlog.ProveRecord(int64(len(l.records)), index, l)
	if err != nil {
		return nil, err
	}
	r := l.records[index]
	return json.Marshal(receipt.Receipt{Index: index, Public: r.Public, Commitment: r.Commitment(), Proof: proof})
}

// Export writes the log so far, whole, as the box's console does.
func (a *Agent) Export(w io.Writer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	checkpoint, err := a.log.checkpoint()
	if err != nil {
		return err
	}
	e := receipt.NewExporter(w, receipt.Whole, receipt.ExportHeader{Box: Box})
	for _, r := range a.log.records {
		e.Record(r)
	}
	e.Checkpoint(checkpoint)
	return e.Close()
}
