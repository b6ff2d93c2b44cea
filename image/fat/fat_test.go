package fat

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testSize = 80 << 20

func volume(t *testing.T, files Files) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(testSize); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, testSize, "kra-esp", 0x4b524131, files); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func samples() Files {
	f := Files{
		"EFI/BOOT/BOOTX64.EFI":                bytes.Repeat([]byte("kernel image "), 300_001),
		"EFI/BOOT/BOOTX64.EFI.extra.d/x.cred": []byte("credential"),
		"EFI/BOOT/exactly13chr.":              nil,
		"empty":                               {},
		"one-cluster":                         make([]byte, clusterSize),
		"MixedCase.Txt":                       []byte("a"),
		"a name with spaces.conf":             []byte("b"),
		"thirteenchars":                       []byte("c"),
	}
	delete(f, "EFI/BOOT/exactly13chr.") // a trailing dot is refused, see below
	return f
}

func wantFiles(t *testing.T, got, want Files) {
	t.Helper()
	if d := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); d != "" {
		t.Error(d)
	}
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: %d bytes that are not the %d written", name, len(got[name]), len(want[name]))
		}
	}
}

func TestWriteThenRead(t *testing.T) {
	want := samples()
	f, err := os.Open(volume(t, want))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, got, want)
}

func TestFolderOverManyClusters(t *testing.T) {
	want := Files{}
	for i := range 200 {
		want["loader/entries/entry number "+strings.Repeat("x", i)+".conf"] = []byte{byte(i)}
	}
	f, err := os.Open(volume(t, want))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, got, want)
}

// TestMtoolsAgrees asks an implementation that is not ours, both ways.
func TestMtoolsAgrees(t *testing.T) {
	path := volume(t, samples())
	for name, want := range samples() {
		got, err := exec.Command("mtype", "-i", path, "::"+name).Output()
		if err != nil {
			t.Fatalf("mtype %s: %v", name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("mtype %s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("from mtools"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mdel", "-i", path, "::one-cluster"},
		{"mcopy", "-i", path, note, "::EFI/BOOT/A Note From Elsewhere.text"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	want := samples()
	delete(want, "one-cluster")
	want["EFI/BOOT/A Note From Elsewhere.text"] = []byte("from mtools")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, got, want)
}

func TestEqualFilesGiveEqualBytes(t *testing.T) {
	a, err := os.ReadFile(volume(t, samples()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(volume(t, samples()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two volumes of the same files differ")
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestWriteRefuses(t *testing.T) {
	for name, files := range map[string]Files{
		"no name":            {"": nil},
		"absolute":           {"/EFI": nil},
		"parent":             {"../x": nil},
		"trailing dot":       {"EFI/x.": nil},
		"control character":  {"a\nb": nil},
		"colon":              {"a:b": nil},
		"file as folder":     {"EFI": nil, "EFI/x": nil},
		"same but for case":  {"EFI/x": nil, "EFI/X": nil},
		"more than it holds": {"x": make([]byte, testSize)},
		"too deep":           {strings.Repeat("d/", 10) + "x": nil},
	} {
		if err := Write(discard{}, testSize, "x", 1, files); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if err := Write(discard{}, 1<<20, "x", 1, nil); err == nil {
		t.Error("a volume too small for FAT32 was written")
	}
}

// TestReadDamaged flips bytes: an error or some files, never a crash or a loop.
func TestReadDamaged(t *testing.T) {
	data, err := os.ReadFile(volume(t, Files{"EFI/BOOT/BOOTX64.EFI": make([]byte, 9000), "a long name.txt": []byte("x")}))
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGeometry(testSize)
	if err != nil {
		t.Fatal(err)
	}
	places := []int64{11, 13, 14, 16, 32, 36, 44, 510}
	for i := range int64(32) {
		places = append(places, g.fatOffset(0)+i, g.clusterOffset(rootCluster)+i)
	}
	for _, at := range places {
		old := data[at]
		for _, v := range []byte{0xff, old ^ 1} {
			data[at] = v
			_, _ = Read(bytes.NewReader(data))
		}
		data[at] = old
	}
}
