package qemu

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVolatileDisk: what was flushed or written through is there after a power cut; of the rest what the disk likes, sector by sector, and until
// then all of it is read. A forgetful disk keeps nothing.
func TestVolatileDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	const sectors = 64
	blank := bytes.Repeat([]byte{'-'}, sectors*sectorSize)
	r := rand.New(rand.NewPCG(1, 2))
	fresh := func() *Volatile {
		t.Helper()
		if err := os.WriteFile(path, blank, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := NewVolatile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
		return v
	}
	do := func(v *Volatile, kind uint16, through bool, sector int, data []byte) {
		t.Helper()
		if err := v.do(kind, through, int64(sector*sectorSize), data); err != nil {
			t.Fatal(err)
		}
	}
	put := func(v *Volatile, sector int, letter byte, through bool) {
		t.Helper()
		do(v, nbdWrite, through, sector, bytes.Repeat([]byte{letter}, sectorSize))
	}
	readAll := func(v *Volatile) (s []byte) {
		t.Helper()
		b := make([]byte, sectors*sectorSize)
		do(v, nbdRead, false, 0, b)
		for i := range sectors {
			if b[i*sectorSize] != b[(i+1)*sectorSize-1] {
				t.Error("a sector is torn")
			}
			s = append(s, b[i*sectorSize])
		}
		return s
	}
	read := func(v *Volatile) []byte { return readAll(v)[:4] }
	wants := func(v *Volatile, when, want string) {
		t.Helper()
		if got := read(v); string(got) != want {
			t.Errorf("%s: %s; want %s", when, got, want)
		}
	}
	v := fresh()
	put(v, 0, 'a', false)
	put(v, 1, 'b', false)
	wants(v, "before a flush", "ab--")
	do(v, nbdFlush, false, 0, nil)
	put(v, 1, 'c', false)
	put(v, 2, 'd', false)
	put(v, 2, 'e', true)
	put(v, 3, 'f', false)
	wants(v, "after a flush", "acef")
	if lost, err := v.Cut(r, 0); err != nil || lost != 2 {
		t.Errorf("Cut = %d, %v; want 2 lost", lost, err)
	}
	if err := v.do(nbdRead, false, 0, make([]byte, sectorSize)); !errors.Is(err, errDiskOff) {
		t.Errorf("a disk without power reads: %v", err)
	}
	v.Power()
	wants(v, "after a cut", "abe-")

	for _, bad := range [][2]int64{{-512, 512}, {1, 512}, {0, 100}, {sectors * sectorSize, 512}, {(sectors - 1) * sectorSize, 1024}} {
		if err := v.do(nbdWrite, false, bad[0], make([]byte, bad[1])); !errors.Is(err, errRequest) {
			t.Errorf("write of %d at %d: %v", bad[1], bad[0], err)
		}
	}

	v = fresh()
	record := func(kind byte) []byte {
		b := bytes.Repeat([]byte{'j'}, 8*sectorSize)
		copy(b, []byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, kind})
		return b
	}
	for kind, kept := range map[byte]bool{1: false, journalCommit: true, journalSuper1: true, journalSuper2: true, 5: false} {
		do(v, nbdWrite, false, 8, record(kind))
		if lost, err := v.Cut(r, 0); err != nil || (lost == 0) != kept {
			t.Errorf("of a journal's block of kind %d: %d sectors lost, %v", kind, lost, err)
		}
		v.Power()
	}

	v = fresh()
	put(v, 0, 'a', true)
	if _, err := v.Cut(r, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first was on its way; who writes to a disk without power is not heard
		if err := v.do(nbdWrite, true, 0, bytes.Repeat([]byte{'b'}, sectors*sectorSize)); !errors.Is(err, errDiskOff) {
			t.Errorf("a disk without power writes: %v", err)
		}
	}
	v.Power()
	if n := strings.Count(string(readAll(v)), "b"); n == 0 || n == sectors || n > 3*sectors/4 {
		t.Errorf("what was on its way was not torn: %d of %d sectors are written", n, sectors)
	}

	v = fresh()
	blown := v.CutAfter(2, r, 0)
	put(v, 0, 'a', true)
	put(v, 1, 'b', false)
	if err := v.do(nbdWrite, true, 2*sectorSize, bytes.Repeat([]byte{'c'}, sectorSize)); !errors.Is(err, errDiskOff) {
		t.Errorf("the write that ends it: %v", err)
	}
	if l := <-blown; l.Err != nil || l.Sectors != 1 {
		t.Errorf("CutAfter = %+v; want 1 lost", l)
	}
	v.Power()
	if got := string(read(v)); got != "a---" && got != "a-c-" {
		t.Errorf("after a cut with a write: %s", got)
	}
	put(v, 3, 'd', true) // and no other cut follows

	some := fresh()
	for i := range sectors {
		put(some, i, 'x', false)
	}
	lost, err := some.Cut(r, 0.5)
	if err != nil || lost == 0 || lost == sectors {
		t.Errorf("of %d sectors %d were lost, %v", sectors, lost, err)
	}

	v = fresh()
	v.Forgetful = true
	put(v, 0, 'a', true)
	put(v, 1, 'b', false)
	do(v, nbdFlush, false, 0, nil)
	wants(v, "a forgetful disk", "ab--")
	if _, err := v.Cut(r, 0); err != nil {
		t.Fatal(err)
	}
	v.Power()
	wants(v, "a forgetful disk after a cut", "----")
}
