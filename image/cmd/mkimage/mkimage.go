// Command mkimage builds the image of a box: initramfs, unified kernel image, disk and manifest.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/manifest"
	"github.com/keyrelease/krabox/kra/label"
)

func main() {
	var s image.Spec
	domain := flag.String("domain", "dist/domain", "`folder` with the domain's public part, domain.json")
	flag.StringVar(&s.Out, "out", "dist", "`folder` for the artefacts")
	flag.StringVar(&s.Source, "source", ".", "`folder` of the source tree")
	flag.TextVar(&s.Kernel, "kernel", image.Cloud, "Debian's `kernel`: cloud, of virtual machines, or full, of servers")
	flag.StringVar(&s.Health, "health", "", "`address` where the box serves metrics and health in clear, such as :9443; nowhere if empty")
	flag.IntVar(&s.Baud, "baud", 115200, "`speed` of the serial line: 9600, 19200, 38400, 57600 or 115200")
	size := flag.Int64("state", image.StateSize>>20, "`MiB` of the state partition: keys, rules and the log")
	flag.StringVar(&s.FIPS140, "fips140", "off", "Go's cryptographic `module`, as GOFIPS140 names it: off, certified, inprocess or a version")
	flag.StringVar(&s.Version, "version", "v0.1.0", "release `name`")
	flag.Uint64Var(&s.Epoch, "epoch", 1, "release `number`: after an upgrade is confirmed, lower ones open nothing")
	flag.StringVar(&s.Commit, "commit", "unknown", "`stamp` of the source tree")
	flag.StringVar(&s.Cache, "cache", "", "`folder` for downloaded packages; \"cache\" in -out if empty")
	off := flag.Bool("no-secure-boot", false, "predict for firmware without Secure Boot; else the domain's folder has its keys' certificates")
	flag.Parse()
	s.State = *size << 20
	if err := run(s, *domain, *off, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(s image.Spec, folder string, off bool, rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if s.Baud == 0 { // which is no speed, though a Spec without one has the usual
		return errors.New("no serial line of 0 baud")
	}
	data, err := os.ReadFile(filepath.Join(folder, "domain.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; run 'make domain' or 'domain init DIR'", err)
	}
	if err != nil {
		return err
	}
	if s.Domain, err = label.ParseDomain(data); err != nil {
		return err
	}
	if !off {
		if s.Firmware, err = image.ReadSecureBoot(folder); err != nil {
			return err
		}
	}
	s.Commands = image.Commands()
	s.Libraries = image.Libraries()
	s.Cache = cmp.Or(s.Cache, filepath.Join(s.Out, "cache"))
	s.Progress = func(text string) { fmt.Println("  " + text) }
	m, err := image.Build(s)
	if err != nil {
		return err
	}
	print(m)
	return nil
}

func print(m manifest.Image) {
	fmt.Printf("image %s (epoch %d, commit %s) for domain %s\n", m.Version, m.Epoch, m.Commit, m.Domain.Name)
	for _, name := range []string{image.FileInitramfs, image.FileUKI, image.FileDisk} {
		f := m.Files[name]
		fmt.Printf("  %-13s %6.1f MiB  sha256 %s\n", name, float64(f.Size)/(1<<20), f.SHA256)
	}
	fmt.Printf("  predicted PCR 4   %s\n  predicted PCR 7   %s\n  predicted PCR 11  %s\n", m.PCR4, m.PCR7, m.PCR11)
}
