package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkAppend measures durable appends with receipts: on the disk of the temporary folder, with 1, 64 and 512
// callers. cpu-us/record is the processor time of the whole process, the callers' included.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []struct {
		name    string
		callers int
	}{{"c1", 1}, {"c64", 64}, {"c512", 512}, {"c2048", 2048}} {
		b.Run(n.name, func(b *testing.B) { benchmarkAppend(b, n.callers) })
	}
}

func benchmarkAppend(b *testing.B, callers int) {
	bench := newBench(b)
	bench.opts.SegmentSize = segmentSize
	l := bench.boot(b)
	private := struct{ Decryptor, Source, Trace string }{"corp:CN=alice,O=Example", "10.20.1.2",
		"list 1: counsel && office; counsel=true office=true clock=2026-01-01T10:00:00Z"}
	entries := make([]Entry, b.N)
	for i := range entries {
		entries[i] = bench.hsm.unwrap()
		entries[i].Private = private
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for range callers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if _, err := l.Append(context.Background(), entries[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/record")
}

func cpuTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkOpen measures how long a start waits for the whole log to be read: one operation is a log of 100,000
// records.
func BenchmarkOpen(b *testing.B) {
	bench := newBench(b)
	bench.opts.SegmentSize = segmentSize
	l := bench.boot(b)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 250 {
				if _, err := l.Append(context.Background(), bench.hsm.unwrap(), bench.hsm.unwrap(), bench.hsm.unwrap(), bench.hsm.unwrap()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l.Close()
	for b.Loop() {
		l, err := Open(bench.dir, bench.opts)
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}
