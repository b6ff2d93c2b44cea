package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/image/manifest"
)

const debianStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// testUKI is a small image that is not meant to boot: the stub stands in for a kernel, being a PE image too.
func testUKI(t *testing.T, initrd string) []byte {
	t.Helper()
	stub := read(t, debianStub)
	uki, err := BuildUKI(stub, []Section{
		{sectionRelease, []byte("ID=kra\n")}, {sectionCmdline, []byte("quiet\x00")}, {sectionLinux, stub}, {sectionInitrd, []byte(initrd)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return uki
}

func testDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := WriteDisk(path, testUKI(t, "first"), StateSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDiskIsDeterministic(t *testing.T) {
	a := testDisk(t)
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("E2FSPROGS_FAKE_TIME", "1")
	t.Setenv("MKE2FS_CONFIG", "/nowhere")
	b := testDisk(t)
	if err := exec.Command("cmp", a, b).Run(); err != nil {
		t.Error("two disks of the same release differ")
	}
}

// TestLargeState: a state partition of another size is as long as that, its file system with it.
func TestLargeState(t *testing.T) {
	const size = 3 << 30
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := WriteDisk(disk, testUKI(t, "first"), size); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := FindPartition(f, PartitionState)
	if err != nil || p.Size != size {
		t.Errorf("partition %+v, %v", p, err)
	}
	out, err := exec.Command(toolPath("dumpe2fs"), "-h", fmt.Sprintf("%s?offset=%d", disk, stateOffset)).CombinedOutput()
	if blocks := fmt.Sprintf("Block count:              %d\n", size/4096); err != nil || !strings.Contains(string(out), blocks) {
		t.Errorf("dumpe2fs: %v, want %q in\n%s", err, blocks, out)
	}
}

func TestStateFileSystemIsSound(t *testing.T) {
	disk := testDisk(t)
	out, err := exec.Command(toolPath("e2fsck"), "-fn", fmt.Sprintf("%s?offset=%d", disk, stateOffset)).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// TestCutCommitBlockIsNoDamage: the journal, whose commit blocks a cut may leave in part, has no checksums, which kernel 6.1 takes for damage then.
func TestCutCommitBlockIsNoDamage(t *testing.T) {
	f, err := os.Open(testDisk(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, stateOffset+1024); err != nil {
		t.Fatal(err)
	}
	compatible, readOnly := binary.LittleEndian.Uint32(super[0x5c:]), binary.LittleEndian.Uint32(super[0x64:])
	if compatible&0x4 == 0 || readOnly&0x400 != 0 { // has_journal, metadata_csum
		t.Errorf("features %#x, %#x", compatible, readOnly)
	}
}

func TestPartitions(t *testing.T) {
	disk := testDisk(t)
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Partitions(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(diskLayout(StateSize), got, cmp.AllowUnexported(Partition{})); d != "" {
		t.Error(d)
	}
	if _, err := FindPartition(f, "kra-swap"); err == nil {
		t.Error("found a partition that is not there")
	}
	for _, at := range []int64{sector, sector + 20, 2*sector + 60} {
		old := make([]byte, 1)
		if _, err := f.ReadAt(old, at); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{old[0] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if _, err := Partitions(f); err == nil {
			t.Errorf("damage at %d was not noticed", at)
		}
		if _, err := f.WriteAt(old, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestESPEdits puts files on the ESP and takes them off: the disk is then the same as before, byte for byte.
func TestESPEdits(t *testing.T) {
	disk := testDisk(t)
	before := digest(t, disk)
	const cred = "EFI/BOOT/BOOTX64.EFI.extra.d/x.cred"
	if err := PutFile(disk, cred, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	files, err := ReadESP(disk)
	if err != nil {
		t.Fatal(err)
	}
	if string(files[cred]) != "secret" || !bytes.Equal(files[BootPath], testUKI(t, "first")) {
		t.Errorf("ESP has %d files after one was added", len(files))
	}
	if err := InstallUKI(disk, testUKI(t, "a longer second release")); err != nil {
		t.Fatal(err)
	}
	if err := InstallUKI(disk, []byte("not an image")); err == nil {
		t.Error("installed what is no image")
	}
	if err := InstallUKI(disk, testUKI(t, "first")); err != nil {
		t.Fatal(err)
	}
	if err := RemoveFile(disk, cred); err != nil {
		t.Fatal(err)
	}
	if err := RemoveFile(disk, cred); err == nil {
		t.Error("removed a file that is not there")
	}
	if digest(t, disk) != before {
		t.Error("the disk did not come back to what it was")
	}
}

// digest stands for a whole disk: two of them in memory are more than a gigabyte, and several times that under the race detector.
func digest(t *testing.T, path string) manifest.File {
	t.Helper()
	d, err := fileOf(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPartitionCopies(t *testing.T) {
	disk := testDisk(t)
	before := digest(t, disk)
	saved := filepath.Join(t.TempDir(), "state.img")
	if err := CopyPartition(disk, PartitionState, saved); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("changed"), 100_000), stateOffset+StateSize/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if digest(t, disk) == before {
		t.Fatal("nothing changed")
	}
	if err := RestorePartition(disk, PartitionESP, saved); err == nil {
		t.Error("a copy of one partition was put over another")
	}
	if err := RestorePartition(disk, PartitionState, saved); err != nil {
		t.Fatal(err)
	}
	if digest(t, disk) != before {
		t.Error("the state did not come back to what it was")
	}
}
