package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "embed"

	"github.com/keyrelease/krabox/image/manifest"
)

// The Debian packages that are taken apart, not installed.
const (
	stubPackage = "systemd-boot-efi"
	stubFile    = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
)

// pins are the inputs of the last build that was tried and committed. Debian
// keeps only its last versions for download, so a pin is a wish: what is not to
// be had any more is replaced by what is, and the difference is reported.
//
//go:embed inputs.json
var pins []byte

// debian is what the image takes from Debian packages.
type debian struct {
	release string // of the kernel, such as "6.1.0-56-cloud-amd64"
	kernel  []byte
	stub    []byte
	modules string // folder with the kernel's modules
	inputs  []manifest.Input
}

// fetchDebian brings kernel and stub. Old package lists name versions that are
// gone; root may refresh them.
func fetchDebian(k Kernel, cache, work string) (debian, error) {
	d, err := tryDebian(k, cache, work)
	if err == nil || os.Geteuid() != 0 {
		return d, err
	}
	if _, e := tool("apt-get", "update", "-qq"); e != nil {
		return debian{}, errors.Join(err, e)
	}
	return tryDebian(k, cache, work)
}

func tryDebian(k Kernel, cache, work string) (debian, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return debian{}, err
	}
	kernel, err := kernelPackage(k, cache)
	if err != nil {
		return debian{}, err
	}
	d := debian{release: strings.TrimPrefix(kernel, "linux-image-")}
	for _, name := range []string{kernel, stubPackage} {
		in, err := fetch(cache, work, name)
		if err != nil {
			return debian{}, err
		}
		d.inputs = append(d.inputs, in)
	}
	if d.kernel, err = os.ReadFile(filepath.Join(work, "boot/vmlinuz-"+d.release)); err != nil {
		return debian{}, err
	}
	if d.stub, err = os.ReadFile(filepath.Join(work, stubFile)); err != nil {
		return debian{}, err
	}
	d.modules = filepath.Join(work, "lib/modules", d.release)
	return d, nil
}

// kernelPackage is the pinned kernel while it is to be had, else what Debian's meta package names today.
func kernelPackage(k Kernel, cache string) (string, error) {
	for name, pin := range pinned() {
		if !k.is(name) {
			continue
		}
		if _, err := candidate(name); err == nil || exists(cached(cache, name, pin.Version)) {
			return name, nil
		}
	}
	out, err := tool("apt-cache", "depends", k.meta())
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", fmt.Errorf("apt knows no %s; run: apt-get update", k.meta())
}

func pinned() map[string]manifest.Input {
	var list []manifest.Input
	if err := json.Unmarshal(pins, &list); err != nil {
		panic("inputs.json: " + err.Error())
	}
	m := map[string]manifest.Input{}
	for _, in := range list {
		m[in.Package] = in
	}
	return m
}

// differences says in what the inputs are not those that are pinned.
func differences(inputs []manifest.Input) []string {
	var notes []string
	pins := pinned()
	for _, in := range inputs {
		if pin, ok := pins[in.Package]; ok && pin != in {
			notes = append(notes, fmt.Sprintf("note: %s is %s here, the committed inputs have %s", in.Package, in.Version, pin.Version))
		} else if !ok {
			notes = append(notes, fmt.Sprintf("note: %s %s is not among the committed inputs", in.Package, in.Version))
		}
	}
	return notes
}

// fetch brings one package into the cache, checks it and unpacks it.
func fetch(cache, work, name string) (manifest.Input, error) {
	want, err := locate(cache, name)
	if err != nil {
		return manifest.Input{}, err
	}
	file := cached(cache, name, want.Version)
	sum, err := fileOf(file)
	if err != nil {
		return manifest.Input{}, err
	}
	if sum.SHA256 != want.SHA256 {
		return manifest.Input{}, fmt.Errorf("%s is damaged: SHA-256 %s, want %s; remove it", file, sum.SHA256, want.SHA256)
	}
	if _, err := tool("dpkg-deb", "-x", file, work); err != nil {
		return manifest.Input{}, err
	}
	return want, nil
}

// locate sees to it that a package is in the cache: the pinned version if it can be had, else apt's.
func locate(cache, name string) (manifest.Input, error) {
	if pin, ok := pinned()[name]; ok {
		if exists(cached(cache, name, pin.Version)) || download(cache, name+"="+pin.Version) == nil {
			return pin, nil
		}
	}
	found, err := candidate(name)
	if err != nil || exists(cached(cache, name, found.Version)) {
		return found, err
	}
	return found, download(cache, name+"="+found.Version)
}

// candidate is the version that apt would download, with the hash from its signed list.
func candidate(name string) (manifest.Input, error) {
	out, err := tool("apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return manifest.Input{}, err
	}
	in := manifest.Input{Package: name}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Version":
			in.Version = value
		case "SHA256":
			if err := in.SHA256.UnmarshalText([]byte(value)); err != nil {
				return manifest.Input{}, err
			}
		}
	}
	if in.Version == "" || in.SHA256 == (manifest.Digest{}) {
		return manifest.Input{}, fmt.Errorf("apt knows no version of %s; run: apt-get update", name)
	}
	return in, nil
}

// cached is the name apt-get gives a downloaded package: a colon in the version is escaped.
func cached(cache, name, version string) string {
	return filepath.Join(cache, name+"_"+strings.ReplaceAll(version, ":", "%3a")+"_amd64.deb")
}

func download(cache, what string) error {
	cmd := exec.Command("apt-get", "download", "-q", what)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", what, err, bytes.TrimSpace(out))
	}
	return nil
}

func tool(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(toolPath(name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func fileOf(path string) (manifest.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return manifest.File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return manifest.File{}, err
	}
	return manifest.File{Size: n, SHA256: manifest.Digest(h.Sum(nil))}, nil
}
