package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/image"
)

// A Firmware is a build of the machine's firmware. All of them enforce Secure Boot once they have keys; zero is Guarded.
type Firmware uint8

const (
	// Guarded keeps its variables where only the processor's management mode writes: no operating system gets around their signatures.
	Guarded Firmware = iota + 1
	// Unguarded is another build, without that.
	Unguarded
)

// Debian's OVMF.
const (
	guardedCode   = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	unguardedCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars  = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// arguments are what QEMU needs to run it with a variable store.
func (f Firmware) arguments(accelerator Accelerator, vars string) []string {
	machine, code := "q35,smm=on,accel="+string(accelerator), guardedCode
	if f == Unguarded {
		machine, code = "q35,smm=off,accel="+string(accelerator), unguardedCode
	}
	args := []string{"-machine", machine, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + escape(vars)}
	if f != Unguarded {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
	}
	return args
}

// A Box is a folder with all that a power cut leaves of a box.
//
//	disk.img    its disk
//	vars.fd     the firmware's variable store
//	tpm/        the state of its TPM
//	serial.log  everything it ever said on the serial line
type Box struct{ dir string }

// NewBox unpacks a new box into dir: a copy of the disk image, firmware that starts what the keys' owner signed, or anything if there are
// none, and a TPM that has never run.
func NewBox(dir, disk string, keys image.SecureBoot) (Box, error) {
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
	if keys.On() {
		if err := enrolKeys(b.Vars(), keys); err != nil {
			return Box{}, fmt.Errorf("new box: %w", err)
		}
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
	c, err := NewBox(dir, b.Disk(), image.SecureBoot{})
	if err != nil {
		return Box{}, err
	}
	return c, errors.Join(c.TakeVars(b), c.TakeTPM(b))
}

// TakeVars replaces the firmware's variable store of a stopped box by a copy of another's.
func (b Box) TakeVars(from Box) error {
	if err := image.CopyFile(b.Vars(), from.Vars()); err != nil {
		return fmt.Errorf("take variables: %w", err)
	}
	return nil
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
