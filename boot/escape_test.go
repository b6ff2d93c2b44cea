package boot

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/outbound"
)

// targets is what testdata/probe is told to try.
type targets struct {
	Read, List, Write, Unix []string
	Mount, TCP              string
	Process, Shared         int
}

// prison is a box with a probe in a daemon's place.
type prison struct {
	*box
	targets
	root string
}

// newPrison lays out what a box has, and things that only one layer of the compartment keeps from a daemon.
func newPrison(t *testing.T, kind compartment.Kind, uid int) *prison {
	t.Helper()
	readSources(t)
	root := worldFolder(t)
	o := Options{Kind: kind, Run: root + "/run", State: root + "/state", BinDir: root + "/bin", Domain: root + "/domain.json",
		Module: root + "/module.so", TPM: root + "/tpm0", TTY: root + "/tty", Release: "127.0.0.1:0", pace: quick}
	must(t, os.Mkdir(o.BinDir, 0o755))
	copyProgram(t, "stage1", o.BinDir+"/stage1")
	for _, name := range []string{"tpmd", "hsmd", "krad", "console", "outboundd"} {
		copyProgram(t, "probe", o.BinDir+"/"+name)
	}
	b, err := newBox(o)
	must(t, err)
	t.Cleanup(b.close)
	t.Cleanup(b.stop)
	b.setMode(modeEnrolled, "")
	b.vault.fill(opened(t))
	must(t, b.openPorts(modeEnrolled))
	p := &prison{box: b, root: root}
	p.layOutFiles(t, uid)
	p.layOutSockets(t, uid)
	return p
}

// layOutFiles makes the files to reach for. Those of the daemon's own user outside its compartment are kept from it by landlock only.
func (p *prison) layOutFiles(t *testing.T, uid int) {
	t.Helper()
	file := func(path string, uid int, mode os.FileMode) string {
		must(t, os.WriteFile(path, []byte("x"), 0o600))
		must(t, giveTo(path, uid, uid, mode))
		return path
	}
	must(t, unix.Mknod(p.o.TPM, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, giveTo(p.o.TPM, uidTPMD, uidTPMD, 0o600))
	p.Read = []string{
		file(p.o.Domain, 0, 0o644),
		file(p.o.Module, 0, 0o644),
		file(p.o.TTY, uidConsole, 0o600),
		file(p.tokensDir()+"/token", uidHSMD, 0o600),
		file(p.stateDir("tpm")+"/blob", uidTPMD, 0o600),
		file(p.stateDir("krad")+"/store.db", uidKRAD, 0o600),
		file(p.root+"/own", uid, 0o600),
		p.o.TPM, p.o.BinDir + "/stage1", "/etc/passwd", "/proc/1/status", "/dev/kmsg",
	}
	for _, dir := range []string{p.tokensDir(), p.stateDir("tpm"), p.stateDir("krad")} {
		p.Read = append(p.Read, file(dir+"/foreign", 4242, 0o600)) // only its user forbids it
	}
	must(t, os.Mkdir(p.root+"/mnt", 0o777))
	p.Mount = p.root + "/mnt"
	must(t, outbound.WriteServers(namesDir(p.o.Run), nil))
	p.Read = append(p.Read, namesDir(p.o.Run)+"/servers")
	p.List = []string{namesDir(p.o.Run), p.o.Run, p.o.State, p.tokensDir(), p.stateDir("tpm"), p.stateDir("krad"), "/etc"}
	p.Write = []string{p.root, p.o.Run, namesDir(p.o.Run), p.tokensDir(), p.stateDir("tpm"), p.stateDir("krad"), "/tmp"}
}

// layOutSockets makes what can be reached without a file's permission, or with a socket's.
func (p *prison) layOutSockets(t *testing.T, uid int) {
	t.Helper()
	for name, client := range map[string]int{"tpm": uidKRAD, "hsm": uidKRAD, "outbound": uidKRAD, "admin": uidConsole} {
		_, err := p.listen(name, client)
		must(t, err)
		p.Unix = append(p.Unix, p.socket(name))
	}
	abstract, err := net.Listen("unix", "@boot-escape-"+filepath.Base(p.root))
	must(t, err)
	t.Cleanup(func() { abstract.Close() })
	p.Unix = append(p.Unix, abstract.Addr().String())
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { tcp.Close() })
	p.TCP = tcp.Addr().String()
	p.Process = neighbour(t, p.ground.forge, uid)
	p.Shared = sharedMemory(t)
}

// worldFolder is a folder below which other users' folders can be reached, as on the box.
func worldFolder(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "escape")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o777))
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copyProgram installs a program as sealRoot leaves it.
func copyProgram(t *testing.T, name, to string) {
	t.Helper()
	in, err := os.Open(filepath.Join(programs, name))
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o711)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	must(t, os.Chmod(to, 0o711))
}

// neighbour is a process of the daemon's user outside.
func neighbour(t *testing.T, f *forge, uid int) int {
	t.Helper()
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Pdeathsig: syscall.SIGKILL}
	must(t, f.start(c))
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c.Process.Pid
}

func sharedMemory(t *testing.T) int {
	t.Helper()
	key := os.Getpid()
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	must(t, err)
	t.Cleanup(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return key
}

// run starts the probe in the daemon's place and returns the error of each attempt.
func (p *prison) run(t *testing.T, s spec) map[string]string {
	t.Helper()
	said := &lines{}
	p.ground.say, p.ground.out = said.say, said
	b, err := json.Marshal(p.targets)
	must(t, err)
	s.confine.Args = append(s.confine.Args, "targets", string(b))
	p.keep(s)
	eventually(t, "report", func() bool { return strings.Contains(said.String(), "probe done") })
	report := map[string]string{}
	for line := range strings.Lines(said.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), s.name+": ")
		if what, result, ok := strings.Cut(line+"\t", "\t"); ok && line != "probe done" {
			report[what] = strings.TrimSpace(result)
		}
	}
	return report
}

// TestEscape starts a hostile program in each daemon's compartment and expects every attempt to fail that is not the daemon's work.
// The same attempts without a compartment, as root, show that each would succeed if nothing stopped it.
func TestEscape(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("compartments are made by root: run this test as root")
	}
	for name, d := range map[string]struct {
		uid   int
		spec  func(*box) spec
		works func(*prison) []string
	}{
		"tpmd": {uidTPMD, (*box).tpmdSpec, func(p *prison) []string {
			dir := p.stateDir("tpm")
			return []string{"inherit init", "inherit tpm", "read " + p.o.Domain, "read " + p.o.TPM, "read " + dir + "/blob", "list " + dir, "write " + dir}
		}},
		"hsmd": {uidHSMD, (*box).hsmdSpec, func(p *prison) []string {
			dir := p.tokensDir()
			return []string{"inherit hsm", "inherit secret", "read " + p.o.Domain, "read " + p.o.Module, "read " + dir + "/token", "list " + dir, "write " + dir}
		}},
		"krad": {uidKRAD, (*box).kradSpec, func(p *prison) []string {
			dir := p.stateDir("krad")
			return []string{"inherit admin", "inherit release", "inherit secret", "inherit machine", "connect " + p.socket("tpm"),
				"connect " + p.socket("hsm"), "connect " + p.socket("outbound"), "read " + p.o.Domain, "read " + dir + "/store.db", "list " + dir, "write " + dir}
		}},
		// It has the machine's network, as any user of a host would: no raw packets, nothing of a network's set-up.
		"outboundd": {uidOutbound, (*box).outboundSpec, func(p *prison) []string {
			dir := namesDir(p.o.Run)
			return []string{"inherit outbound", "read " + dir + "/servers", "list " + dir, "tcp", "loopback up", "connect " + p.Unix[len(p.Unix)-1]}
		}},
		"console": {uidConsole, (*box).consoleSpec, func(p *prison) []string {
			return []string{"read " + p.o.TTY, "connect " + p.socket("admin")}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrison(t, compartment.Sealed, d.uid)
			works := d.works(p)
			report := p.run(t, d.spec(p.box))
			for what, err := range report {
				if (err == "") != slices.Contains(works, what) {
					t.Errorf("%s: %q", what, err)
				}
			}
			wantAttempts(t, report, works)
		})
	}
}

// wantAttempts asserts that what must work was tried, and much else.
func wantAttempts(t *testing.T, report map[string]string, works []string) {
	t.Helper()
	for _, what := range works {
		if err, tried := report[what]; !tried || err != "" {
			t.Errorf("%s: tried %v: %q", what, tried, err)
		}
	}
	if len(report) < 45 {
		t.Errorf("%d attempts; want at least 45", len(report))
	}
}

func TestEscapeAttemptsSucceedWithoutACompartment(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("compartments are made by root: run this test as root")
	}
	// What even an open compartment keeps from a daemon.
	kept := []string{"gain by setuid program", "raise core limit", "unexpected descriptor"}
	p := newPrison(t, compartment.Open, uidKRAD)
	report := p.run(t, p.kradSpec())
	for what, err := range report {
		if (err != "") != slices.Contains(kept, what) {
			t.Errorf("%s: %q; the attempt proves nothing", what, err)
		}
	}
	wantAttempts(t, report, nil)
}
