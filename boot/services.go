package boot

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/outbound"
)

// BUG(boot): the sockets of the release port, which krad holds, are in the machine's network. A krad in the wrong hands may turn one
// by connect with AF_UNSPEC and connect it elsewhere, past outboundd. Linux 6.7 has what forbids it (landlock's rules for TCP); the
// image has 6.1. There is nobody on the box's loopback, which is down.

// The users of the compartments. A group has the number of its only user.
const (
	uidTPMD     = 1001
	uidHSMD     = 1002
	uidKRAD     = 1003
	uidConsole  = 1004
	uidOutbound = 1005
)

// Open files that a daemon may have.
const (
	fewFiles  = 256
	someFiles = 1 << 12 // outboundd: two per connection, of which it has a thousand
	manyFiles = 1 << 16 // krad: one per connection
)

// libraries are what a dynamically linked daemon reads before its first line.
var libraries = [...]string{"/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache", "/dev/urandom"}

// compartmentOf is what all daemons have in common.
func (b *box) compartmentOf(program string, uid, files int) compartment.Policy {
	p := compartment.Policy{Kind: b.o.Kind, UID: uid, GID: uid, OpenFiles: files, Program: filepath.Join(b.o.BinDir, program)}
	if p.Kind == compartment.Open {
		p.UID, p.GID = os.Getuid(), os.Getgid()
	}
	return p
}

// tpmdSpec: the only one that sees the TPM.
func (b *box) tpmdSpec() spec {
	p := b.compartmentOf("tpmd", uidTPMD, fewFiles)
	p.Read = []string{b.o.Domain}
	p.Write = []string{b.stateDir("tpm"), "/dev/urandom"}
	p.Args = []string{"-device", b.o.TPM, "-state", b.stateDir("tpm"), "-domain", b.o.Domain}
	if filepath.IsAbs(b.o.TPM) {
		p.Write = append(p.Write, b.o.TPM)
	}
	if b.o.EventLog != "" {
		p.Read = append(p.Read, b.o.EventLog)
	}
	p.Args = append(p.Args, "-eventlog", b.o.EventLog)
	if b.o.Model != "" {
		p.Args = append(p.Args, "-model", b.o.Model)
	}
	if b.o.Serial != "" {
		p.Args = append(p.Args, "-serial", b.o.Serial)
	}
	b.addManifest(&p)
	return spec{name: "tpmd", confine: p, watched: true, gives: b.forTPMD}
}

// hsmdSpec: the only one that loads the PKCS#11 library.
func (b *box) hsmdSpec() spec {
	p := b.compartmentOf("hsmd", uidHSMD, fewFiles)
	p.Read = append(present(libraries[:]...), b.o.Module, b.o.Domain)
	p.Write = []string{b.tokensDir()}
	p.Args = []string{"-module", b.o.Module, "-tokens", b.tokensDir(), "-label", "kra", "-domain", b.o.Domain, "-box", b.name}
	return spec{name: "hsmd", confine: p, watched: true, gives: b.forHSMD}
}

func (b *box) kradSpec() spec {
	mode, reason := b.Mode()
	p := b.compartmentOf("krad", uidKRAD, manyFiles)
	p.Read = []string{b.o.Domain}
	p.Write = []string{b.stateDir("krad")}
	p.Args = []string{"-mode", mode}
	if reason != "" {
		p.Args = append(p.Args, "-reason", reason)
	}
	p.Args = append(p.Args, "-state", b.stateDir("krad"), "-tpm", b.socket("tpm"), "-hsm", b.socket("hsm"), "-domain", b.o.Domain)
	if b.hasNetwork() {
		p.Args = append(p.Args, "-outbound", b.socket(outbound.Listener))
	}
	b.addManifest(&p)
	return spec{name: "krad", confine: p, watched: true, gives: b.forKRAD}
}

// outboundSpec: the only one besides process 1 that has the machine's network, and nothing else.
func (b *box) outboundSpec() spec {
	p := b.compartmentOf("outboundd", uidOutbound, someFiles)
	p.Read = []string{namesDir(b.o.Run)}
	p.Args = []string{"-names", namesDir(b.o.Run)}
	return spec{name: "outboundd", confine: p, shares: unix.CLONE_NEWNET, watched: true, gives: b.forOutbound}
}

// hasNetwork says whether the network is the box's own, and krad asks outboundd for connections. Elsewhere it has the host's.
func (b *box) hasNetwork() bool { return b.o.Hardware != nil }

// addManifest lets a daemon say what it runs in. Without a manifest its default path must not be taken: the path of this product's
// own image may exist on a host.
func (b *box) addManifest(p *compartment.Policy) {
	path := filepath.Join(b.o.Run, "no-manifest") // nobody makes it
	if b.o.Manifest != "" {
		path = b.o.Manifest
		p.Read = append(p.Read, path)
	}
	p.Args = append(p.Args, "-manifest", path)
}

// consoleSpec: it waits for a person, so nobody watches it.
func (b *box) consoleSpec() spec {
	p := b.compartmentOf("console", uidConsole, fewFiles)
	p.Write = []string{b.o.TTY}
	p.Args = []string{"-admin", b.socket("admin"), "-tty", b.o.TTY}
	if b.o.Baud != 0 {
		p.Args = append(p.Args, "-baud", strconv.Itoa(b.o.Baud))
	}
	return spec{name: "console", confine: p, gives: func() (*gift, error) { return &gift{}, nil }}
}

// present leaves out paths that this system does not have.
func present(paths ...string) []string {
	var have []string
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			have = append(have, path)
		}
	}
	return have
}

func (b *box) socket(name string) string   { return filepath.Join(b.o.Run, name+".sock") }
func (b *box) stateDir(name string) string { return filepath.Join(b.o.State, name) }
func (b *box) tokensDir() string           { return filepath.Join(b.o.Run, "tokens") }

// namesDir is where outboundd finds which name servers to ask.
func namesDir(run string) string { return filepath.Join(run, "names") }
