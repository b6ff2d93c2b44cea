// Package image makes the bootable image of a box as a function of the commit, the inputs and the domain's public part.
package image

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/image/manifest"
	"github.com/keyrelease/krabox/kra/label"
)

// The artefacts, by their names in the output folder.
const (
	FileInitramfs = "kra.cpio.zst"
	FileUKI       = "kra.efi"
	FileSigned    = "kra.signed.efi" // the same, signed for the firmware by the domain
	FileDisk      = "kra.img"
	FileManifest  = "kra.json"
)

// A Command is one program of the image.
type Command struct {
	Package string // import path, or "./folder" below the source tree
	Path    string // in the image, such as "/bin/krad"
	Link    Link
}

// Link says how a program is built.
type Link int

// Static programs are pure Go; a dynamic one uses cgo and brings its libraries along.
const (
	Static Link = iota + 1
	Dynamic
)

// Commands are the programs of the product's image.
func Commands() []Command {
	const module = "github.com/keyrelease/krabox/"
	return []Command{
		{module + "boot/cmd/init", "/init", Static},
		{module + "boot/cmd/stage1", "/bin/stage1", Static},
		{module + "tpm/cmd/tpmd", "/bin/tpmd", Static},
		{module + "hsm/cmd/hsmd", "/bin/hsmd", Dynamic},
		{module + "boot/cmd/outboundd", "/bin/outboundd", Static},
		{module + "appliance/cmd/krad", "/bin/krad", Static},
		{module + "console/cmd/console", "/bin/console", Static},
	}
}

// Libraries are the files that programs of the product's image load at run time.
func Libraries() []string { return []string{"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"} }

// A Spec is everything an image is made of.
type Spec struct {
	Source    string // root of the source tree
	Commands  []Command
	Libraries []string // files loaded at run time, such as a PKCS#11 module; their own libraries follow
	Kernel    Kernel
	Health    string       // address where the box serves metrics and health, such as :9443; it listens nowhere when empty
	Baud      int          // speed of the serial line, one of Bauds; 115200 when 0
	State     int64        // bytes of the state partition; StateSize when 0
	FIPS140   string       // Go's cryptographic module, as GOFIPS140 names it: off (or empty), certified, inprocess, or a version
	Domain    label.Domain // whose box it can become: /etc/kra/domain.json
	Firmware  SecureBoot   // the keys of the machine's firmware, for the prediction; no byte of the image depends on them
	Version   string
	Epoch     uint64
	Commit    string

	Out      string            // folder for the artefacts
	Cache    string            // folder for downloaded packages
	Progress func(text string) // called as the work goes on; may be nil
}

// Build makes all artefacts and returns the manifest it wrote beside them.
func Build(s Spec) (manifest.Image, error) {
	if err := s.check(); err != nil {
		return manifest.Image{}, fmt.Errorf("build image: %w", err)
	}
	work, err := os.MkdirTemp("", "mkimage-")
	if err != nil {
		return manifest.Image{}, fmt.Errorf("build image: %w", err)
	}
	defer os.RemoveAll(work)
	m, err := s.build(work)
	if err != nil {
		return manifest.Image{}, fmt.Errorf("build image: %w", err)
	}
	return m, nil
}

func (s Spec) check() error {
	if len(s.Commands) == 0 || s.Commands[0].Path != "/init" {
		return errors.New("the first command must be /init")
	}
	if _, err := label.ParseDomain(s.Domain.Bytes()); err != nil {
		return err
	}
	if s.Kernel.String() == "" {
		return errors.New("no kernel")
	}
	if s.Epoch == 0 {
		return errors.New("no epoch")
	}
	if s.FIPS140 == "latest" { // the toolchain's own: another with each, under one name
		return errors.New("no FIPS 140 module \"latest\": want off, certified, inprocess or a version")
	}
	if s.State != 0 && (s.State < StateSize || s.State > maxStateSize || s.State%mebibyte != 0) {
		return fmt.Errorf("a state partition of %d bytes: want whole MiB, %d to %d", s.State, StateSize/mebibyte, maxStateSize/mebibyte)
	}
	return errors.Join(s.checkBaud(), s.checkHealth())
}

func (s Spec) say(format string, args ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, args...))
	}
}

func (s Spec) build(work string) (manifest.Image, error) {
	if err := os.MkdirAll(s.Out, 0o755); err != nil {
		return manifest.Image{}, err
	}
	s.say("fetch kernel and stub")
	debian, err := fetchDebian(s.Kernel, s.Cache, filepath.Join(work, "debian"))
	if err != nil {
		return manifest.Image{}, err
	}
	programs, err := s.compile(filepath.Join(work, "bin"))
	if err != nil {
		return manifest.Image{}, err
	}
	s.say("pack initramfs")
	ramfs := &ramfs{spec: s, debian: debian, programs: programs, work: work}
	initrd, release, err := ramfs.pack()
	if err != nil {
		return manifest.Image{}, err
	}
	for _, note := range differences(release.Inputs) {
		s.say("%s", note)
	}
	s.say("write unified kernel image and disk")
	uki, err := s.unify(debian, initrd)
	if err != nil {
		return manifest.Image{}, err
	}
	return s.write(release, initrd, uki)
}

// unify joins stub, kernel, command line and initramfs.
func (s Spec) unify(d debian, initrd []byte) ([]byte, error) {
	release := fmt.Sprintf("ID=kra\nNAME=\"Key Release Agent\"\nVERSION_ID=%s\nBUILD_ID=%s\n", s.Version, s.Commit)
	return BuildUKI(d.stub, []Section{
		{sectionRelease, []byte(release)},
		{sectionCmdline, append([]byte(s.commandLine()), 0)},
		{sectionLinux, d.kernel},
		{sectionInitrd, initrd},
	})
}

func (s Spec) write(release manifest.Release, initrd, uki []byte) (manifest.Image, error) {
	m := manifest.Image{Release: release, CommandLine: s.commandLine(), Files: map[string]manifest.File{}, SecureBoot: s.Firmware.Names(), PCR7: s.Firmware.PCR7()}
	var err error
	if m.PCR4, err = s.Firmware.PCR4(uki); err != nil {
		return manifest.Image{}, err
	}
	if m.PCR11, err = PredictPCR11(uki); err != nil {
		return manifest.Image{}, err
	}
	for name, data := range map[string][]byte{FileInitramfs: initrd, FileUKI: uki} {
		if err := os.WriteFile(filepath.Join(s.Out, name), data, 0o644); err != nil {
			return manifest.Image{}, err
		}
		m.Files[name] = manifest.File{Size: int64(len(data)), SHA256: sha256.Sum256(data)}
	}
	return m, finish(s.Out, m, uki, cmp.Or(s.State, StateSize))
}

// finish writes the disk with a UKI, and the manifest, which it completes.
func finish(dir string, m manifest.Image, uki []byte, state int64) error {
	disk := filepath.Join(dir, FileDisk)
	if err := WriteDisk(disk, uki, state); err != nil {
		return err
	}
	var err error
	if m.Files[FileDisk], err = fileOf(disk); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, FileManifest), m.Bytes(), 0o644)
}

// Sign signs the UKI of a built image for the firmware: the signed one lies beside it, on the disk, and in the manifest. What was built
// stays as it is, so that it can be built again by anybody.
func Sign(dir string, by Signer) (manifest.Image, error) {
	m, err := sign(dir, by)
	if err != nil {
		return m, fmt.Errorf("sign image: %w", err)
	}
	return m, nil
}

func sign(dir string, by Signer) (manifest.Image, error) {
	raw, err := os.ReadFile(filepath.Join(dir, FileManifest))
	if err != nil {
		return manifest.Image{}, err
	}
	m, err := manifest.ParseImage(raw)
	if err != nil {
		return m, err
	}
	if by.Certificate == nil || m.SecureBoot.DB != sum256(by.Certificate.Raw) {
		return m, errors.New("the image was built for firmware with another key in db")
	}
	uki, err := os.ReadFile(filepath.Join(dir, FileUKI))
	if err != nil {
		return m, err
	}
	if found, want := sum256(uki), m.Files[FileUKI].SHA256; found != want {
		return m, fmt.Errorf("%s is not what was built: SHA-256 %s, the manifest says %s", FileUKI, found, want)
	}
	state := m.Files[FileDisk].Size - stateOffset - mebibyte
	if state < StateSize || state > maxStateSize {
		return m, fmt.Errorf("%s of %d bytes is no disk of a box", FileDisk, m.Files[FileDisk].Size)
	}
	signed, err := SignUKI(uki, by)
	if err != nil {
		return m, err
	}
	if err := os.WriteFile(filepath.Join(dir, FileSigned), signed, 0o644); err != nil {
		return m, err
	}
	m.Files[FileSigned] = manifest.File{Size: int64(len(signed)), SHA256: sum256(signed)}
	return m, finish(dir, m, signed, state)
}
