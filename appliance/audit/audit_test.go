package audit

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

// A bench is a log's folder and the domain that certifies its receipt keys, through any number of boots.
type bench struct {
	dir    string
	domain receipttest.Domain
	opts   Options
	hsm    hsm
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return &bench{dir: t.TempDir(), domain: receipttest.New(t, "example"),
		opts: Options{Key: [32]byte{1}, Box: "box1", Now: time.Now, SegmentSize: 1 << 20}, hsm: hsm{instance: receipt.Instance{7}}}
}

// boot opens the log and introduces a new receipt key.
func (b *bench) boot(t testing.TB) *Log {
	t.Helper()
	l, err := Open(b.dir, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	key, path := b.domain.Key(t, b.opts.Box, b.opts.Now())
	if _, err := l.Rekey(context.Background(), key, path); err != nil {
		t.Fatal(err)
	}
	return l
}

// An hsm keeps the chain as hsmd does.
type hsm struct {
	mu       sync.Mutex
	instance receipt.Instance
	n        uint64
	head     receipt.Hash
}

// unwrap does one item and returns it as an entry for the log.
func (h *hsm) unwrap() Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == 0 {
		h.head = receipt.FirstHead(h.instance)
	}
	h.n++
	i := receipt.Item{Instance: h.instance, N: h.n, Key: receipt.Hash{1}, Ciphertext: receipt.Hash{byte(h.n), byte(h.n >> 8)}}
	h.head = receipt.NextHead(h.head, i.Key, i.Ciphertext)
	return Entry{Kind: receipt.Release, Book: 3, Access: "legal-team", Item: &i,
		HSM:     receipt.ChainHead{Instance: h.instance, N: h.n, Head: h.head, MAC: receipt.Hash{9}},
		Private: map[string]string{"decryptor": "corp:CN=alice"}}
}

func TestReceiptsVerify(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	for range 3 {
		got, err := l.Append(context.Background(), b.hsm.unwrap(), b.hsm.unwrap())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.Receipts() {
			if _, err := receipt.Verify(r, got.Checkpoint(), got.Path(), b.domain.Roots); err != nil {
				t.Fatal(err)
			}
		}
	}
	if h := l.Head(); h.Size != 7 || h.HSM.N != 6 {
		t.Errorf("Head() = size %d, hsm %d; want 7, 6", h.Size, h.HSM.N)
	}
	l.Close()
	l = b.boot(t)
	if h := l.Head(); h.Size != 8 || h.HSM.N != 6 {
		t.Errorf("after a boot Head() = size %d, hsm %d; want 8, 6", h.Size, h.HSM.N)
	}
}
