package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A cursor returns every durable record once, in order, whichever segment it is in, wherever it begins, and waits at the end.
func TestFollow(t *testing.T) {
	b := newBench(t)
	b.opts.SegmentSize = 64 << 10
	l := b.boot(t)
	write := func(n int) {
		for i := range n {
			if _, err := l.Append(t.Context(), Entry{Kind: receipt.Command, Private: map[string]string{"line": fmt.Sprint(i, strings.Repeat("x", 900))}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := l.Follow(0)
	defer c.Close()
	next := int64(0)
	drain := func() {
		for {
			first, records, err := c.Next()
			if err == io.EOF {
				break
			}
			if err != nil || first != next || len(records) == 0 {
				t.Fatalf("%d records from %d, want them from %d: %v", len(records), first, next, err)
			}
			next += int64(len(records))
		}
		if next != l.Head().Size {
			t.Fatalf("%d of %d records", next, l.Head().Size)
		}
	}
	for range 5 {
		write(40)
		drain()
	}
	if firsts, err := numbers(b.dir, segmentPrefix); err != nil || len(firsts) < 3 {
		t.Fatalf("segments %v, %v", firsts, err)
	}
	for from := range l.Head().Size {
		c := l.Follow(from)
		first, records, err := c.Next()
		if err != nil || first != from {
			t.Fatalf("from %d: %d, %v", from, first, err)
		}
		want := records[0].Leaf()
		if err := l.Records(from, from+1, func(_ int64, r receipt.Record) error {
			if r.Leaf() != want {
				t.Errorf("record %d is another", from)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A bookmark outlives a restart, is of one name, and is none where it was edited or the log goes on otherwise.
func TestBookmark(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	mine, other := receipt.Hash{1}, receipt.Hash{2}
	if _, err := l.Bookmark(mine).Load(); !errors.Is(err, ErrNoBookmark) {
		t.Errorf("none: %v", err)
	}
	if _, err := l.Append(t.Context(), Entry{Kind: receipt.Boot}); err != nil {
		t.Fatal(err)
	}
	if err := l.Bookmark(mine).Save(2); err != nil {
		t.Fatal(err)
	}
	if err := l.Bookmark(mine).Save(3); err == nil {
		t.Error("a place behind the end is saved")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = b.boot(t)
	if at, err := l.Bookmark(mine).Load(); at != 2 || err != nil {
		t.Errorf("after a restart: %d, %v", at, err)
	}
	if at, err := l.Bookmark(other).Load(); !errors.Is(err, ErrNoBookmark) {
		t.Errorf("of another: %d, %v", at, err)
	}
	sealed, err := os.ReadFile(l.path(bookmarkFile))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		edited := append([]byte{}, sealed...)
		edited[i] ^= 1
		if err := os.WriteFile(l.path(bookmarkFile), edited, 0o600); err != nil {
			t.Fatal(err)
		}
		if at, err := l.Bookmark(mine).Load(); !errors.Is(err, ErrNoBookmark) {
			t.Fatalf("byte %d edited: %d, %v", i, at, err)
		}
	}
	for what, put := range map[string]func() error{
		"a long file": func() error {
			return os.WriteFile(l.path(bookmarkFile), append(sealed, make([]byte, maxKeyFile)...), 0o600)
		},
		"no end": func() error { return os.Symlink("/dev/zero", l.path(bookmarkFile)) },
		"a pipe": func() error { return syscall.Mkfifo(l.path(bookmarkFile), 0o600) },
	} {
		if err := errors.Join(os.Remove(l.path(bookmarkFile)), put()); err != nil {
			t.Fatal(err)
		}
		if at, err := l.Bookmark(mine).Load(); err == nil || at != 0 {
			t.Errorf("%s: %d, %v", what, at, err)
		}
	}
	fork := newBench(t).boot(t) // the same box's log, gone another way
	if _, err := fork.Append(t.Context(), Entry{Kind: receipt.Boot}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fork.path(bookmarkFile), sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if at, err := fork.Bookmark(mine).Load(); !errors.Is(err, ErrNoBookmark) {
		t.Errorf("of a fork: %d, %v", at, err)
	}
}

// What lies in the place of the receipt key is not read to its end, and not waited for.
func TestKeyFileIsBounded(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	file, pub := l.keys, l.receiptKey()
	sealed, err := os.ReadFile(file.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.find(pub); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func() error{
		"longer than": func() error { return os.WriteFile(file.path, append(sealed, make([]byte, maxKeyFile)...), 0o600) },
		"symbolic":    func() error { return os.Symlink("/dev/zero", file.path) },
		"too short":   func() error { return syscall.Mkfifo(file.path, 0o600) },
	} {
		if err := errors.Join(os.Remove(file.path), put()); err != nil {
			t.Fatal(err)
		}
		if key, err := file.find(pub); key != nil || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
