package fat

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
)

const testLimit = 4096

func TestReadFile(t *testing.T) {
	f, err := os.Open(volume(t, samples()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for path, want := range samples() {
		got, err := ReadFile(f, path, 1<<24)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadFile(%s): %d bytes, %v; want %d", path, len(got), err, len(want))
		}
	}
	if _, err := ReadFile(f, "EFI/BOOT/BOOTX64.EFI", testLimit); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file beyond the limit: %v", err)
	}
	for _, path := range []string{"", "nothing", "EFI", "EFI/BOOT/nothing", "empty/x", "EFI//BOOT"} {
		if _, err := ReadFile(f, path, testLimit); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q): %v; want that there is none", path, err)
		}
	}
	if got, err := ReadFile(f, "efi/boot/bootx64.efi.EXTRA.d/X.CRED", testLimit); err != nil || string(got) != "credential" {
		t.Errorf("another case: %q, %v", got, err)
	}
	if _, err := ReadFile(bytes.NewReader(make([]byte, 1<<20)), "x", testLimit); err == nil {
		t.Error("read a file of no volume")
	}
}

// A patched volume reads as another one with some bytes over it.
type patched struct {
	io.ReaderAt
	at    int64
	bytes []byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	if lo, hi := max(off, p.at), min(off+int64(n), p.at+int64(len(p.bytes))); lo < hi {
		copy(b[lo-off:hi-off], p.bytes[lo-p.at:hi-p.at])
	}
	return n, err
}

// FuzzReadFile writes over a good volume anywhere: whatever is read ends, and within the limit.
func FuzzReadFile(f *testing.F) {
	file, err := os.CreateTemp(f.TempDir(), "volume")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	if err := errors.Join(file.Truncate(testSize), Write(file, testSize, "x", 1, Files{"EFI/kra/approvals.pem": bytes.Repeat([]byte("a"), 3*clusterSize)})); err != nil {
		f.Fatal(err)
	}
	g, err := newGeometry(testSize)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(int64(11), []byte{0, 4})                         // sector size
	f.Add(int64(13), []byte{128})                          // clusters of 64 KiB
	f.Add(g.fatOffset(0)+8, []byte{2, 0, 0, 0})            // the root folder is a loop
	f.Add(g.fatOffset(0)+4*5, []byte{5, 0, 0, 0})          // the file is a loop
	f.Add(g.clusterOffset(2), bytes.Repeat([]byte{1}, 64)) // no entries
	f.Fuzz(func(t *testing.T, at int64, over []byte) {
		data, err := ReadFile(patched{file, at, over}, "EFI/kra/approvals.pem", testLimit)
		if len(data) > testLimit || err == nil && data == nil {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
}
