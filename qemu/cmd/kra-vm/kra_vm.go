// Command kra-vm runs a box in QEMU with its console on this terminal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/qemu"
)

const (
	releasePort = 8443
	quitKey     = 0x1d // Ctrl-]
	forever     = 1000 * time.Hour
)

func main() {
	dist := flag.String("dist", "dist", "`folder` with kra.img; the box lives in its folder \"run\"")
	domain := flag.String("domain", "dist/domain", "`folder` of the domain whose Secure Boot keys a new box gets")
	port := flag.Int("port", releasePort, "`port` of this host for the box's release port")
	fresh := flag.Bool("new", false, "throw the box away and begin with a new one")
	flag.Parse()
	if err := run(*dist, *domain, *port, *fresh, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "kra-vm:", err)
		os.Exit(1)
	}
}

func run(dist, domain string, port int, fresh bool, rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	box, err := open(dist, domain, fresh)
	if err != nil {
		return err
	}
	host, err := qemu.Probe(context.Background())
	if err != nil {
		return err
	}
	m, err := host.Start(qemu.Config{Box: box, Forward: []int{releasePort}, Port: port})
	if err != nil {
		return err
	}
	defer m.Cut()
	fmt.Printf("Box running under %s. Console below; release port https://%s. Ctrl-] cuts the power.\n", host.Accelerator(), m.Addr(releasePort))
	return converse(m)
}

// open takes up the box of the last run, with its state, unless a new one is wanted.
func open(dist, domain string, fresh bool) (qemu.Box, error) {
	dir, disk := filepath.Join(dist, "run"), filepath.Join(dist, "kra.img")
	if !fresh {
		if box, err := qemu.OpenBox(dir); err == nil {
			fmt.Printf("Taking up the box in %s (-new begins anew).\n", dir)
			return box, nil
		}
	}
	if _, err := os.Stat(disk); errors.Is(err, fs.ErrNotExist) { // before anything is thrown away
		return qemu.Box{}, fmt.Errorf("%w; run 'make image' first", err)
	}
	keys, err := image.ReadSecureBoot(domain)
	if err != nil {
		return qemu.Box{}, err
	}
	if fresh {
		if err := os.RemoveAll(dir); err != nil {
			return qemu.Box{}, err
		}
	}
	return qemu.NewBox(dir, disk, keys)
}

// converse joins terminal and serial line until the box powers off or the quit key is typed.
func converse(m *qemu.Machine) error {
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		old, err := term.MakeRaw(in)
		if err != nil {
			return err
		}
		defer term.Restore(in, old)
	}
	quit := make(chan error, 2)
	go func() { quit <- typed(m, os.Stdin) }()
	go func() { _, err := io.Copy(os.Stdout, m); quit <- err }()
	off := make(chan error, 1)
	go func() { off <- m.Wait(forever) }()
	select {
	case err := <-off:
		return err
	case err := <-quit:
		return err
	}
}

// typed passes keys on until the quit key. The end of the input leaves the box running.
func typed(w io.Writer, keys io.Reader) error {
	buffer := make([]byte, 256)
	for {
		n, err := keys.Read(buffer)
		for i, key := range buffer[:n] {
			if key == quitKey {
				return nil
			}
			if _, err := w.Write(buffer[i : i+1]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			select {} // the other side ends the conversation
		}
		if err != nil {
			return err
		}
	}
}
