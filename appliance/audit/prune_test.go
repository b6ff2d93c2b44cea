package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// segmented fills several segments over two boots and returns the open log, with a receipt of each release.
func segmented(t testing.TB, b *bench) (l *Log, got []receipt.Evidence) {
	t.Helper()
	b.opts.SegmentSize = 64 << 10
	for boot := range 2 {
		if l = b.boot(t); boot > 0 {
			l.SetState(9, 4)
		}
		for range 60 {
			c := mustAppend(t, l, b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: strings.Repeat("x", 2000)})
			got = append(got, receipt.Evidence{Checkpoint: c.Checkpoint(), Path: c.Path(), Receipt: &c.Receipts()[0]})
		}
		if boot == 0 {
			l.Close()
		}
	}
	return l, got
}

// exported is the word of somebody who has the whole log.
func exported(t testing.TB, l *Log) Exported {
	t.Helper()
	h := l.Head()
	e, err := l.Exported(h.Size, h.Root)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// starts returns the first records of the segments.
func starts(t testing.TB, b *bench) []int64 {
	t.Helper()
	firsts, err := numbers(b.dir, segmentPrefix)
	if err != nil {
		t.Fatal(err)
	}
	return firsts
}

func mustPrune(t testing.TB, l *Log, before int64) Removal {
	t.Helper()
	r, err := l.Prune(exported(t, l), before)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// roots returns the root of each number of records up to size.
func roots(t testing.TB, l *Log, size int64) (all []tlog.Hash) {
	t.Helper()
	for n := range size + 1 {
		root, err := l.RootAt(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, root)
	}
	return all
}

// TestPruned: what a log without its first segments proves is what it proved before, now and after a restart, and again after another
// removal.
func TestPruned(t *testing.T) {
	b := newBench(t)
	l, evidence := segmented(t, b)
	before := l.Head()
	want, whole := roots(t, l, before.Size), export(t, l, 0, 0)
	firsts := starts(t, b)
	if len(firsts) < 5 {
		t.Fatalf("%d segments; want several", len(firsts))
	}
	proven := func(when string) {
		t.Helper()
		if h := l.Head(); h.Size < before.Size || !slices.Equal(roots(t, l, before.Size), want) {
			t.Fatalf("%s: the roots of %d records are others", when, h.Size)
		}
		if err := l.CheckPrefix(uint64(before.Size), before.Root); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		for i, e := range evidence {
			if _, err := receipt.Verify(*e.Receipt, e.Checkpoint, e.Path, b.domain.Roots); err != nil {
				t.Fatalf("%s: receipt %d: %v", when, i, err)
			}
			h := l.Head()
			proof, err := l.tree.prove(h.Size, e.Receipt.Index)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if err := tlog.CheckRecord(proof, h.Size, h.Root, e.Receipt.Index, receipt.Leaf(e.Receipt.Public, e.Receipt.Commitment)); err != nil {
				t.Fatalf("%s: record %d: %v", when, e.Receipt.Index, err)
			}
		}
		below, _ := l.Removed()
		r, err := receipt.VerifyExport(strings.NewReader(export(t, l, below, 0)), b.domain.Roots, evidence[len(evidence)-1])
		if err != nil || r.From != below || r.Head.Size != l.Head().Size || len(r.Lives) != 1 || r.Lives[0].N != 120 || r.Lives[0].Beyond != 0 {
			t.Fatalf("%s: what is exported is %+v, %v", when, r, err)
		}
	}
	r, err := l.Removable(exported(t, l), firsts[2]+1)
	if err != nil || r != (Removal{0, firsts[2], 2 * b.opts.SegmentSize}) {
		t.Fatalf("Removable = %+v, %v; want two segments", r, err)
	}
	if did := mustPrune(t, l, firsts[2]+1); did != r {
		t.Errorf("Prune = %+v; want %+v, as it was said", did, r)
	}
	if got := starts(t, b); !slices.Equal(got, firsts[2:]) {
		t.Errorf("segments %v; want %v", got, firsts[2:])
	}
	proven("at once")
	if l.Head() != before {
		t.Error("the head is another one")
	}
	l.Close()
	if l, err = Open(b.dir, b.opts); err != nil {
		t.Fatal(err)
	}
	if l.Head() != before {
		t.Errorf("after a restart Head() = %+v; want %+v", l.Head(), before)
	}
	l.Close()
	l = b.boot(t)
	proven("after a restart")
	again := Entry{Kind: receipt.Release, Item: &receipt.Item{Instance: b.hsm.instance, N: 3, Key: receipt.Hash{1}, Ciphertext: receipt.Hash{3}}}
	if _, err := l.Append(t.Context(), again); !errors.Is(err, receipt.ErrTwice) {
		t.Errorf("an unwrap that a removed record accounts for is logged again: %v", err)
	}
	firsts = starts(t, b)
	mustPrune(t, l, l.Head().Size) // all but the segment that is written, and with it every receipt key but this boot's
	if got := starts(t, b); !slices.Equal(got, firsts[len(firsts)-1:]) {
		t.Errorf("segments %v; want the last of %v", got, firsts)
	}
	proven("twice")
	l.Close()
	l = b.boot(t)
	proven("twice, after a restart")
	mustAppend(t, l, Entry{Kind: receipt.Boot})
	for range 60 {
		mustAppend(t, l, Entry{Kind: receipt.Command, Private: strings.Repeat("y", 2000)})
	}
	l.Close()
	l = b.boot(t)
	proven("and it goes on")
	if r, err := receipt.VerifyExport(strings.NewReader(whole), b.domain.Roots, evidence...); err != nil || r.Seen != len(evidence) {
		t.Errorf("the export from before: %+v, %v", r, err)
	}
}

// TestPrunedWithGaps: unwraps whose records came in another order are known across a base.
func TestPrunedWithGaps(t *testing.T) {
	b := newBench(t)
	b.opts.SegmentSize = 64 << 10
	l := b.boot(t)
	late, early := b.hsm.unwrap(), Entry{}
	for range 50 {
		early = b.hsm.unwrap()
		mustAppend(t, l, early, Entry{Kind: receipt.Command, Private: strings.Repeat("x", 2000)})
	}
	b.hsm = hsm{instance: receipt.Instance{8}} // another life begins
	for range 50 {
		mustAppend(t, l, b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: strings.Repeat("x", 2000)})
	}
	mustPrune(t, l, l.Head().Size)
	for _, when := range []string{"at once", "after a restart"} {
		if _, err := l.Append(t.Context(), early); !errors.Is(err, receipt.ErrTwice) {
			t.Errorf("%s: an unwrap after a gap is logged twice: %v", when, err)
		}
		head := l.Head().HSM
		l.Close()
		l = b.boot(t)
		if l.Head().HSM != head || head.N != 50 {
			t.Errorf("%s: the module's head is %+v; want %+v", when, l.Head().HSM, head)
		}
	}
	mustAppend(t, l, late)
	below, _ := l.Removed()
	r, err := receipt.VerifyExport(strings.NewReader(export(t, l, below, 0)), b.domain.Roots)
	if err != nil || len(r.Lives) != 2 || r.Lives[0].N != 51 || r.Lives[0].Beyond != 0 || r.Lives[1].Proven != 50 {
		t.Errorf("%+v, %v", r.Lives, err)
	}
}

// TestLivesAreBounded: a base and an export that begins behind it have the newest lives of hsmd and no more, however many there were, and what
// is left verifies; an export of the whole log has them all.
func TestLivesAreBounded(t *testing.T) {
	b := newBench(t)
	b.opts.SegmentSize = 64 << 10
	l := b.boot(t)
	const all = receipt.MaxLives + 300
	var last []Entry // of each life
	for len(last) < all {
		var some []Entry
		for range 30 {
			b.hsm = hsm{instance: receipt.Instance{1, byte(len(last)), byte(len(last) >> 8)}}
			some = append(some, b.hsm.unwrap(), b.hsm.unwrap())
			last = append(last, some[len(some)-1])
		}
		mustAppend(t, l, some...)
	}
	whole := export(t, l, 0, 0)
	if r, err := receipt.VerifyExport(strings.NewReader(whole), b.domain.Roots); err != nil || len(r.Lives) != len(last) {
		t.Errorf("the whole log: %d lives, %v; want %d", len(r.Lives), err, len(last))
	}
	mustPrune(t, l, l.Head().Size)
	for _, when := range []string{"at once", "after a restart"} {
		below, _ := l.Removed()
		text := export(t, l, below, 0)
		r, err := receipt.VerifyExport(strings.NewReader(text), b.domain.Roots)
		if err != nil || len(r.Lives) < receipt.MaxLives || len(r.Lives) >= len(last) {
			t.Errorf("%s: %d lives, %v", when, len(r.Lives), err)
		}
		for name, n := range map[string]int{"the base": len(l.past.Load().Lives), "the export": strings.Count(text[:strings.Index(text, "\n")], `"proven":`), "the log": len(l.hsm.lives)} {
			if n != receipt.MaxLives {
				t.Errorf("%s: %s has %d lives; want %d", when, name, n, receipt.MaxLives)
			}
		}
		for i, e := range last[len(last)-receipt.MaxLives:] {
			if _, err := l.Append(t.Context(), e); !errors.Is(err, receipt.ErrTwice) {
				t.Fatalf("%s: an unwrap of the %d-th of the lives that are kept is logged twice: %v", when, i, err)
			}
		}
		l.Close()
		l = b.boot(t)
	}
	many := past{} // of a box that kept them all
	for i := range last {
		many.Lives = append(many.Lives, receipt.NewLife(receipt.Instance{2, byte(i), byte(i >> 8)}).State())
	}
	many.Current = many.Lives[len(last)-1].Instance
	if tr, err := many.tracker(); err != nil || len(tr.lives) != receipt.MaxLives || len(tr.states()) != receipt.MaxLives || tr.lives[many.Current] == nil {
		t.Errorf("an old base of %d lives: %v", len(last), err)
	}
}

// TestRemovedRecordsAreRefused: every reader is told, and none is given less than it asked for.
func TestRemovedRecordsAreRefused(t *testing.T) {
	b := newBench(t)
	l, _ := segmented(t, b)
	firsts := starts(t, b)
	behind := l.Follow(0) // reads, when the removal comes
	if _, _, err := behind.Next(); err != nil {
		t.Fatal(err)
	}
	mustPrune(t, l, firsts[2])
	for _, when := range []string{"at once", "after a restart"} {
		below, at := l.Removed()
		if below != firsts[2] || at.IsZero() {
			t.Fatalf("%s: Removed() = %d, %v; want %d", when, below, at, firsts[2])
		}
		none := func(int64, receipt.Record) error { t.Errorf("%s: a record is read", when); return nil }
		for name, err := range map[string]error{
			"Records":        l.Records(0, 0, none),
			"the last one":   l.Records(below-1, 0, none),
			"Export":         l.Export(io.Discard, 0, 0),
			"ExportRedacted": l.ExportRedacted(io.Discard, below-1, 0),
			"Follow":         func() error { _, _, err := l.Follow(below - 1).Next(); return err }(),
			"Prune":          func() error { _, err := l.Prune(exported(t, l), below); return err }(),
		} {
			if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "were exported and removed on "+at.Format("2006-01-02")) {
				t.Errorf("%s: %s: %v; want that they were removed", when, name, err)
			}
		}
		if first, _, err := l.Follow(below).Next(); err != nil || first != below {
			t.Errorf("%s: Follow begins with %d, %v", when, first, err)
		}
		for err := error(nil); when == "at once"; {
			if _, _, err = behind.Next(); err != nil {
				if !errors.Is(err, ErrRemoved) {
					t.Errorf("a reader that is behind: %v; want that they were removed", err)
				}
				break
			}
		}
		l.Close()
		l = b.boot(t)
	}
}

// TestRemovedUnderAReader: a reader that has begun gets all, or the error.
func TestRemovedUnderAReader(t *testing.T) {
	b := newBench(t)
	l, _ := segmented(t, b)
	next, size := int64(0), l.Head().Size
	err := l.Records(0, size, func(at int64, _ receipt.Record) error {
		if at != next {
			t.Fatalf("record %d; want %d", at, next)
		}
		if next++; at == 0 {
			mustPrune(t, l, size)
		}
		return nil
	})
	if !errors.Is(err, ErrRemoved) {
		t.Errorf("%d of %d records and %v; want that they were removed", next, size, err)
	}
}

// TestPruneOnlyWhatWasExported: nothing goes without somebody's word, beyond it, or on his word about another log.
func TestPruneOnlyWhatWasExported(t *testing.T) {
	b, c := newBench(t), newBench(t)
	l, _ := segmented(t, b)
	other, _ := segmented(t, c)
	firsts, h := starts(t, b), l.Head()
	root, err := l.RootAt(firsts[2])
	if err != nil {
		t.Fatal(err)
	}
	some, err := l.Exported(firsts[2], root)
	if err != nil {
		t.Fatal(err)
	}
	for name, prune := range map[string]func() error{
		"nobody's word":      func() error { _, err := l.Prune(Exported{}, firsts[1]); return err },
		"beyond it":          func() error { _, err := l.Prune(some, firsts[2]+1); return err },
		"far beyond it":      func() error { _, err := l.Prune(some, h.Size); return err },
		"another log's":      func() error { _, err := l.Prune(exported(t, other), firsts[1]); return err },
		"nothing":            func() error { _, err := l.Prune(some, 0); return err },
		"less than a file":   func() error { _, err := l.Prune(some, firsts[1]-1); return err },
		"a root of others":   func() error { _, err := l.Exported(firsts[2], other.Head().Root); return err },
		"the root of fewer":  func() error { _, err := l.Exported(firsts[2]+1, root); return err },
		"more than there is": func() error { _, err := l.Exported(h.Size+1, h.Root); return err },
		"no record":          func() error { _, err := l.Exported(0, roots(t, l, 0)[0]); return err },
	} {
		if prune() == nil {
			t.Errorf("%s: taken", name)
		}
		if got := starts(t, b); !slices.Equal(got, firsts) {
			t.Fatalf("%s: segments %v; want %v", name, got, firsts)
		}
	}
	if r, err := l.Prune(some, firsts[2]); err != nil || r.To != firsts[2] {
		t.Errorf("as far as it goes: %+v, %v", r, err)
	}
}

// TestPruneCutAnywhere fails each step of a removal, done and not done, and goes on after a restart as after a power cut: the log opens,
// is what it was, and can be pruned.
func TestPruneCutAnywhere(t *testing.T) {
	for _, f := range []fault{{"keep", false}, {"keep", true}, {"remove", false}, {"remove", true}, {"keep remove", false}, {"keep remove", true}} {
		name := f.call + " not done"
		if f.done {
			name = f.call + " but done"
		}
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			d := &faulty{}
			b.opts.disk = d
			l, _ := segmented(t, b)
			h, firsts := l.Head(), starts(t, b)
			want := roots(t, l, h.Size)
			d.armed.Store(&f)
			done, err := l.Prune(exported(t, l), firsts[3])
			if !errors.Is(err, errFault) || done.To != 0 {
				t.Errorf("Prune = %+v, %v; want the injected error", done, err)
			}
			d.armed.Store(nil)
			if !slices.Equal(roots(t, l, h.Size), want) {
				t.Error("the roots are others")
			}
			if strings.HasPrefix(f.call, "keep") && !slices.Equal(starts(t, b), firsts) {
				t.Error("segments went without a base")
			}
			if f.call == "keep remove" {
				if _, err := l.Prune(exported(t, l), firsts[1]); err == nil {
					t.Error("another base is made, although nobody knows what the disk has of the one before")
				}
			}
			mustAppend(t, l, b.hsm.unwrap())
			l.Close()
			l = b.boot(t)
			if !slices.Equal(roots(t, l, h.Size), want) {
				t.Error("after a restart the roots are others")
			}
			if err := l.Accept(uint64(h.Size), h.Root, firsts[3]); err != nil {
				t.Error(err)
			}
			if below, _ := l.Removed(); starts(t, b)[0] != below {
				t.Errorf("after a restart records below %d were removed, and segments begin with %d", below, starts(t, b)[0])
			}
			mustPrune(t, l, firsts[4])
			l.Close()
			l = b.boot(t)
			if below, _ := l.Removed(); below != firsts[4] || !slices.Equal(roots(t, l, h.Size), want) {
				t.Errorf("pruned again below %d; want %d", below, firsts[4])
			}
		})
	}
}

// TestPruneLeavesAnySegments puts back any of the removed segments, and half a base, as a cut may leave them: they do not count, and go.
func TestPruneLeavesAnySegments(t *testing.T) {
	b := newBench(t)
	l, _ := segmented(t, b)
	h, firsts := l.Head(), starts(t, b)
	was := map[int64][]byte{}
	for _, first := range firsts[:3] {
		was[first] = readFile(t, l.path(segmentName(first)))
	}
	mustPrune(t, l, firsts[3])
	l.Close()
	for some := range 8 {
		for i, first := range firsts[:3] {
			if some>>i&1 == 1 {
				writeFile(t, filepath.Join(b.dir, segmentName(first)), was[first])
			}
		}
		writeFile(t, filepath.Join(b.dir, baseName(firsts[4])+unfinished), []byte("half a base"))
		l, err := Open(b.dir, b.opts)
		if err != nil {
			t.Fatalf("%03b: %v", some, err)
		}
		if l.Head() != h {
			t.Errorf("%03b: Head() = %+v; want %+v", some, l.Head(), h)
		}
		if err := l.Accept(uint64(h.Size), h.Root, firsts[3]); err != nil {
			t.Errorf("%03b: %v", some, err)
		}
		l.Close()
		if got := starts(t, b); !slices.Equal(got, firsts[3:]) {
			t.Errorf("%03b: segments %v; want %v", some, got, firsts[3:])
		}
		if half, _ := filepath.Glob(filepath.Join(b.dir, "*"+unfinished)); len(half) != 0 {
			t.Errorf("%03b: %v is left", some, half)
		}
	}
}

// TestRefusedLogStaysWhole puts the base and segments of another log, under the same keys, over a log, and lets records be gone that nobody
// acknowledged: each is refused, and not one of the segments that the base stands for is removed.
func TestRefusedLogStaysWhole(t *testing.T) {
	b, fork := newBench(t), newBench(t)
	l, _ := segmented(t, b)
	h, firsts := l.Head(), starts(t, b)
	l.Close()
	l, _ = segmented(t, fork)
	mustPrune(t, l, firsts[2])
	l.Close()
	for _, first := range firsts[2:] { // the fork has segments of the same lengths
		writeFile(t, filepath.Join(b.dir, segmentName(first)), readFile(t, filepath.Join(fork.dir, segmentName(first))))
	}
	writeFile(t, filepath.Join(b.dir, baseName(firsts[2])), readFile(t, filepath.Join(fork.dir, baseName(firsts[2]))))
	l, err := Open(b.dir, b.opts)
	if err != nil {
		t.Fatal(err) // by itself it is a log
	}
	for name, x := range map[string]struct {
		root     [32]byte
		exported int64
		why      string
	}{
		"of another log":      {h.Root, h.Size, "not those that the TPM remembers"},
		"which nobody has":    {l.Head().Root, 0, fmt.Sprintf("records below %d were removed, but only the first 0 were", firsts[2])},
		"one more than known": {l.Head().Root, firsts[2] - 1, fmt.Sprintf("but only the first %d were acknowledged", firsts[2]-1)},
	} {
		if err := l.Accept(uint64(h.Size), x.root, x.exported); !errors.Is(err, ErrEdited) || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v; want %q", name, err, x.why)
		}
		if got := starts(t, b); !slices.Equal(got, firsts) {
			t.Fatalf("%s: segments %v; want %v, all of them", name, got, firsts)
		}
	}
	if err := l.Accept(uint64(h.Size), l.Head().Root, firsts[2]); err != nil || !slices.Equal(starts(t, b), firsts[2:]) {
		t.Errorf("as acknowledged: %v, and segments %v; want %v", err, starts(t, b), firsts[2:])
	}
	l.Close()
}

// TestEditedBaseRefused edits the bases of a log in every way that a cut cannot.
func TestEditedBaseRefused(t *testing.T) {
	bases := func(t *testing.T, b *bench) []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(b.dir, basePrefix+"*"))
		if err != nil || len(names) != 2 {
			t.Fatal("bases: ", names, err)
		}
		return names
	}
	pruned := newBench(t)
	l, _ := segmented(t, pruned)
	firsts := starts(t, pruned)
	mustPrune(t, l, firsts[1])
	mustPrune(t, l, firsts[2])
	l.Close()
	if l, err := Open(pruned.dir, pruned.opts); err != nil || l.Close() != nil {
		t.Fatal(err)
	}
	flip := func(at int) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			for _, n := range bases(t, b)[:1] {
				data := readFile(t, n)
				data[(at+len(data))%len(data)] ^= 1
				writeFile(t, n, data)
			}
		}
	}
	for name, edit := range map[string]func(*testing.T, *bench){
		"salt":      flip(0),
		"the text":  flip(60),
		"the date":  flip(32 + 12 + 4 + len(fmt.Sprintf(`{"from":0,"size":%d,"removed":"202`, firsts[1]))),
		"a hash":    flip(-40),
		"the seal":  flip(-1),
		"the first": func(t *testing.T, b *bench) { os.Remove(bases(t, b)[0]) },
		"the last":  func(t *testing.T, b *bench) { os.Remove(bases(t, b)[1]) },
		"both": func(t *testing.T, b *bench) {
			for _, n := range bases(t, b) {
				os.Remove(n)
			}
		},
		"cut":     func(t *testing.T, b *bench) { os.Truncate(bases(t, b)[1], 200) },
		"empty":   func(t *testing.T, b *bench) { os.Truncate(bases(t, b)[1], 0) },
		"strange": func(t *testing.T, b *bench) { writeFile(t, filepath.Join(b.dir, basePrefix+"7"), nil) },
		"one more": func(t *testing.T, b *bench) {
			writeFile(t, filepath.Join(b.dir, baseName(7)), readFile(t, bases(t, b)[0]))
		},
		"a link":      func(t *testing.T, b *bench) { n := bases(t, b)[0]; os.Rename(n, n+".x"); os.Symlink(n+".x", n) },
		"another key": func(t *testing.T, b *bench) { b.opts.Key[0] ^= 1 },
		"another box": func(t *testing.T, b *bench) { b.opts.Box = "box2" },
		"swapped": func(t *testing.T, b *bench) {
			n := bases(t, b)
			first, second := readFile(t, n[0]), readFile(t, n[1])
			writeFile(t, n[0], second)
			writeFile(t, n[1], first)
		},
		"under another name": func(t *testing.T, b *bench) { n := bases(t, b); os.Rename(n[0], filepath.Join(b.dir, baseName(7))) },
		"of another log": func(t *testing.T, b *bench) { // under the same key, of as many records
			n, c := bases(t, b), newBench(t)
			l, _ := segmented(t, c)
			firsts := starts(t, c)
			mustPrune(t, l, firsts[1])
			data := readFile(t, filepath.Join(c.dir, baseName(firsts[1])))
			if filepath.Base(n[0]) != baseName(firsts[1]) {
				t.Fatal("the other log has segments of another length")
			}
			writeFile(t, n[0], data)
		},
		"no segment after it": func(t *testing.T, b *bench) {
			for _, n := range b.segmentFiles(t) {
				os.Remove(n)
			}
		},
		"the segment after it missing": func(t *testing.T, b *bench) { os.Remove(b.segmentFiles(t)[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{dir: filepath.Join(t.TempDir(), "log"), opts: pruned.opts}
			if err := os.CopyFS(b.dir, os.DirFS(pruned.dir)); err != nil {
				t.Fatal(err)
			}
			left := starts(t, b)
			edit(t, b)
			if l, err := Open(b.dir, b.opts); err == nil {
				l.Close()
				t.Error("the log opens")
			}
			if got := starts(t, b); !strings.Contains(name, "segment") && !slices.Equal(got, left) {
				t.Errorf("segments %v; want %v: a log that is refused stays as it is", got, left)
			}
		})
	}
}

// TestNothingReadableInBase: what stays of removed records is sealed, and is none of what they said.
func TestNothingReadableInBase(t *testing.T) {
	b := newBench(t)
	l, _ := segmented(t, b)
	mustPrune(t, l, l.Head().Size)
	below, _ := l.Removed()
	f := l.bases(below)
	sealed, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := f.open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if words := []byte("BEGIN CERTIFICATE"); bytes.Contains(sealed, words) || !bytes.Contains(plain, words) {
		t.Error("a base is not sealed")
	}
	for _, word := range []string{"alice", "legal-team", "xxxx"} {
		if bytes.Contains(plain, []byte(word)) {
			t.Errorf("a base has %q of removed records", word)
		}
	}
}

// TestPruneBesideAppend removes while others append and read.
func TestPruneBesideAppend(t *testing.T) {
	b := newBench(t)
	l, _ := segmented(t, b)
	ended := make(chan error)
	go func() {
		for range 100 {
			if _, err := l.Append(context.Background(), b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: strings.Repeat("z", 2000)}); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for range 5 {
		e := exported(t, l)
		if _, err := l.Prune(e, e.size); err != nil && !strings.Contains(err.Error(), "nothing to remove") && !errors.Is(err, ErrRemoved) {
			t.Error(err)
		}
		below, _ := l.Removed()
		if _, err := receipt.VerifyExport(strings.NewReader(export(t, l, below, 0)), b.domain.Roots); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h := l.Head()
	l.Close()
	l = b.boot(t)
	if err := l.CheckPrefix(uint64(h.Size), h.Root); err != nil {
		t.Error(err)
	}
}

// TestPruneOnAFullDisk: the room that the log leaves is enough for what stays, and a log without room goes on by itself.
func TestPruneOnAFullDisk(t *testing.T) { inNameSpace(t, pruneFull) }

func pruneFull(t *testing.T) {
	b := newBench(t)
	if err := unix.Mount("none", b.dir, "tmpfs", 0, "size=6400k"); err != nil {
		t.Fatal("mount a small file system: ", err)
	}
	b.opts.SegmentSize = 1 << 20
	l := b.boot(t)
	released := func() Entry { return Entry{Kind: receipt.Refusal, Private: strings.Repeat("z", 20_000)} }
	var err error
	for err == nil {
		_, err = l.Append(t.Context(), released())
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	firsts := starts(t, b)
	mustAppend(t, l, Entry{Kind: receipt.Command}) // it is asked for
	h := l.Head()
	if r, err := l.Prune(exported(t, l), firsts[2]); err != nil || r.Bytes != 2<<20 {
		t.Fatalf("Prune = %+v, %v", r, err)
	}
	mustAppend(t, l, Entry{Kind: receipt.Command})        // it was done
	for why := l.Health(); why != nil; why = l.Health() { // looked for at once
		if !errors.Is(why, ErrFull) {
			t.Fatal(why)
		}
		if _, err := l.Append(t.Context(), Entry{Kind: receipt.Boot}); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, released())
	l.Close()
	l = b.boot(t)
	if err := l.CheckPrefix(uint64(h.Size), h.Root); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := unix.Unmount(b.dir, 0); err != nil {
		t.Error(err)
	}
}
