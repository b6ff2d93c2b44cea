package hsm_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

const (
	fewKeys  = 10
	manyKeys = 10_000
	asks     = 2_000
)

// TestTenThousandKeys: a token of 10,000 keys opens quickly, and a key in it costs what a key among ten costs, the first
// time that it is used and every time.
func TestTenThousandKeys(t *testing.T) {
	c, token := hsmtest.New(t)
	if err := c.GenerateFast(fewKeys); err != nil {
		t.Fatal(err)
	}
	among10 := median(t, c, pick(t, c))
	if err := c.GenerateFast(manyKeys - fewKeys); err != nil {
		t.Fatal(err)
	}
	_, changed, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	begin := time.Now()
	reopen(t, c, token)
	opened := time.Since(begin)
	wraps := pick(t, c)
	cold := median(t, c, wraps)
	warm := median(t, c, wraps)
	t.Logf("opened in %v; p50 of one key: among 10 %v, among %d cold %v, warm %v", opened, among10, manyKeys, cold, warm)
	if keys := must(c.List()); len(keys) != manyKeys+1 {
		t.Errorf("List() = %d keys, want %d", len(keys), manyKeys+1)
	}
	d := hsmtest.Start(t)
	client := d.Client()
	begin = time.Now()
	if _, err := client.Open(t.Context(), hsmtest.Again(token, token.Files)); err != nil {
		t.Fatal(err)
	}
	t.Logf("opened over the wire, %d files, in %v", len(token.Files), time.Since(begin))
	if keys := must(client.List(t.Context())); len(keys) != manyKeys+1 {
		t.Errorf("List() over the wire = %d keys, want %d", len(keys), manyKeys+1)
	}
	if err := unwrapOver(client, wraps); err != nil {
		t.Errorf("one batch of %d over the wire: %v", len(wraps), err)
	}
	// A search would take hundreds of times as long; what else the machine does is far below that.
	if limit := 10 * among10; cold > limit || warm > limit {
		t.Errorf("p50 among %d keys: cold %v, warm %v; want at most %v", manyKeys, cold, warm, limit)
	}
}

// pick wraps to keys chosen at random.
func pick(t *testing.T, c *hsm.Custodian) []block.Wrap {
	t.Helper()
	keys := must(c.List())
	wraps := make([]block.Wrap, asks)
	for i := range wraps {
		wraps[i] = wrapTo(t, keys[rand.IntN(len(keys))], 1)
	}
	return wraps
}

// median unwraps one after the other and returns the median time.
func median(t *testing.T, c *hsm.Custodian, wraps []block.Wrap) time.Duration {
	t.Helper()
	took := make([]time.Duration, len(wraps))
	for i, w := range wraps {
		begin := time.Now()
		if err := unwrapIn(c, []block.Wrap{w}); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[len(took)/2]
}
