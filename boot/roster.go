package boot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
)

// A roster is the files of the image whose code may run, as its manifest lists them. The manifest is in the initramfs, so what it says is
// in PCR 11. Nil: there is no image, and nothing is known of what runs.
type roster struct {
	digests map[string]string // SHA-256 in hexadecimal, by path
	paths   []string          // sorted

	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// readRoster reads the list out of the manifest; without a manifest there is none.
func readRoster(manifest string) (*roster, error) {
	if manifest == "" {
		return nil, nil
	}
	b, err := os.ReadFile(manifest)
	if err != nil {
		return nil, fmt.Errorf("read list of programs: %w", err)
	}
	var m struct {
		Programs []struct {
			Path   string `json:"path"`
			SHA256 string `json:"sha256"`
		} `json:"programs"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read list of programs: %w", err)
	}
	p := &roster{digests: map[string]string{}, seen: map[string]bool{}}
	for _, x := range m.Programs {
		p.digests[x.Path] = x.SHA256
	}
	if len(p.digests) > machine.MaxPrograms {
		return nil, fmt.Errorf("read list of programs: it has %d, limit %d", len(p.digests), machine.MaxPrograms)
	}
	p.paths = slices.Sorted(maps.Keys(p.digests))
	return p, nil
}

// check refuses a program that is not listed, or not as it is listed. A good one is read once: the image in memory is read-only.
func (p *roster) check(path string) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[path] {
		return nil
	}
	if err := p.read(path); err != nil {
		return err
	}
	p.seen[path] = true
	return nil
}

// read refuses a file that is not listed, or not as it is listed.
func (p *roster) read(path string) error {
	want, err := hex.DecodeString(p.digests[path])
	if err != nil || len(want) != sha256.Size {
		return fmt.Errorf("%s is not among the programs that the manifest lists", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("check program: %w", err)
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return fmt.Errorf("%s is not the program that the manifest lists", path)
	}
	return nil
}

// program reads the listed file of that place again, whoever has read it before. It is in memory: this takes as long as its hash.
func (p *roster) program(at int) (machine.Program, error) {
	if p == nil || len(p.paths) == 0 {
		return machine.Program{}, nil
	}
	if at >= len(p.paths) {
		return machine.Program{}, fmt.Errorf("the image lists %d programs", len(p.paths))
	}
	x := machine.Program{Path: p.paths[at], Of: len(p.paths)}
	if err := p.read(x.Path); err != nil {
		x.Fault = err.Error()
	}
	return x, nil
}

// file is a file as the kernel knows it, whatever somebody calls it.
type file struct{ dev, inode uint64 }

func fileAt(path string) (file, error) {
	var s unix.Stat_t
	err := unix.Stat(path, &s)
	return file{s.Dev, s.Ino}, err
}

// running says which listed programs have a process now, and how the processes call what they run that is not listed.
func (p *roster) running(proc string) (listed, strangers []string) {
	if p == nil {
		return nil, nil
	}
	known := map[file]string{}
	for path := range p.digests {
		if f, err := fileAt(path); err == nil {
			known[f] = path
		}
	}
	all, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "task", "[0-9]*", "exe")) // a process outlives its first thread
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, link := range all {
		f, err := fileAt(link)
		switch path, ok := known[f]; {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH): // a kernel thread, or gone
		case err == nil && ok:
			listed = append(listed, path)
		default:
			name, _ := os.Readlink(link)
			strangers = append(strangers, fmt.Sprintf("%s: %q", strings.Split(strings.TrimPrefix(link, proc), "/")[1], name))
		}
	}
	slices.Sort(listed)
	slices.Sort(strangers)
	return slices.Compact(listed), slices.Compact(strangers)
}
