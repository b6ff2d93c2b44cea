package audit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// TestConcurrentAppends lets many requests race, so that the log's order is not hsmd's, and then asks the auditor.
func TestConcurrentAppends(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 20 {
				c, err := l.Append(context.Background(), b.hsm.unwrap(), b.hsm.unwrap())
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range c.Receipts() {
					if _, err := receipt.Verify(r, c.Checkpoint(), c.Path(), b.domain.Roots); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if h := l.Head(); h.HSM.N != 1280 || h.Size != 1281 {
		t.Errorf("Head() has %d records, hsm item %d; want 1281, 1280", h.Size, h.HSM.N)
	}
	r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 0, 0)), b.domain.Roots)
	if err != nil || r.Lives[0].N != 1280 {
		t.Errorf("VerifyExport = %+v, %v", r, err)
	}
	if r.Checkpoints >= 640 {
		t.Errorf("%d batches for 640 requests: nobody shared one", r.Checkpoints)
	}
}

// TestUnwrapLoggedOnce: a second record for one unwrap is refused, within a request and across requests and restarts,
// and the log goes on.
func TestUnwrapLoggedOnce(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	one, two := b.hsm.unwrap(), b.hsm.unwrap()
	if _, err := l.Append(context.Background(), one, one); !errors.Is(err, receipt.ErrTwice) {
		t.Errorf("twice in a request: %v", err)
	}
	mustAppend(t, l, two) // out of order
	mustAppend(t, l, one)
	for range 2 {
		for _, e := range []Entry{one, two} {
			if _, err := l.Append(context.Background(), e); !errors.Is(err, receipt.ErrTwice) {
				t.Errorf("item %d again: %v", e.Item.N, err)
			}
		}
		l.Close()
		l = b.boot(t)
	}
	if err := l.Health(); err != nil {
		t.Error(err)
	}
}

// TestHeadLagsBehindGap: a checkpoint states hsmd's chain only as far as every item is in the log.
func TestHeadLagsBehindGap(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	one, two, three, four := b.hsm.unwrap(), b.hsm.unwrap(), b.hsm.unwrap(), b.hsm.unwrap()
	mustAppend(t, l, one)
	mustAppend(t, l, three)
	mustAppend(t, l, four)
	if n := l.Head().HSM.N; n != 1 {
		t.Errorf("hsm head at item %d while item 2 is missing; want 1", n)
	}
	l.Close()
	l = b.boot(t)
	items := []receipt.Item{*two.Item, *three.Item, *four.Item}
	n, err := l.AppendOrphans(context.Background(), items, four.HSM)
	if err != nil || n != 1 {
		t.Errorf("AppendOrphans = %d, %v; want 1", n, err)
	}
	if n := l.Head().HSM.N; n != 4 {
		t.Errorf("hsm head at item %d; want 4", n)
	}
	if n, err := l.AppendOrphans(context.Background(), items, four.HSM); err != nil || n != 0 {
		t.Errorf("AppendOrphans again = %d, %v; want 0", n, err)
	}
	if _, err := l.Append(context.Background(), two); !errors.Is(err, receipt.ErrTwice) {
		t.Errorf("the late release of an orphan: %v; want ErrTwice", err)
	}
	r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 0, 0)), b.domain.Roots)
	if err != nil || r.Records[receipt.HSMOrphan] != 1 || r.Lives[0].Proven != 4 {
		t.Errorf("VerifyExport = %+v, %v", r, err)
	}
}

// TestWrongChainClosesLog: when the records do not lead to the head that hsmd states, something was hidden from one of
// them.
func TestWrongChainClosesLog(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	e := b.hsm.unwrap()
	e.Item.Ciphertext[0] ^= 1
	if _, err := l.Append(context.Background(), e); !errors.Is(err, receipt.ErrChain) {
		t.Errorf("Append = %v; want ErrChain", err)
	}
	if err := l.Health(); !errors.Is(err, receipt.ErrChain) {
		t.Errorf("Health() = %v; want ErrChain", err)
	}
}

// TestNewInstance: hsmd started anew begins a new chain.
func TestNewInstance(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	mustAppend(t, l, b.hsm.unwrap())
	b.hsm.unwrap() // dies with hsmd, unanswered
	mustAppend(t, l, b.hsm.unwrap())
	b.hsm = hsm{instance: receipt.Instance{8}}
	unsigned := receipt.ChainHead{Instance: b.hsm.instance, Head: receipt.FirstHead(b.hsm.instance)}
	mustAppend(t, l, Entry{Kind: receipt.HSMInstance, HSM: unsigned, Private: "restarted"})
	if h := l.Head().HSM; h.Instance != (receipt.Instance{7}) || h.MAC == (receipt.Hash{}) {
		t.Errorf("hsm head = %+v; want the last that hsmd signed", h)
	}
	mustAppend(t, l, b.hsm.unwrap())
	if h := l.Head().HSM; h.Instance != b.hsm.instance || h.N != 1 {
		t.Errorf("hsm head = %+v; want item 1 of the new instance", h)
	}
	r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 0, 0)), b.domain.Roots)
	if err != nil || len(r.Lives) != 2 || r.Lives[0].N != 1 || r.Lives[0].Beyond != 1 || r.Lives[1].N != 1 {
		t.Errorf("VerifyExport = %+v, %v", r, err)
	}
}

// TestPatience: a record with patience waits for company, and is in the log no later than its patience lasts.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := b.boot(t)
		var all sync.WaitGroup
		patient := func() {
			e := b.hsm.unwrap()
			e.Patience = time.Hour // of which it gets maxPatience
			all.Go(func() { mustAppend(t, l, e) })
			synctest.Wait()
		}
		before := l.Head().Size
		patient()
		patient()
		if got := l.Head().Size; got != before {
			t.Errorf("%d records did not wait", got-before)
		}
		mustAppend(t, l, b.hsm.unwrap())
		all.Wait()
		r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 0, 0)), b.domain.Roots)
		if err != nil || r.Checkpoints != 2 {
			t.Errorf("VerifyExport = %d checkpoints, %v; want one of the receipt key and one of three records", r.Checkpoints, err)
		}
		patient()
		time.Sleep(maxPatience)
		synctest.Wait()
		if got := l.Head().Size; got != before+4 {
			t.Errorf("log has %d records after the wait, want %d", got, before+4)
		}
		l.Close()
	})
}
