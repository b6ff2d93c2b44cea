// Package compartment confines a daemon: process 1 writes a Policy as the command line of stage1, stage1 enters it and then becomes
// the daemon.
//
// The confinement is done by a small static program before execve because landlock's domain, the empty capability sets and
// no_new_privs survive it: cgo programs need no thread tricks, and a daemon cannot forget a step.
package compartment

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
)

// Kind says how much of a compartment the host can give.
type Kind uint8

const (
	// Sealed is the appliance's: own user, namespaces, landlock. Stage1 starts as root in fresh namespaces.
	Sealed Kind = iota + 1
	// Open is for a daemon on an ordinary host, started by whoever runs the supervisor: no privileges to gain, no core dump.
	Open
)

var kinds = [...]string{Sealed: "sealed", Open: "open"}

// A Policy is what one daemon may touch. Paths are absolute; those that are missing stop the start.
type Policy struct {
	Kind      Kind
	UID, GID  int      // of a sealed compartment; never 0
	Read      []string // files, and folders with all below them
	Write     []string // the same, to write, make and remove in
	OpenFiles int      // RLIMIT_NOFILE
	Program   string
	Args      []string
}

// Limits of a policy.
const (
	maxID        = 1 << 16
	maxOpenFiles = 1 << 20
)

// Command is the policy as arguments for stage1, without its name.
func (p Policy) Command() []string {
	a := []string{"-kind", kinds[p.Kind], "-uid", strconv.Itoa(p.UID), "-gid", strconv.Itoa(p.GID), "-files", strconv.Itoa(p.OpenFiles)}
	for _, f := range p.Read {
		a = append(a, "-ro", f)
	}
	for _, f := range p.Write {
		a = append(a, "-rw", f)
	}
	return append(append(a, "--", p.Program), p.Args...)
}

// Parse reads what Command wrote.
func Parse(args []string) (Policy, error) {
	var p Policy
	f := flag.NewFlagSet("stage1", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("kind", "sealed or open", func(s string) error {
		for k, name := range kinds {
			if name == s && name != "" {
				p.Kind = Kind(k)
				return nil
			}
		}
		return errors.New("unknown kind")
	})
	f.IntVar(&p.UID, "uid", 0, "user")
	f.IntVar(&p.GID, "gid", 0, "group")
	f.IntVar(&p.OpenFiles, "files", 0, "most open files")
	f.Func("ro", "path to read", func(s string) error { p.Read = append(p.Read, s); return nil })
	f.Func("rw", "path to write", func(s string) error { p.Write = append(p.Write, s); return nil })
	if err := f.Parse(args); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
	}
	if f.NArg() == 0 {
		return Policy{}, errors.New("parse policy: no program")
	}
	p.Program, p.Args = f.Arg(0), f.Args()[1:]
	if err := p.check(); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
	}
	return p, nil
}

func (p Policy) check() error {
	if p.Kind != Sealed && p.Kind != Open {
		return errors.New("kind is not set")
	}
	if p.OpenFiles < 1 || p.OpenFiles > maxOpenFiles {
		return fmt.Errorf("%d open files, want 1 to %d", p.OpenFiles, maxOpenFiles)
	}
	paths := append(append([]string{p.Program}, p.Read...), p.Write...)
	for _, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return fmt.Errorf("path %q is not absolute and clean", path)
		}
	}
	if p.Kind == Sealed && (p.UID < 1 || p.UID >= maxID || p.GID < 1 || p.GID >= maxID) {
		return fmt.Errorf("user %d and group %d, want 1 to %d", p.UID, p.GID, maxID-1)
	}
	return nil
}
