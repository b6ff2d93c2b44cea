package boot

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
)

// targets is what testdata/probe is told to try.
type targets struct {
	Read, List, Write, Unix []string
	TCP                     string
	Process, Shared         int
}

// prison is a box whose krad is the probe.
type prison struct {
	*box
	targets
	root    string
	allowed map[string]bool // attempts that a krad must be able to make
}

// newPrison lays out what a box has, and things that only one layer of the compartment keeps from krad.
func newPrison(t *testing.T, kind compartment.Kind) *prison {
	t.Helper()
	root := worldFolder(t)
	o := Options{Kind: kind, Run: root + "/run", State: root + "/state", BinDir: root + "/bin", Domain: root + "/domain.json",
		Module: root + "/none", TPM: root + "/tpm0", Release: "127.0.0.1:0", pace: quick}
	must(t, os.Mkdir(o.BinDir, 0o755))
	copyProgram(t, "stage1", o.BinDir+"/stage1")
	copyProgram(t, "probe", o.BinDir+"/krad")
	must(t, os.WriteFile(o.Domain, []byte("{}"), 0o644))
	b, err := newBox(o)
	must(t, err)
	t.Cleanup(b.close)
	t.Cleanup(b.stop)
	b.setMode(modeLocked, "a test")
	p := &prison{box: b, root: root}
	p.layOut(t)
	return p
}

// layOut makes the things to reach for.
func (p *prison) layOut(t *testing.T) {
	t.Helper()
	own := p.stateDir("krad")
	file := func(path string, uid int, mode os.FileMode) string {
		must(t, os.WriteFile(path, []byte("x"), 0o600))
		must(t, giveTo(path, uid, uid, mode))
		return path
	}
	p.Read = []string{
		p.o.Domain,
		file(p.tokensDir()+"/token", uidHSMD, 0o600),
		file(p.stateDir("tpm")+"/blob", uidTPMD, 0o600),
		file(p.root+"/open", 0, 0o644),       // only landlock forbids it
		file(own+"/foreign", uidHSMD, 0o600), // only its user forbids it
		p.o.BinDir + "/stage1",               // no program is read
		"/etc/passwd", "/proc/1/status", "/dev/kmsg",
	}
	must(t, unix.Mknod(p.o.TPM, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(p.o.TPM, 0o666))
	p.Read = append(p.Read, p.o.TPM)
	p.List = []string{p.o.Run, p.o.State, p.tokensDir(), p.stateDir("tpm"), "/etc"}
	p.Write = []string{own, p.o.Run, p.tokensDir(), "/tmp", p.root}
	for name, client := range map[string]int{"tpm": uidKRAD, "hsm": uidKRAD, "admin": uidConsole} {
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
	p.Process = neighbour(t, p.ground.forge)
	p.Shared = sharedMemory(t)
	p.allowed = map[string]bool{"read " + p.o.Domain: true, "write " + own: true, "connect " + p.socket("tpm"): true,
		"connect " + p.socket("hsm"): true, "inherited socket": true}
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

// neighbour is a process of krad's user outside.
func neighbour(t *testing.T, f *forge) int {
	t.Helper()
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uidKRAD, Gid: uidKRAD}, Pdeathsig: syscall.SIGKILL}
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

// run starts the probe as krad and returns what it reports.
func (p *prison) run(t *testing.T) map[string]string {
	t.Helper()
	said := &lines{}
	p.ground.say, p.ground.out = said.say, said
	b, err := json.Marshal(p.targets)
	must(t, err)
	file := p.stateDir("krad") + "/targets.json"
	must(t, os.WriteFile(file, b, 0o644))
	u := p.keep(p.kradSpec())
	if err := u.await(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	b, err = os.ReadFile(p.stateDir("krad") + "/report.json")
	must(t, err)
	var report map[string]string
	must(t, json.Unmarshal(b, &report))
	return report
}

// TestEscape starts a hostile krad in krad's compartment and expects every attempt to fail; the same attempts without a compartment,
// as root, show that each would work if nothing stopped it.
func TestEscape(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("compartments are made by root: run this test as root")
	}
	t.Run("sealed", func(t *testing.T) {
		p := newPrison(t, compartment.Sealed)
		report := p.run(t)
		for what, err := range report {
			if (err == "") != p.allowed[what] {
				t.Errorf("%s: allowed = %v; want %v (%s)", what, err == "", p.allowed[what], err)
			}
		}
		if len(report) < 40 {
			t.Errorf("%d attempts; want at least 40", len(report))
		}
	})
	t.Run("open", func(t *testing.T) {
		// What even an open compartment keeps from a daemon, and what root has no need to regain.
		kept := map[string]bool{"gain by setuid program": true, "raise core limit": true, "unexpected descriptor": true}
		for what, err := range newPrison(t, compartment.Open).run(t) {
			if (err != "") != kept[what] {
				t.Errorf("%s without a compartment: %q; the attempt proves nothing", what, err)
			}
		}
	})
}
