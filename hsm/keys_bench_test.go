package hsm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

const (
	inUse     = 2_000  // keys that are asked for again and again: all of them can be loaded
	everyOnce = 12_000 // keys that are asked for in turn: none is loaded any more when its turn comes
)

// BenchmarkKeys measures what a key costs among how many: processor time of hsmd and its client for one P-256 key, in proportion to the bare
// PKCS#11 operation in turns with it, warm and, of keys in vault mode, cold; how long hsmd takes to open the token, and its memory then and
// after. The keys are generated in the token; only the tests of new keys, which take most of the time, are left out.
func BenchmarkKeys(b *testing.B) {
	for _, x := range []struct {
		n    int
		mode wire.Mode
	}{{10, wire.Resident}, {1_000, wire.Resident}, {10_000, wire.Resident}, {10_000, wire.Vault}, {100_000, wire.Vault}} {
		b.Run(fmt.Sprintf("%d-%v", x.n, x.mode), func(b *testing.B) {
			d := hsmtest.Start(b)
			client := d.Client()
			token := filled(b, x.n, x.mode)
			began, before := time.Now(), selfCPU()+d.CPU()
			i, err := client.Open(context.Background(), token)
			if err != nil || int(i.Report.Keys) != x.n {
				b.Fatalf("%d keys, %v", i.Report.Keys, err)
			}
			opened, spent, rss := time.Since(began), selfCPU()+d.CPU()-before, residentMiB(b, d.PID())
			keys := must(client.List(context.Background()))
			rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			alone, _ := hsmtest.New(b) // for the bare operation
			k := custodyKey(b, alone, wire.P256, wire.Bound)
			same := wrapsTo(b, k, 1)
			bare := &way{cpu: selfCPU, burst: bareBurst, unwrap: func(w []block.Wrap) error { return bareAll(alone, k, w) }}
			some := inTurn(keys[:min(inUse, len(keys))])
			warm := &way{cpu: func() time.Duration { return selfCPU() + d.CPU() }, burst: 1, unwrap: func([]block.Wrap) error { return unwrapOver(client, some(b)) }}
			all := inTurn(keys[min(inUse, len(keys)-1):min(inUse+everyOnce, len(keys))])
			all(b) // makes the wraps
			cold := &way{cpu: warm.cpu, burst: 1, unwrap: func([]block.Wrap) error { return unwrapOver(client, all(b)) }}
			turn := make([]block.Wrap, batchOf)
			for b.Loop() {
				for range rounds {
					for range (inUse + batchOf - 1) / batchOf { // loads what the last round has dropped
						if err := unwrapOver(client, some(b)); err != nil {
							b.Fatal(err)
						}
					}
					bare.round(b, load{1, 2}, same)
					warm.round(b, load{batchOf, 1}, turn)
					if x.mode == wire.Vault {
						cold.round(b, load{batchOf, 1}, turn)
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(slices.Min(bare.cost), "bare-µs")
			b.ReportMetric(warm.over(bare), "warm-ratio")
			if x.mode == wire.Vault {
				b.ReportMetric(cold.over(bare), "cold-ratio")
			}
			b.ReportMetric(float64(opened.Milliseconds()), "open-ms")
			b.ReportMetric(float64(spent.Milliseconds()), "open-cpu-ms")
			b.ReportMetric(rss, "opened-MiB")
			b.ReportMetric(residentMiB(b, d.PID()), "used-MiB")
			if err := alone.Close(); err != nil {
				b.Fatal(err)
			}
			d.Kill()
		})
	}
}

// batchOf is how many keys are asked for at once.
const batchOf = 64

// inTurn yields wraps to the next keys, the first again after the last. They are made beforehand.
func inTurn(keys []wire.Key) func(testing.TB) []block.Wrap {
	wraps := make([]block.Wrap, 0, len(keys))
	next := 0
	return func(t testing.TB) (batch []block.Wrap) {
		if len(wraps) == 0 {
			for _, k := range keys {
				wraps = append(wraps, wrapTo(t, k, 1))
			}
		}
		for range batchOf {
			batch = append(batch, wraps[next%len(wraps)])
			next++
		}
		return batch
	}
}

// filled is a token of n keys.
func filled(b *testing.B, n int, m wire.Mode) wire.Token {
	b.Helper()
	c, token := hsmtest.New(b)
	fill := c.GenerateFast
	if m == wire.Vault {
		fill = c.KeepFast
	}
	if err := fill(n - 1); err != nil {
		b.Fatal(err)
	}
	_, changed, err := c.Generate(wire.P256, wire.Bound, m)
	if err != nil {
		b.Fatal(err)
	}
	apply(token.Files, changed)
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	return hsmtest.Again(token, token.Files)
}

// residentMiB is the memory of a process.
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(kib)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(n) / 1024
		}
	}
	b.Fatal("process has no memory")
	return 0
}
