package hsm_test

import (
	"crypto/x509"
	"errors"
	"sync"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestChainRecordsEveryAttempt: what opened and what did not, in the order of sequence numbers, under heads that only
// the holder of the chain key can make.
func TestChainRecordsEveryAttempt(t *testing.T) {
	c, _ := hsmtest.New(t)
	k := inProcess(c).key(t, wire.P256)
	foreign := wire.Key{SPKI: must(x509.MarshalPKIXPublicKey(&newRSA(t, 2048).PublicKey))}
	items, head, err := c.Since(0)
	if err != nil || len(items) != 0 || head.N != 0 || head.Head != receipt.FirstHead(head.Instance) {
		t.Fatalf("a new chain = %v, %+v, %v; want an empty one: tests of keys are no releases", items, head, err)
	}
	batches := [][]block.Wrap{
		{wrapTo(t, k, 1)},
		{wrapTo(t, foreign, 1), wrapTo(t, k, 1), wrapTo(t, k, 1)},
		{wrapTo(t, foreign, 1)},
	}
	want, n := receipt.FirstHead(head.Instance), uint64(0)
	for _, b := range batches {
		results, head := unwrap(t, c, b...)
		for i, w := range b {
			n++
			want = receipt.NextHead(want, w.KeyID(), w.Hash())
			if results[i].Seq != n {
				t.Errorf("item %d has the number %d", n, results[i].Seq)
			}
		}
		if head.N != n || head.Head != want {
			t.Errorf("head after %d items = %d, %v; want %v", n, head.N, head.Head, receipt.Hash(want))
		}
		if err := c.Check(head); err != nil {
			t.Errorf("Check of item %d = %v", n, err)
		}
	}
	items, head, err = c.Since(1)
	if err != nil || len(items) != 4 || items[0].N != 2 || head.N != 5 || items[3].Ciphertext != batches[2][0].Hash() {
		t.Errorf("Since(1) = %v, %+v, %v; want items 2 to 5", items, head, err)
	}
	if _, _, err := c.Since(6); err == nil {
		t.Error("Since(6) of a chain of 5 succeeded")
	}
	checkForgeries(t, c, head)
}

func checkForgeries(t *testing.T, c *hsm.Custodian, head receipt.ChainHead) {
	t.Helper()
	for name, forge := range map[string]func(*receipt.ChainHead){
		"instance": func(h *receipt.ChainHead) { h.Instance[0] ^= 1 },
		"count":    func(h *receipt.ChainHead) { h.N-- },
		"head":     func(h *receipt.ChainHead) { h.Head[31] ^= 1 },
		"MAC":      func(h *receipt.ChainHead) { h.MAC[0] ^= 1 },
		"all":      func(h *receipt.ChainHead) { *h = receipt.ChainHead{} },
	} {
		h := head
		forge(&h)
		if err := c.Check(h); !errors.Is(err, wire.ErrHead) {
			t.Errorf("Check of a head with another %s = %v, want %v", name, err, wire.ErrHead)
		}
	}
	later := must(hsm.New(hsm.Config{}, [32]byte{1}))
	if err := later.Check(head); err != nil {
		t.Errorf("Check in a later life = %v", err)
	}
	other := must(hsm.New(hsm.Config{}, [32]byte{2}))
	if err := other.Check(head); !errors.Is(err, wire.ErrHead) {
		t.Errorf("Check under another chain key = %v, want %v", err, wire.ErrHead)
	}
}

func TestChainForgets(t *testing.T) {
	c, _ := hsmtest.New(t)
	w := make([]block.Wrap, wire.MaxBatch) // of no key: fast
	for range wire.RingItems / wire.MaxBatch {
		unwrap(t, c, w...)
	}
	if items, _, err := c.Since(0); err != nil || len(items) != wire.RingItems {
		t.Errorf("Since(0) of a full ring = %d items, %v; want %d", len(items), err, wire.RingItems)
	}
	unwrap(t, c, w[:1]...)
	if _, _, err := c.Since(0); !errors.Is(err, wire.ErrForgotten) {
		t.Errorf("Since(0) of an overfull ring = %v, want %v", err, wire.ErrForgotten)
	}
	if items, _, err := c.Since(1); err != nil || len(items) != wire.RingItems {
		t.Errorf("Since(1) of an overfull ring = %d items, %v; want %d", len(items), err, wire.RingItems)
	}
}

// TestKeysComeAndGoUnderLoad: keys are made and destroyed while others release; nothing fails, and the chain has no gap.
func TestKeysComeAndGoUnderLoad(t *testing.T) {
	c, _ := hsmtest.New(t)
	var keys []wire.Key
	for _, s := range []wire.Suite{wire.P256, wire.RSA2048} {
		keys = append(keys, inProcess(c).key(t, s))
	}
	stop := make(chan struct{})
	var users sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for i := range 8 {
		k := keys[i%len(keys)]
		wraps := []block.Wrap{wrapTo(t, k, 1), wrapTo(t, k, 1), wrapTo(t, k, 1)}
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				results, _ := unwrap(t, c, wraps...)
				mu.Lock()
				for _, r := range results {
					if !isKey(r, 1) {
						t.Errorf("unwrap: %v", r.Err)
					}
					if seen[r.Seq] {
						t.Errorf("item %d twice", r.Seq)
					}
					seen[r.Seq] = true
				}
				mu.Unlock()
			}
		})
	}
	for range 40 {
		k, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
		if err != nil {
			t.Errorf("generate under load: %v", err)
			continue
		}
		if r, _ := unwrap(t, c, wrapTo(t, k, 2)); !isKey(r[0], 2) {
			t.Errorf("unwrap with a new key: %v", r[0].Err)
		} else {
			mu.Lock()
			seen[r[0].Seq] = true
			mu.Unlock()
		}
		if _, err := c.Destroy(k.ID); err != nil {
			t.Errorf("destroy under load: %v", err)
		}
	}
	close(stop)
	users.Wait()
	if _, head, err := c.Since(0); err != nil || head.N != uint64(len(seen)) {
		t.Errorf("%d items in the chain, %v; %d attempts", head.N, err, len(seen))
	}
}
