package audit

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/receipt"
)

// segmentFiles returns the paths of the log's segments, oldest first.
func (b *bench) segmentFiles(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(b.dir, segmentPrefix+"*"))
	if err != nil || len(names) == 0 {
		t.Fatal("no segments: ", err)
	}
	return names
}

// frameOffsets returns where the frames of a segment lie, and where they end.
func frameOffsets(data []byte) (at []int, end int) {
	end = segmentHeader
	for string(data[end:end+4]) == frameMagic {
		at = append(at, end)
		end += frameHeader + int(binary.BigEndian.Uint32(data[end+4:]))
	}
	return at, end
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fill writes a log of several segments and closes it.
func fill(t testing.TB, b *bench, batches int) Head {
	t.Helper()
	b.opts.SegmentSize = 64 << 10
	l := b.boot(t)
	for range batches {
		mustAppend(t, l, b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: strings.Repeat("x", 2000)})
	}
	h := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRecoverWholeLog(t *testing.T) {
	b := newBench(t)
	want := fill(t, b, 60)
	if n := len(b.segmentFiles(t)); n < 3 {
		t.Fatalf("%d segments; want several", n)
	}
	l, err := Open(b.dir, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Head(); got != want {
		t.Errorf("Head() = %+v; want %+v", got, want)
	}
	for _, n := range []int64{0, 1, 2, 50, want.Size} {
		if _, err := l.RootAt(n); err != nil {
			t.Errorf("RootAt(%d): %v", n, err)
		}
	}
	if err := l.CheckPrefix(uint64(want.Size), want.Root); err != nil {
		t.Error(err)
	}
}

// TestTornBatchIsCut simulates the power going during the last write: any set of its sectors may have reached the disk.
func TestTornBatchIsCut(t *testing.T) {
	b := newBench(t)
	before := fill(t, b, 3)
	l := b.boot(t)
	rekeyed := l.Head().Size
	mustAppend(t, l, b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: strings.Repeat("y", 9000)})
	l.Close()
	name := b.segmentFiles(t)[0]
	whole := readFile(t, name)
	frames, end := frameOffsets(whole)
	last := frames[len(frames)-1]
	const sector = 512
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		torn := append([]byte{}, whole...)
		lost := 0
		for at := last / sector * sector; at < end; at += sector {
			if random.IntN(3) == 0 {
				clear(torn[max(at, last):min(at+sector, end)])
				lost++
			}
		}
		if lost == 0 {
			continue
		}
		writeFile(t, name, torn)
		l, err := Open(b.dir, b.opts)
		if err != nil {
			t.Fatalf("%d sectors lost: %v", lost, err)
		}
		if got := l.Head().Size; got != rekeyed {
			t.Fatalf("%d sectors lost: %d records; want %d", lost, got, rekeyed)
		}
		l.Close()
		if after := readFile(t, name); len(strings.Trim(string(after[last:]), "\x00")) != 0 {
			t.Fatal("remains of the torn batch are still there")
		}
	}
	// The log goes on where it was cut, and still begins with what NV remembers.
	l = b.boot(t)
	if err := l.CheckPrefix(uint64(before.Size), before.Root); err != nil {
		t.Error(err)
	}
	mustAppend(t, l, b.hsm.unwrap())
}

// TestEditedLogRefused edits the files of a log in every way that a power cut cannot.
func TestEditedLogRefused(t *testing.T) {
	flip := func(path string, at int) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			files := b.segmentFiles(t)
			p := files[map[string]int{"first": 0, "second": 1, "last": len(files) - 1}[path]]
			data := readFile(t, p)
			frames, _ := frameOffsets(data)
			if at < 0 {
				at += len(frames)
			}
			data[frames[at]+frameHeader+40] ^= 1
			writeFile(t, p, data)
		}
	}
	for name, edit := range map[string]func(*testing.T, *bench){
		"record in the first batch":        flip("first", 0),
		"record in a later batch":          flip("first", 5),
		"record in a later segment":        flip("second", 2),
		"record in the last batch but one": flip("last", -2),
		"last batch but one wiped": func(t *testing.T, b *bench) {
			files := b.segmentFiles(t)
			p := files[len(files)-1]
			data := readFile(t, p)
			frames, _ := frameOffsets(data)
			clear(data[frames[len(frames)-2]:frames[len(frames)-1]])
			writeFile(t, p, data)
		},
		"header": func(t *testing.T, b *bench) {
			p := b.segmentFiles(t)[0]
			data := readFile(t, p)
			data[20] ^= 1
			writeFile(t, p, data)
		},
		"batch wiped": func(t *testing.T, b *bench) {
			p := b.segmentFiles(t)[1]
			data := readFile(t, p)
			frames, _ := frameOffsets(data)
			clear(data[frames[3]:frames[4]])
			writeFile(t, p, data)
		},
		"batch repeated": func(t *testing.T, b *bench) {
			p := b.segmentFiles(t)[1]
			data := readFile(t, p)
			frames, _ := frameOffsets(data)
			copy(data[frames[4]:], data[frames[3]:frames[4]])
			writeFile(t, p, data)
		},
		"segment missing":       func(t *testing.T, b *bench) { os.Remove(b.segmentFiles(t)[1]) },
		"first segment missing": func(t *testing.T, b *bench) { os.Remove(b.segmentFiles(t)[0]) },
		"segment cut short":     func(t *testing.T, b *bench) { os.Truncate(b.segmentFiles(t)[1], 20_000) },
		"segment under another name": func(t *testing.T, b *bench) {
			os.Rename(b.segmentFiles(t)[1], filepath.Join(b.dir, segmentName(7)))
		},
		"strange file":        func(t *testing.T, b *bench) { writeFile(t, filepath.Join(b.dir, "seg-x"), nil) },
		"key of another box":  func(t *testing.T, b *bench) { b.opts.Key[0] ^= 1 },
		"name of another box": func(t *testing.T, b *bench) { b.opts.Box = "box2" },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			fill(t, b, 60)
			kept := b.opts
			edit(t, b)
			l, err := Open(b.dir, b.opts)
			if err == nil {
				l.Close()
				t.Fatal("the log opens")
			}
			if !errors.Is(err, ErrEdited) && name != "strange file" {
				t.Errorf("error %v; want ErrEdited", err)
			}
			b.opts = kept
			if _, again := Open(b.dir, b.opts); again == nil != strings.HasSuffix(name, "another box") {
				t.Errorf("opened again: %v; an edit must stay and a wrong key must have done no harm", again)
			}
		})
	}
}

// TestCutLogRefused removes the newest records whole, which no file by itself can show: the NV record does.
func TestCutLogRefused(t *testing.T) {
	for name, cut := range map[string]func(*testing.T, *bench){
		"last batch": func(t *testing.T, b *bench) {
			files := b.segmentFiles(t)
			p := files[len(files)-1]
			data := readFile(t, p)
			frames, end := frameOffsets(data)
			clear(data[frames[len(frames)-1]:end])
			writeFile(t, p, data)
		},
		"last batch damaged": func(t *testing.T, b *bench) {
			files := b.segmentFiles(t)
			p := files[len(files)-1]
			data := readFile(t, p)
			frames, _ := frameOffsets(data)
			data[frames[len(frames)-1]+100] ^= 1
			writeFile(t, p, data)
		},
		"last segment": func(t *testing.T, b *bench) {
			files := b.segmentFiles(t)
			os.Remove(files[len(files)-1])
		},
		"everything": func(t *testing.T, b *bench) { os.RemoveAll(b.dir) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			h := fill(t, b, 60)
			cut(t, b)
			l, err := Open(b.dir, b.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			err = l.CheckPrefix(uint64(h.Size), h.Root)
			if !errors.Is(err, ErrEdited) || !strings.Contains(err.Error(), "was cut") {
				t.Errorf("CheckPrefix = %v; want that the log was cut", err)
			}
		})
	}
}

// TestOtherLogRefused puts another, equally long log of the same box in place.
func TestOtherLogRefused(t *testing.T) {
	b, c := newBench(t), newBench(t)
	h := fill(t, b, 10)
	fill(t, c, 10)
	l, err := Open(c.dir, c.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.CheckPrefix(uint64(h.Size), h.Root); !errors.Is(err, ErrEdited) {
		t.Errorf("CheckPrefix = %v; want ErrEdited", err)
	}
}

func TestNothingReadableOnDisk(t *testing.T) {
	b := newBench(t)
	fill(t, b, 3)
	for _, p := range append(b.segmentFiles(t), filepath.Join(b.dir, keyFileName)) {
		for _, word := range []string{"alice", "legal-team", "release", "BEGIN"} {
			if strings.Contains(string(readFile(t, p)), word) {
				t.Errorf("%s shows %q", filepath.Base(p), word)
			}
		}
	}
}

func TestOpenTwiceRefused(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	if _, err := Open(b.dir, b.opts); err == nil {
		t.Fatal("a log opens while it is open")
	}
	c := mustAppend(t, l, b.hsm.unwrap())
	if _, err := receipt.Verify(c.Receipts()[0], c.Checkpoint(), c.Path(), b.domain.Roots); err != nil {
		t.Error(err)
	}
}
