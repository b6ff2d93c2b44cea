package image

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/mkuimage/uimage/initramfs"
	"github.com/u-root/uio/llog"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/image/manifest"
)

// Files of the image that its programs read.
const (
	PathDomain   = "/etc/kra/domain.json"
	PathManifest = "/etc/kra/manifest.json"
	// PathModules lists the kernel modules, one a line, in the order to load them: an absolute path, and then for a driver the PCI devices or processors
	// that it is loaded for, as the kernel's patterns.
	PathModules = "/etc/kra/modules"
)

// zstdWindow spans several programs, which share the Go runtime: a fifth smaller
// than with 4 MiB. The kernel accepts up to 128 MiB and allocates it while it unpacks.
const zstdWindow = 16 << 20

// A ramfs is the root file system in the making.
type ramfs struct {
	spec     Spec
	debian   debian
	programs map[string]string // path in the image -> host file
	work     string
}

// pack returns the compressed archive and the release manifest inside it.
func (r *ramfs) pack() ([]byte, manifest.Release, error) {
	archive, err := r.collect()
	if err != nil {
		return nil, manifest.Release{}, err
	}
	if err := checkLibraries(archive); err != nil {
		return nil, manifest.Release{}, err
	}
	release, err := r.release(archive)
	if err != nil {
		return nil, manifest.Release{}, err
	}
	if err := archive.WriteRecord(cpio.StaticFile(PathManifest[1:], string(release.Bytes()), 0o644)); err != nil {
		return nil, manifest.Release{}, err
	}
	raw, err := encodeArchive(archive)
	if err != nil {
		return nil, manifest.Release{}, err
	}
	packed, err := compress(raw)
	return packed, release, err
}

// collect lets u-root's image library gather files, their libraries and their folders.
func (r *ramfs) collect() (*cpio.Archive, error) {
	modules, err := r.spec.Kernel.modules(r.debian.modules)
	if err != nil {
		return nil, err
	}
	var files []string
	for path, host := range r.programs {
		files = append(files, host+":"+path[1:])
	}
	for _, lib := range r.spec.Libraries {
		real, err := filepath.EvalSymlinks(lib)
		if err != nil {
			return nil, fmt.Errorf("library: %w", err)
		}
		files = append(files, real+":"+real[1:])
	}
	var order strings.Builder
	if err := r.tellFirmware(modules); err != nil {
		return nil, err
	}
	folder := "/lib/modules/" + r.debian.release
	for _, m := range modules {
		files = append(files, filepath.Join(r.debian.modules, m.path)+":"+folder[1:]+"/"+m.path)
		order.WriteString(m.line(folder))
	}
	base, err := cpio.ArchiveFromRecords(baseRecords(r.spec.Domain.Bytes(), order.String()))
	if err != nil {
		return nil, err
	}
	memory := &initramfs.Archive{Archive: cpio.InMemArchive()}
	err = uimage.Create(llog.Default(), uimage.WithTempDir(r.work), uimage.WithBaseArchive(base),
		uimage.WithFiles(files...), uimage.WithOutput(memory))
	if err != nil {
		return nil, fmt.Errorf("collect files: %w", err)
	}
	return memory.Archive, nil
}

// tellFirmware says what drivers ask for that the image does not have: Debian has it in non-free-firmware, if at all. Each of them does
// without, with some of its devices or functions.
func (r *ramfs) tellFirmware(modules []module) error {
	s, err := findModules(r.debian.modules)
	if err != nil {
		return err
	}
	for _, m := range modules {
		files, err := s.info(moduleName(m.path), "firmware")
		if err != nil {
			return err
		}
		if len(files) > 0 {
			slices.Sort(files)
			r.spec.say("%s is without its firmware: %s", moduleName(m.path), strings.Join(files, ", "))
		}
	}
	return nil
}

// baseRecords replace the library's own: those carry a public name server and /dev/port.
func baseRecords(domain []byte, modules string) []cpio.Record {
	return []cpio.Record{
		cpio.Directory("bin", 0o755), cpio.Directory("dev", 0o755), cpio.Directory("etc", 0o755), cpio.Directory("etc/kra", 0o755),
		cpio.Directory("proc", 0o555), cpio.Directory("run", 0o755), cpio.Directory("state", 0o755),
		cpio.Directory("sys", 0o555), cpio.Directory("tmp", 0o1777),
		cpio.CharDev("dev/console", 0o600, 5, 1), cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.StaticFile(PathDomain[1:], string(domain), 0o644),
		cpio.StaticFile(PathModules[1:], modules, 0o644),
	}
}

// release describes what was collected.
func (r *ramfs) release(archive *cpio.Archive) (manifest.Release, error) {
	inputs, err := r.spec.hostInputs(archive)
	if err != nil {
		return manifest.Release{}, err
	}
	inputs = append(inputs, r.debian.inputs...)
	slices.SortFunc(inputs, func(a, b manifest.Input) int { return strings.Compare(a.Package, b.Package) })
	release := manifest.Release{
		Version: r.spec.Version, Epoch: r.spec.Epoch, Commit: r.spec.Commit,
		Domain: manifest.Domain{Name: r.spec.Domain.Name, SHA256: manifest.Digest(r.spec.Domain.Hash())},
		Inputs: inputs,
	}
	if release.Programs, err = programs(archive); err != nil {
		return manifest.Release{}, err
	}
	_, err = manifest.ParseRelease(release.Bytes())
	return release, err
}

// encodeArchive writes the archive in sorted order with the modes it should
// have: the library lets the builder's umask through, and gives the root folder
// the 0700 of its temporary folder, which would lock every other user out of "/".
func encodeArchive(a *cpio.Archive) ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	records := []cpio.Record{cpio.Directory(".", 0o755)}
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		if name != "." && name != cpio.Trailer {
			records = append(records, normal(a.Files[name]))
		}
	}
	for _, record := range records {
		if err := w.WriteRecord(cpio.MakeReproducible(record)); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return out.Bytes(), nil
}

func normal(r cpio.Record) cpio.Record {
	switch r.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if r.Name != "proc" && r.Name != "sys" && r.Name != "tmp" {
			r.Mode = unix.S_IFDIR | 0o755
		}
	case unix.S_IFREG:
		if r.Mode&0o100 != 0 {
			r.Mode = unix.S_IFREG | 0o755
		} else {
			r.Mode = unix.S_IFREG | 0o644
		}
	}
	return r
}

// compress is deterministic: one goroutine, one level, one window.
func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return out.Bytes(), nil
}
