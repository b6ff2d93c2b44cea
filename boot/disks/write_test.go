package disks

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestReadBack: what a disk does not hold as it was written is found.
func TestReadBack(t *testing.T) {
	all := make([]byte, 3<<20)
	for i := range all {
		all[i] = byte(i >> 8)
	}
	path := filepath.Join(t.TempDir(), "disk")
	for _, at := range []int64{-1, 0, 511, 1 << 20, 3<<20 - 1} {
		if err := os.WriteFile(path, make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := put(f, all, 4<<20); err != nil {
			t.Fatal(err)
		}
		if at >= 0 {
			if _, err := f.WriteAt([]byte{all[at] + 1}, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := (Drawer{Files: true}).compare(f, all); errors.Is(err, errDiffers) != (at >= 0) {
			t.Errorf("changed at %d: %v", at, err)
		}
		if err := f.Truncate(1 << 20); err != nil {
			t.Fatal(err)
		}
		if err := (Drawer{Files: true}).compare(f, all); err == nil {
			t.Error("a disk that ends early is whole")
		}
		f.Close()
		if put(f, all, 4<<20) == nil {
			t.Error("written to nothing")
		}
	}
}
