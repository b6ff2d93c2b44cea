package image

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/image/manifest"
)

// checkLibraries fails unless every ELF file finds its libraries in the archive: the collector only warns.
func checkLibraries(a *cpio.Archive) error {
	present := map[string]bool{}
	for name := range a.Files {
		present[path.Base(name)] = true
	}
	for name, record := range a.Files {
		f, err := openELF(record)
		if err != nil || f == nil {
			continue // not an ELF file
		}
		libs, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("check %s: %w", name, err)
		}
		for _, lib := range libs {
			if !present[lib] {
				return fmt.Errorf("check %s: the image lacks %s", name, lib)
			}
		}
	}
	return nil
}

// programs lists all files whose code can run: a program, a library, a kernel module. None is missed, for the kernel takes nothing else
// than ELF and scripts, and a script needs an interpreter.
func programs(a *cpio.Archive) ([]manifest.Program, error) {
	var all []manifest.Program
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		f, err := openELF(a.Files[name])
		if err != nil || f == nil {
			continue // not an ELF file
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(a.Files[name], 0, int64(a.Files[name].FileSize))); err != nil {
			return nil, fmt.Errorf("list programs: %w", err)
		}
		all = append(all, manifest.Program{Path: path.Join("/", name), SHA256: manifest.Digest(h.Sum(nil))})
	}
	return all, nil
}

func openELF(r cpio.Record) (*elf.File, error) {
	if r.Mode&unix.S_IFMT != unix.S_IFREG || r.ReaderAt == nil {
		return nil, nil
	}
	return elf.NewFile(r.ReaderAt)
}

// hostInputs names what came from the building host: libraries by Debian package, and the compilers.
func (s Spec) hostInputs(a *cpio.Archive) ([]manifest.Input, error) {
	files := map[string][]string{} // package -> files in the image
	for _, name := range slices.Sorted(slices.Values(a.Order)) {
		if !strings.Contains(name, ".so") || a.Files[name].Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		owner, err := debianOwner("/" + name)
		if err != nil {
			return nil, err
		}
		files[owner] = append(files[owner], name)
	}
	var inputs []manifest.Input
	for owner, names := range files {
		in, err := packageInput(a, owner, names)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, in)
	}
	compilers, err := s.compilers()
	if err != nil {
		return nil, err
	}
	inputs = append(inputs, compilers...)
	module, err := cryptographicModule(a.Files["init"])
	return append(inputs, module...), err
}

// cryptographicModule is Go's FIPS 140 module that the programs were built with, if they were: what the first of them says of itself.
func cryptographicModule(init cpio.Record) ([]manifest.Input, error) {
	built, err := buildinfo.Read(init)
	if err != nil {
		return nil, fmt.Errorf("find FIPS 140 module: %w", err)
	}
	at := slices.IndexFunc(built.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOFIPS140" })
	if at < 0 {
		return nil, nil
	}
	version := built.Settings[at].Value
	root, err := tool("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(root)), "lib", "fips140", version+".zip"))
	if err != nil {
		return nil, fmt.Errorf("find FIPS 140 module: %w", err)
	}
	return []manifest.Input{{Package: "go-fips140", Version: version, SHA256: sum256(data)}}, nil
}

func packageInput(a *cpio.Archive, owner string, names []string) (manifest.Input, error) {
	version, err := tool("dpkg-query", "-W", "-f", "${Version}", owner)
	if err != nil {
		return manifest.Input{}, err
	}
	h := sha256.New()
	for _, name := range names {
		r := a.Files[name]
		if _, err := io.Copy(h, io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize))); err != nil {
			return manifest.Input{}, fmt.Errorf("hash %s: %w", name, err)
		}
	}
	return manifest.Input{Package: owner, Version: string(version), SHA256: manifest.Digest(h.Sum(nil))}, nil
}

// debianOwner returns the package a library belongs to. /lib is a link to
// /usr/lib; which of the two names dpkg knows depends on the package.
func debianOwner(file string) (string, error) {
	for _, try := range []string{file, "/usr" + file, strings.TrimPrefix(file, "/usr")} {
		if out, err := tool("dpkg-query", "-S", try); err == nil {
			owner, _, _ := strings.Cut(string(out), ":")
			return owner, nil
		}
	}
	return "", fmt.Errorf("%s belongs to no Debian package", file)
}

func (s Spec) compilers() ([]manifest.Input, error) {
	version, err := tool("go", "env", "GOVERSION", "GOTOOLDIR")
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(version))
	if len(fields) != 2 {
		return nil, fmt.Errorf("go env answered %q", version)
	}
	found := []manifest.Input{{Package: "go", Version: fields[0]}}
	programs := []string{filepath.Join(fields[1], "compile")}
	if slices.ContainsFunc(s.Commands, func(c Command) bool { return c.Link == Dynamic }) {
		gcc, err := tool("gcc", "-dumpfullversion")
		if err != nil {
			return nil, err
		}
		cc1, err := tool("gcc", "-print-prog-name=cc1")
		if err != nil {
			return nil, err
		}
		found = append(found, manifest.Input{Package: "gcc", Version: string(bytes.TrimSpace(gcc))})
		programs = append(programs, string(bytes.TrimSpace(cc1)))
	}
	for i, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		found[i].SHA256 = sum256(data)
	}
	return found, nil
}
