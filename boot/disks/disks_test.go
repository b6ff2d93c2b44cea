package disks_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/disks"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/boot/machine"
)

const text = "-----BEGIN KRA BACKUP-----\nLines: 1\n\nMDEy O0cR\n-----END KRA BACKUP-----\n"

var title = machine.Title{Box: "box1", Made: time.Date(2026, 11, 23, 5, 4, 3, 0, time.UTC)}

const titled = "kra-backup-box1-20261123T050403Z.txt"

// stick is a rack with a stick in it.
func stick(t *testing.T) *diskstest.Rack {
	t.Helper()
	r := diskstest.New(t)
	r.Plug(diskstest.Disk{Name: "sdb", Model: "Ultra\x1b[2J Fit", Serial: "4C530001", Size: 4 << 20})
	return r
}

// listed is the one disk of a list.
func listed(t *testing.T, r *diskstest.Rack, name string) machine.Disk {
	t.Helper()
	all, err := r.Drawer.List()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d machine.Disk) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("no %s among %v", name, all)
	}
	return all[i]
}

func contents(t *testing.T, r *diskstest.Rack, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(r.File(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, r *diskstest.Rack, name string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(r.File(name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestBackupOnDisk: what is written is read again, here and by tar(1); what tar(1) made of it is read here; and the list says what is there.
func TestBackupOnDisk(t *testing.T) {
	r := stick(t)
	d := listed(t, r, "sdb")
	if d.Model != "Ultra [2J Fit" || d.Serial != "4C530001" || d.Bus != "usb" || d.Size != 4<<20 || d.Holds != "empty" {
		t.Errorf("an empty stick is %+v", d)
	}
	put(t, r, "sdb", d.Size-512, []byte("EFI PART"))
	d = listed(t, r, "sdb")
	if !strings.HasPrefix(d.Holds, "something else") {
		t.Errorf("a disk with a partition table at its end: %q", d.Holds)
	}
	if err := r.Drawer.Write("sdb", d.Mark, title, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if b := contents(t, r, "sdb"); bytes.Contains(b, []byte("EFI PART")) {
		t.Error("the copy of the partition table is still there")
	}
	now := listed(t, r, "sdb")
	if !strings.Contains(now.Holds, "backup of box box1, made 2026-11-23 05:04:03 UTC") || now.Mark == d.Mark {
		t.Errorf("afterwards it is %+v", now)
	}
	if got, err := r.Drawer.Read("sdb", now.Mark); err != nil || got != text {
		t.Errorf("reads %q, %v", got, err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "xvf", r.File("sdb"), "-C", dir).Output(); err != nil || strings.TrimSpace(string(out)) != titled {
		t.Fatalf("tar: %s, %v", out, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, titled)); err != nil || string(got) != text {
		t.Errorf("tar has unpacked %q, %v", got, err)
	}
	for _, format := range []string{"gnu", "ustar", "pax"} {
		out, err := exec.Command("tar", "--format="+format, "-C", dir, "-cf", "-", "./"+titled).Output()
		if err != nil {
			t.Fatal(err)
		}
		r.Unplug("sdb")
		r.Plug(diskstest.Disk{Name: "sdb", Size: 4 << 20})
		put(t, r, "sdb", 0, out)
		if got, err := r.Drawer.Read("sdb", listed(t, r, "sdb").Mark); err != nil || got != text {
			t.Errorf("made by tar as %s: %q, %v", format, got, err)
		}
	}
}

// TestOwnDisks: the box's own disks, and those that are in use, are not in the list, and cannot be written to by their names either.
func TestOwnDisks(t *testing.T) {
	disk := func(name string, parts ...string) diskstest.Disk {
		return diskstest.Disk{Name: name, Way: "pci0000:00/ata1/host0/target0:0:0/" + name, Size: 4 << 20, Parts: parts}
	}
	r := stick(t)
	r.Plug(disk("sdc", "1", "data"))
	r.Plug(disk("sdd", "1", "kra-state"))
	r.Plug(disk("sde", "1", "kra-esp"))
	r.Plug(disk("sdf"))
	r.Set("sdf", "holders/dm-0", "")
	r.Plug(disk("sdg", "1", "x"))
	r.Plug(disk("sdh"))
	r.Plug(disk("loop0"))
	r.Plug(disk("sdi"))
	r.Set("sdi", "size", "0") // a reader without a card
	r.Mount(r.Number(diskstest.Own+"p2"), r.Number("sdg1"), r.Number("sdh"))
	all, err := r.Drawer.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); got != "sdb sdc" {
		t.Errorf("lists %s, want sdb sdc", got)
	}
	if d := listed(t, r, "sdc"); d.Holds != "something else: partitions sdc1 data" && !strings.Contains(d.Holds, "sdc1 data") && d.Holds != "empty" {
		t.Errorf("holds %q", d.Holds)
	}
	for _, name := range []string{diskstest.Own, "sdd", "sde", "sdf", "sdg", "sdh", "sdc1", "loop0", "sdi", "sdz", "../dev/sdb"} {
		before, _ := os.ReadFile(r.File(name))
		for _, mark := range []machine.Mark{"", listed(t, r, "sdb").Mark} {
			if err := r.Drawer.Write(name, mark, title, []byte(text)); err == nil || !strings.Contains(err.Error(), "box's own") {
				t.Errorf("written to %s: %v", name, err)
			}
			if _, err := r.Drawer.Read(name, mark); err == nil {
				t.Errorf("read from %s", name)
			}
		}
		if after, _ := os.ReadFile(r.File(name)); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", name)
		}
	}
}

// TestNothingIsKnownOfMounts: where it does not find the box's own disk, it takes none for another's.
func TestNothingIsKnownOfMounts(t *testing.T) {
	for name, spoil := range map[string]func(*diskstest.Rack){
		"no list of mounts":       func(r *diskstest.Rack) { r.Drawer.Mounts += "-" },
		"nothing is mounted":      func(r *diskstest.Rack) { os.WriteFile(r.Drawer.Mounts, nil, 0o600) },
		"mounted from elsewhere":  func(r *diskstest.Rack) { r.Mount("8:99") },
		"a line without a number": func(r *diskstest.Rack) { r.Mount("x") },
		"own disk has gone": func(r *diskstest.Rack) {
			r.Mount("0:1")
			r.Unplug(diskstest.Own + "p1")
			r.Unplug(diskstest.Own + "p2")
		},
		"no list of devices": func(r *diskstest.Rack) { r.Drawer.Sys += "-" },
	} {
		r := stick(t)
		mark := listed(t, r, "sdb").Mark
		spoil(r)
		if all, err := r.Drawer.List(); err == nil {
			t.Errorf("%s: lists %v", name, all)
		}
		if err := r.Drawer.Write("sdb", mark, title, []byte(text)); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestAnotherDisk: what is written or read is the disk that was listed, with the contents that it had then.
func TestAnotherDisk(t *testing.T) {
	for name, change := range map[string]func(*diskstest.Rack){
		"another like it": func(r *diskstest.Rack) {
			r.Unplug("sdb")
			r.Plug(diskstest.Disk{Name: "sdb", Model: "Ultra\x1b[2J Fit", Serial: "4C530001", Size: 4 << 20})
		},
		"other contents":        func(r *diskstest.Rack) { put(t, r, "sdb", 9000, []byte("x")) },
		"other contents at end": func(r *diskstest.Rack) { put(t, r, "sdb", 4<<20-1, []byte("x")) },
		"unplugged":             func(r *diskstest.Rack) { r.Unplug("sdb") },
		"mounted":               func(r *diskstest.Rack) { r.Mount(r.Number(diskstest.Own+"p2"), r.Number("sdb")) },
		"not a device":          func(r *diskstest.Rack) { os.Remove(r.File("sdb")); os.Symlink(r.File(diskstest.Own), r.File("sdb")) },
		"a folder":              func(r *diskstest.Rack) { os.Remove(r.File("sdb")); os.Mkdir(r.File("sdb"), 0o700) },
		"of another size":       func(r *diskstest.Rack) { os.Truncate(r.File("sdb"), 3<<20) },
		"no device at all":      func(r *diskstest.Rack) { r.Drawer.Files = false },
	} {
		r := stick(t)
		d := listed(t, r, "sdb")
		own := contents(t, r, diskstest.Own)
		change(r)
		if err := r.Drawer.Write("sdb", d.Mark, title, []byte(text)); err == nil {
			t.Errorf("%s: written", name)
		}
		if _, err := r.Drawer.Read("sdb", d.Mark); err == nil {
			t.Errorf("%s: read", name)
		}
		if !bytes.Equal(own, contents(t, r, diskstest.Own)) {
			t.Errorf("%s: the box's own disk was changed", name)
		}
	}
}

// TestOnlyBackups: nothing but the letters of a backup is written, or taken from a disk; and it must fit.
func TestOnlyBackups(t *testing.T) {
	r := stick(t)
	d := listed(t, r, "sdb")
	for name, c := range map[string]struct {
		title machine.Title
		text  string
	}{
		"a boot sector": {title, "\x55\xaa"}, "nothing": {title, ""}, "other letters": {title, text + "#!"}, "no box": {machine.Title{Made: title.Made}, text},
		"a path": {machine.Title{Box: "../x", Made: title.Made}, text}, "too large": {title, strings.Repeat("A", 4<<20-1<<16)},
		"larger than any": {title, strings.Repeat("A", machine.MaxBackup+1)},
	} {
		if err := r.Drawer.Write("sdb", d.Mark, c.title, []byte(c.text)); err == nil {
			t.Errorf("%s: written", name)
		}
		if now := listed(t, r, "sdb"); now.Mark != d.Mark {
			t.Fatalf("%s: the disk was changed: %s", name, now.Holds)
		}
	}
}

// hostile are archives that are no backup.
func hostile(t testing.TB) map[string][]byte {
	t.Helper()
	pack := func(h tar.Header, body string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if h.Size == 0 {
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(body))
		_ = w.Flush()
		return b.Bytes()
	}
	file := tar.Header{Typeflag: tar.TypeReg, Name: titled, Mode: 0o444}
	with := func(f func(*tar.Header)) tar.Header { h := file; f(&h); return h }
	whole := pack(file, text)
	sparse := bytes.Clone(whole)
	sparse[156] = tar.TypeGNUSparse
	checksum(sparse)
	return map[string][]byte{
		"nothing":            nil,
		"noise":              bytes.Repeat([]byte{0xa5}, 4096),
		"a larger one":       pack(with(func(h *tar.Header) { h.Size = machine.MaxBackup + 1 }), text),
		"an enormous one":    pack(with(func(h *tar.Header) { h.Size, h.Format = 1<<60, tar.FormatGNU }), text),
		"cut off":            pack(with(func(h *tar.Header) { h.Size = 1 << 20 }), text)[:1024],
		"a symbolic link":    pack(with(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/state/krad/store.db" }), ""),
		"a hard link":        pack(with(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, titled }), ""),
		"a folder":           pack(with(func(h *tar.Header) { h.Typeflag = tar.TypeDir }), ""),
		"a device":           pack(with(func(h *tar.Header) { h.Typeflag = tar.TypeBlock }), ""),
		"sparse":             sparse,
		"sparse in records":  pack(with(func(h *tar.Header) { h.PAXRecords = map[string]string{"VENDOR.x": "1"} }), text),
		"another name":       pack(with(func(h *tar.Header) { h.Name = "backup.txt" }), text),
		"a path":             pack(with(func(h *tar.Header) { h.Name = "../" + titled }), text),
		"no such day":        pack(with(func(h *tar.Header) { h.Name = "kra-backup-box1-20261343T050403Z.txt" }), text),
		"a long name":        pack(with(func(h *tar.Header) { h.Name, h.Format = strings.Repeat("x/", 5000)+titled, tar.FormatGNU }), text),
		"an empty file":      pack(file, ""),
		"other letters":      pack(file, text+"\x00"),
		"a second one first": append(pack(with(func(h *tar.Header) { h.Name = "x" }), "x"), whole...),
	}
}

// checksum makes the checksum of a header right.
func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header[:512] {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// TestHostileArchives: what is no plain file of a backup's name, size and letters is not read, and stops nothing.
func TestHostileArchives(t *testing.T) {
	for name, b := range hostile(t) {
		r := stick(t)
		put(t, r, "sdb", 0, b)
		d := listed(t, r, "sdb")
		got, err := r.Drawer.Read("sdb", d.Mark)
		if err == nil {
			t.Errorf("%s: read as %.80q", name, got)
		}
		t.Logf("%s: %s; %v", name, d.Holds, err)
		if err := r.Drawer.Write("sdb", d.Mark, title, []byte(text)); err != nil {
			t.Errorf("%s: not to be overwritten: %v", name, err)
		}
	}
	r := stick(t)
	r.Unplug("sdb")
	r.Plug(diskstest.Disk{Name: "sdb", Size: 1024})
	put(t, r, "sdb", 0, hostile(t)["cut off"])
	if _, err := r.Drawer.Read("sdb", listed(t, r, "sdb").Mark); err == nil || !strings.Contains(err.Error(), "ends after byte 512 of 1048576") {
		t.Errorf("a disk that ends within its backup: %v", err)
	}
}

// FuzzArchive: whatever is on a disk is a backup's letters or is refused.
func FuzzArchive(f *testing.F) {
	seeds := hostile(f)
	if len(seeds) < 15 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, b := range seeds {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := disks.Unpack(bytes.NewReader(b))
		if err == nil && (got == "" || len(got) > machine.MaxBackup || !machine.IsBackupText(got)) {
			t.Errorf("%q is read as %.80q", b, got)
		}
	})
}

// TestClerk: one thing is done at a time, a disk that does not answer keeps nobody waiting, and what comes out of order is refused.
func TestClerk(t *testing.T) {
	r := stick(t)
	c := &disks.Clerk{Drawer: r.Drawer}
	ask := func(q machine.DiskRequest) (machine.DiskReply, error) {
		t.Helper()
		a, err := c.Do(q)
		for q.Do == machine.DiskResult && err == nil && a.Waits {
			a, err = c.Do(q)
		}
		return a, err
	}
	result := machine.DiskRequest{Do: machine.DiskResult}
	if _, err := ask(result); err == nil {
		t.Error("a result of nothing")
	}
	if _, err := ask(machine.DiskRequest{Do: machine.DiskFetch}); err == nil {
		t.Error("a part of nothing")
	}
	if _, err := ask(machine.DiskRequest{Do: machine.DiskPart, At: 5, Text: "x"}); err == nil {
		t.Error("a part after nothing")
	}
	d := listed(t, r, "sdb")
	for at := 0; at < len(text); at += 10 {
		if _, err := ask(machine.DiskRequest{Do: machine.DiskPart, At: at, Text: text[at:min(len(text), at+10)]}); err != nil {
			t.Fatal(err)
		}
	}
	write := machine.DiskRequest{Do: machine.DiskWrite, Disk: "sdb", Mark: d.Mark, Box: "box1", Made: title.Made.Unix()}
	if _, err := ask(write); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(result); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(write); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(result); err == nil {
		t.Error("what was written once is written again")
	}
	read := machine.DiskRequest{Do: machine.DiskRead, Disk: "sdb", Mark: listed(t, r, "sdb").Mark}
	if _, err := ask(read); err != nil {
		t.Fatal(err)
	}
	if a, err := ask(result); err != nil || a.Size != len(text) {
		t.Errorf("read: %+v, %v", a, err)
	}
	if a, err := ask(machine.DiskRequest{Do: machine.DiskFetch}); err != nil || a.Text != text {
		t.Errorf("fetched: %+v, %v", a, err)
	}
	if _, err := ask(machine.DiskRequest{Do: machine.DiskFetch}); err == nil {
		t.Error("what was fetched is kept")
	}

	// a device that does not answer: nobody writes to the other end
	if err := os.Remove(r.Drawer.Mounts); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfifo", r.Drawer.Mounts).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if _, err := c.Do(read); err != nil {
		t.Fatal(err)
	}
	if a, err := c.Do(result); err != nil || !a.Waits {
		t.Errorf("a disk that does not answer: %+v, %v", a, err)
	}
	for _, q := range []machine.DiskRequest{read, write, {Do: machine.DiskList}, {Do: machine.DiskPart, Text: "x"}} {
		if _, err := c.Do(q); err == nil {
			t.Errorf("%s while a disk does not answer", q.Do)
		}
	}
	w, err := os.OpenFile(r.Drawer.Mounts, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := ask(result); err == nil {
		t.Error("read without knowing what is mounted")
	}
	if _, err := c.Do(machine.DiskRequest{Do: machine.DiskPart, Text: "x"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// served is process 1 as far as disks go.
type served struct {
	machine.Handler
	*disks.Clerk
}

func (s served) Disk(q machine.DiskRequest) (machine.DiskReply, error) { return s.Do(q) }

// TestOverTheWire: krad's end has a text of many parts written and read.
func TestOverTheWire(t *testing.T) {
	r := stick(t)
	near, far := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- machine.Serve(t.Context(), far, served{Clerk: &disks.Clerk{Drawer: r.Drawer}}) }()
	c := machine.NewClient(near)
	long := strings.Repeat(text, 3000) + strings.Repeat("\n", 100<<10) // of which each takes two bytes on the way
	all, err := c.Disks(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "sdb" {
		t.Fatalf("lists %v, %v", all, err)
	}
	if err := c.WriteDisk(t.Context(), all[0], title, []byte(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadDisk(t.Context(), all[0]); err == nil || !strings.Contains(err.Error(), "does not hold any more what it held") {
		t.Errorf("read by the list of before: %v", err)
	}
	if all, err = c.Disks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadDisk(t.Context(), all[0]); err != nil || got != long {
		t.Errorf("reads %d bytes, %v; want %d", len(got), err, len(long))
	}
	if err := c.WriteDisk(t.Context(), all[0], machine.Title{Box: "a box", Made: title.Made}, []byte(long)); err == nil {
		t.Error("written for no box")
	}
	if err := c.WriteDisk(t.Context(), all[0], title, []byte("\x00")); err == nil {
		t.Error("other letters were sent")
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("process 1's end: %v", err)
	}
}
