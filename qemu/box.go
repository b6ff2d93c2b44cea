package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/image"
)

// Debian's OVMF without Secure Boot.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// A Box is a folder with all that a power cut leaves of a box.
//
//	disk.img    its disk
//	vars.fd     the firmware's variable store
//	tpm/        the state of its TPM
//	serial.log  everything it ever said on the serial line
type Box struct{ dir string }

// NewBox unpacks a new box into dir: a copy of the disk image, empty variables, a TPM that has never run.
func NewBox(dir, disk string) (Box, error) {
	b, err := folder(dir)
	if err != nil {
		return Box{}, fmt.Errorf("new box: %w", err)
	}
	if _, err := os.Stat(b.Disk()); !errors.Is(err, os.ErrNotExist) {
		return Box{}, fmt.Errorf("new box: %s is one already", dir)
	}
	if err := image.CopyFile(b.Vars(), firmwareVars); err != nil {
		return Box{}, fmt.Errorf("new box: %w", err)
	}
	if err := os.Mkdir(b.TPM(), 0o700); err != nil {
		return Box{}, fmt.Errorf("new box: %w", err)
	}
	if err := onlySHA256(b.TPM()); err != nil {
		return Box{}, fmt.Errorf("new box: %w", err)
	}
	if err := image.CopyFile(b.Disk(), disk); err != nil {
		return Box{}, fmt.Errorf("new box: %w", err)
	}
	return b, nil
}

// OpenBox returns the box that NewBox or Copy left in dir.
func OpenBox(dir string) (Box, error) {
	b, err := folder(dir)
	if err != nil {
		return Box{}, fmt.Errorf("open box: %w", err)
	}
	for _, part := range []string{b.Disk(), b.Vars(), b.TPM()} {
		if _, err := os.Stat(part); err != nil {
			return Box{}, fmt.Errorf("open box: %w", err)
		}
	}
	return b, nil
}

// folder makes the path absolute, which swtpm wants.
func folder(dir string) (Box, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Box{}, err
	}
	return Box{dir}, os.MkdirAll(dir, 0o700)
}

// Disk is the disk image.
func (b Box) Disk() string { return filepath.Join(b.dir, "disk.img") }

// Vars is the firmware's variable store.
func (b Box) Vars() string { return filepath.Join(b.dir, "vars.fd") }

// TPM is the folder with the TPM's state.
func (b Box) TPM() string { return filepath.Join(b.dir, "tpm") }

// Log is the file with all serial output.
func (b Box) Log() string { return filepath.Join(b.dir, "serial.log") }

// Copy duplicates a stopped box: what an attacker with a disk copier and much luck would hold.
func (b Box) Copy(dir string) (Box, error) {
	c, err := NewBox(dir, b.Disk())
	if err != nil {
		return Box{}, err
	}
	if err := image.CopyFile(c.Vars(), b.Vars()); err != nil {
		return Box{}, fmt.Errorf("copy box: %w", err)
	}
	return c, c.TakeTPM(b)
}

// TakeDisk replaces the disk of a stopped box by a copy of another's.
func (b Box) TakeDisk(from Box) error {
	if err := image.CopyFile(b.Disk(), from.Disk()); err != nil {
		return fmt.Errorf("take disk: %w", err)
	}
	return nil
}

// TakeTPM replaces the TPM of a stopped box by a copy of another's.
func (b Box) TakeTPM(from Box) error {
	if err := os.RemoveAll(b.TPM()); err != nil {
		return fmt.Errorf("take TPM: %w", err)
	}
	if err := os.CopyFS(b.TPM(), os.DirFS(from.TPM())); err != nil {
		return fmt.Errorf("take TPM: %w", err)
	}
	return nil
}
