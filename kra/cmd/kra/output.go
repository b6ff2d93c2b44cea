package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stdio is the operand that means standard input or output.
const stdio = "-"

// Modes of new files, before the umask. What was decrypted is its owner's only.
const (
	modeBlock = 0o666
	modePlain = 0o600
)

// An output is a file that appears under its name only when it is whole: it is
// written beside it and moved there by commit. Standard output, devices and pipes
// are written directly.
type output struct {
	*os.File
	t     *tool
	temp  string // "" where the file is written directly
	final string
	over  overwrite
	own   bool // File is ours to close
}

type overwrite int

const (
	keepOld overwrite = iota + 1
	replaceOld
)

func (t *tool) create(path string, mode fs.FileMode, over overwrite) (*output, error) {
	if path == stdio {
		widen(t.stdout)
		return &output{File: t.stdout, final: "standard output"}, nil
	}
	if err := writable(path, over); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &output{File: f, final: path, own: true}, err
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".kra-"+rand.Text()[:8])
	f, err := t.begin(temp, mode)
	if err != nil {
		return nil, err
	}
	return &output{File: f, t: t, temp: temp, final: path, over: over, own: true}, nil
}

// writable refuses a name that is taken, unless by a device or pipe.
func writable(path string, over overwrite) error {
	if path == stdio {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case err == nil && info.Mode().IsRegular() && over != replaceOld:
		return hint(fmt.Errorf("%s exists", path), "give -f to replace it, or another name with -o")
	}
	return nil
}

// commit gives the file its name.
func (o *output) commit() error {
	if o.own {
		if err := o.Close(); err != nil {
			return errors.Join(err, o.remove())
		}
	}
	if o.temp == "" {
		return nil
	}
	err := o.t.finish(o.temp, o.name)
	if err != nil {
		return errors.Join(err, o.remove())
	}
	o.temp = ""
	return nil
}

// name moves the file to its name. Without leave to replace, a link refuses what came
// to be there meanwhile; where the file system has no links, the check at the start counts.
func (o *output) name() error {
	if o.over == replaceOld {
		return os.Rename(o.temp, o.final)
	}
	err := os.Link(o.temp, o.final)
	if err == nil {
		return os.Remove(o.temp)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(o.temp, o.final)
}

// discard leaves no file. After commit it does nothing.
func (o *output) discard() error {
	if o.temp == "" {
		return nil
	}
	return errors.Join(o.Close(), o.remove())
}

func (o *output) remove() error {
	if o.temp == "" {
		return nil
	}
	err := o.t.finish(o.temp, func() error { return os.Remove(o.temp) })
	o.temp = ""
	return err
}

// open opens an operand for reading and says how to call it.
func (t *tool) open(path string) (f *os.File, name string, err error) {
	if path == stdio {
		widen(t.stdin)
		return t.stdin, "standard input", nil
	}
	f, err = os.Open(path)
	if err != nil {
		return nil, path, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		_ = f.Close()
		if err == nil {
			err = fmt.Errorf("%s is a directory", path)
		}
		return nil, path, err
	}
	return f, path, nil
}
