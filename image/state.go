package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// ReadStateFile returns a file of the state partition of a stopped disk, by its path on the box below /state.
func ReadStateFile(disk, path string) ([]byte, error) {
	fs, err := openState(disk)
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "file")
	if err := fs.do("dump", path, out); err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("read state file %s: %w", path, err)
	}
	return data, nil
}

// WriteStateFile replaces the contents of a file of the state partition of a
// stopped disk; its owner and mode stay. It is for attacks and repair.
func WriteStateFile(disk, path string, data []byte) error {
	fs, err := openState(disk)
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	defer os.RemoveAll(dir)
	in := filepath.Join(dir, "file")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := fs.replace(path, in); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// ListState returns the names in a folder of the state partition of a stopped disk.
func ListState(disk, path string) ([]string, error) {
	fs, err := openState(disk)
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	out, err := fs.ask("ls", "-p", path)
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	var names []string
	for line := range strings.Lines(out) { // /inode/mode/uid/gid/name/size/
		if f := strings.Split(line, "/"); len(f) > 6 && f[5] != "." && f[5] != ".." {
			names = append(names, f[5])
		}
	}
	return names, nil
}

// A stateFS is the ext4 file system inside a disk image, reached by e2fsprogs without mounting it.
type stateFS struct{ device string }

func openState(disk string) (stateFS, error) {
	f, err := os.Open(disk)
	if err != nil {
		return stateFS{}, err
	}
	defer f.Close()
	p, err := FindPartition(f, PartitionState)
	if err != nil {
		return stateFS{}, err
	}
	if err := replay(disk); err != nil {
		return stateFS{}, err
	}
	return stateFS{fmt.Sprintf("%s?offset=%d", disk, p.Offset)}, nil
}

// replay brings the journal of a box whose power was cut into the file system,
// as its next boot would. It works on a copy: e2fsck forgets the offset when it
// opens the device again after the journal.
func replay(disk string) error {
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "state.img")
	if err := CopyPartition(disk, PartitionState, copied); err != nil {
		return err
	}
	out, err := exec.Command(toolPath("e2fsck"), "-p", copied).CombinedOutput()
	var exit *exec.ExitError
	corrected := errors.As(err, &exit) && exit.ExitCode() == 1
	if err != nil && !corrected {
		return fmt.Errorf("e2fsck: %w: %s", err, bytes.TrimSpace(out))
	}
	return RestorePartition(disk, PartitionState, copied)
}

var fileStat = regexp.MustCompile(`(?s)Mode:\s+(\d+).*User:\s+(\d+)\s+Group:\s+(\d+)`)

func (s stateFS) replace(path, in string) error {
	stat, err := s.ask("stat", path)
	if err != nil {
		return err
	}
	old := fileStat.FindStringSubmatch(stat)
	if old == nil {
		return fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	for _, args := range [][]string{
		{"rm", path}, {"write", in, path},
		{"sif", path, "mode", "010" + old[1]}, {"sif", path, "uid", old[2]}, {"sif", path, "gid", old[3]},
	} {
		if err := s.do(args...); err != nil {
			return err
		}
	}
	return nil
}

func (s stateFS) do(args ...string) error {
	_, err := s.ask(args...)
	return err
}

// ask runs one debugfs request. debugfs reports failure only in words.
func (s stateFS) ask(args ...string) (string, error) {
	var errs bytes.Buffer
	cmd := exec.Command(toolPath("debugfs"), "-w", "-R", strings.Join(args, " "), s.device)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	said := strings.TrimSpace(regexp.MustCompile(`(?m)^debugfs [0-9].*$`).ReplaceAllString(errs.String(), ""))
	if err != nil || said != "" {
		return "", fmt.Errorf("debugfs %s: %w: %s", args[0], errors.Join(err, os.ErrInvalid), said)
	}
	return string(out), nil
}
