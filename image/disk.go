package image

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/keyrelease/krabox/image/fat"
)

// The disk: 1 MiB for the table, the ESP, the state partition, 1 MiB for the table's copy.
const (
	espOffset   = mebibyte
	espSize     = 128 * mebibyte // room for two releases
	stateOffset = espOffset + espSize

	// StateSize is what the state partition has, in bytes, unless somebody wants more.
	StateSize    = 512 * mebibyte
	maxStateSize = 1 << 20 * mebibyte

	espSerial = 0x4b524131

	// BootPath is where firmware looks on an ESP without being told.
	BootPath = "EFI/BOOT/BOOTX64.EFI"
)

// Everything mke2fs would take from a clock or a random source.
const (
	stateUUID = "6b72612d-7374-4174-8501-000000000001"
	stateHash = "6b72612d-7374-4174-8501-000000000002"
	stateTime = "1735689600" // 2025-01-01; e2fsprogs treats 0 as unset
)

func diskLayout(state int64) []Partition {
	return []Partition{
		{Name: PartitionESP, Offset: espOffset, Size: espSize, kind: typeESP, id: guidESP},
		{Name: PartitionState, Offset: stateOffset, Size: state, kind: typeLinux, id: guidState},
	}
}

// WriteDisk makes a sparse disk image with the UKI on its ESP and an empty state partition of so many bytes.
func WriteDisk(path string, uki []byte, state int64) error {
	if err := writeDisk(path, uki, state); err != nil {
		return fmt.Errorf("write disk image: %w", err)
	}
	return nil
}

func writeDisk(path string, uki []byte, state int64) (err error) {
	diskSize := stateOffset + state + mebibyte
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := f.Truncate(diskSize); err != nil {
		return err
	}
	if err := writeTable(f, diskSize, diskLayout(state)); err != nil {
		return err
	}
	esp := io.NewOffsetWriter(f, espOffset)
	if err := fat.Write(esp, espSize, PartitionESP, espSerial, fat.Files{BootPath: uki}); err != nil {
		return err
	}
	return makeState(path, state)
}

// makeState formats the state partition in place: mke2fs needs neither root nor a loop device.
func makeState(path string, size int64) error {
	// A feature list of our own, not the host's mke2fs.conf: kernel 6.1 reads all of it.
	config, err := os.CreateTemp("", "mke2fs-*.conf")
	if err != nil {
		return err
	}
	defer os.Remove(config.Name())
	if _, err := config.WriteString(mke2fsConfig); err != nil {
		return err
	}
	if err := config.Close(); err != nil {
		return err
	}
	cmd := exec.Command(toolPath("mke2fs"), "-q", "-F", "-t", "ext4", "-L", PartitionState, "-U", stateUUID, "-m", "0",
		"-E", fmt.Sprintf("hash_seed=%s,offset=%d,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", stateHash, stateOffset),
		path, fmt.Sprintf("%dk", size/1024))
	cmd.Env = []string{"E2FSPROGS_FAKE_TIME=" + stateTime, "MKE2FS_CONFIG=" + config.Name(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Without metadata_csum, and so without checksums in the journal: a commit block of 4 KiB of which a cut left only the first sectors of 512 bytes
// ends the journal of kernel 6.1 as damage ("structure needs cleaning"), and the box stays locked. Without them its first sector alone says
// that a transaction is whole. What lies here is sealed or in the log's tree, and is checked there.
const mke2fsConfig = `[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {
	features = has_journal,extent,huge_file,flex_bg,64bit,dir_nlink,extra_isize
}
`

// toolPath finds system tools that Debian keeps outside an ordinary user's PATH.
func toolPath(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return filepath.Join("/usr/sbin", name)
}
