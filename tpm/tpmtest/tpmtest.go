// Package tpmtest gives a test a fresh swtpm behind a socket that many may use at once, and a tpmd to run on it.
package tpmtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A TPM is one software TPM with its state in a folder of the test. It ends with the test.
type TPM struct {
	dir   string
	proxy *proxy
	swtpm *process
}

// New starts a fresh TPM.
func New(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return start(t, dir)
}

func start(t testing.TB, dir string) *TPM {
	m := &TPM{dir: dir}
	var err error
	if m.proxy, err = listen(m.front()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.proxy.close)
	m.power(t)
	t.Cleanup(func() { m.swtpm.kill() })
	return m
}

func (m *TPM) front() string { return filepath.Join(m.dir, "tpm.sock") }

// Dir is the folder of the TPM's own state, for a copy of it.
func (m *TPM) Dir() string { return m.dir }

// Device is what tpm.OpenDevice and tpmd's flag -device take.
func (m *TPM) Device() string { return "unix:" + m.front() }

// Restart cuts the power and puts it back: no orderly shutdown, registers are zero, connections are gone.
func (m *TPM) Restart(t testing.TB) {
	t.Helper()
	m.Cut()
	m.power(t)
}

// Cut drops the power.
func (m *TPM) Cut() {
	m.proxy.unplug()
	m.swtpm.kill()
}

func (m *TPM) power(t testing.TB) {
	t.Helper()
	back := filepath.Join(m.dir, "swtpm.sock")
	_ = os.Remove(back)
	p, err := run(exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.dir,
		"--server", "type=unixio,path="+back, "--ctrl", "type=unixio,path="+filepath.Join(m.dir, "ctrl.sock"), "--flags", "not-need-init"))
	if err != nil {
		t.Fatal(err)
	}
	m.swtpm = p
	if err := m.proxy.plug(back); err != nil {
		t.Fatal(err)
	}
}

// Resume suspends the machine and wakes it up: registers keep their values, sessions are gone.
func (m *TPM) Resume(t testing.TB) {
	t.Helper()
	m.Do(t, func(d transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUState}.Execute(d)
		return err
	})
	m.Restart(t)
	c, err := net.Dial("unix", m.front())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUState}).Execute(transport.FromReadWriter(c)); err != nil {
		t.Fatal(err)
	}
}

// Clone copies the TPM as it is, with its seeds, into another one: what nobody can do to a hardware TPM, for
// experiments that would spoil the first. Both are reset by it.
func (m *TPM) Clone(t testing.TB) *TPM {
	t.Helper()
	m.Cut()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, err := os.ReadFile(filepath.Join(m.dir, "tpm2-00.permall"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tpm2-00.permall"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.power(t)
	return start(t, dir)
}

// Do runs f as a foreign program beside whoever else uses the TPM. It starts the TPM if nobody has.
func (m *TPM) Do(t testing.TB, f func(transport.TPM) error) {
	t.Helper()
	c, err := net.Dial("unix", m.front())
	if err != nil {
		t.Fatal(err)
	}
	d := transport.FromReadWriteCloser(c)
	defer func() { _ = d.Close() }()
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(d); err != nil && !errors.Is(err, tpm2.TPMRCInitialize) {
		t.Fatal(err)
	}
	if err := f(d); err != nil {
		t.Fatal(err)
	}
}

// Extend extends a register by a digest, as firmware, stub and kernel do.
func (m *TPM) Extend(t testing.TB, pcr int, digest [32]byte) {
	t.Helper()
	m.Do(t, func(d transport.TPM) error {
		_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}}}.Execute(d)
		return err
	})
}

// Bus is everything that crossed the bus since the last call, in both directions. The first call gives nothing and begins.
func (m *TPM) Bus() []byte { return m.proxy.recorded() }

// CutAfter drops the power in front of the n-th command from now (1 is the next one), or behind it: then the command is
// done and its answer lost. With codes, only commands of those codes are counted. 0 takes the order back.
func (m *TPM) CutAfter(n int, where Where, codes ...tpm2.TPMCC) { m.proxy.cutAfter(n, where, codes) }

// Busy makes every n-th command be answered "ask again" and not be done, as hardware does when it is busy. 0 ends that.
func (m *TPM) Busy(n int) {
	m.proxy.mu.Lock()
	defer m.proxy.mu.Unlock()
	m.proxy.busy = n
}

// Interpose puts somebody between the TPM and who uses it, who may exchange answers. Nil ends that.
func (m *TPM) Interpose(mangle func(command, answer []byte) []byte) {
	m.proxy.mu.Lock()
	defer m.proxy.mu.Unlock()
	m.proxy.mangle = mangle
}

// Commands counts the commands since the power came.
func (m *TPM) Commands() int { return m.proxy.count() }

// Where says on which side of a command the power fails.
type Where uint8

const (
	Before Where = iota + 1 // not done
	After                   // done, nobody told
)

// process is a child that dies with the test's process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// run starts a child from a thread that lives as long as the child: Pdeathsig belongs to the thread.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd, make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		_ = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
}
