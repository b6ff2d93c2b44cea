package hsmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm/wire"
)

// A Daemon is a running hsmd on a socket of its own. The socket outlives the process, as it does under a supervisor:
// a client that comes while hsmd is dead waits in the queue.
type Daemon struct {
	t        testing.TB
	dir      string
	domain   string // file
	binary   *os.File
	flags    []string // besides the usual ones
	listener *os.File

	mu    sync.Mutex
	pid   int           // owned by mu; 0 while dead
	ended chan struct{} // owned by mu; closed when the process pid has been waited for
}

// ChainKey is the key of every Daemon's chain.
var ChainKey = [32]byte{1}

const (
	readyWithin = 30 * time.Second
	socketName  = "hsm.sock"
	notifyName  = "notify.sock"
)

// build compiles hsmd once per test process and returns it open, its file removed: nothing stays behind.
var build = sync.OnceValues(func() (*os.File, error) {
	dir, err := os.MkdirTemp("", "kra-hsmd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hsmd")
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "build", "-o", path, "../cmd/hsmd")
	cmd.Dir = filepath.Dir(file)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build hsmd: %w\n%s", err, out)
	}
	return os.Open(path)
})

// Start runs a new hsmd without a token, with more flags. It ends with the test.
func Start(t testing.TB, flags ...string) *Daemon {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	c := Config(t)
	d := &Daemon{t: t, dir: c.Dir, domain: filepath.Join(t.TempDir(), "domain.json"), binary: binary, flags: flags}
	if err := os.WriteFile(d.domain, c.Domain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Path(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	d.listener, err = l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { d.Kill(); d.listener.Close() })
	d.Restart()
	return d
}

// Path is the socket's.
func (d *Daemon) Path() string { return filepath.Join(d.dir, socketName) }

// PID is the process's, 0 while it is dead.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pid
}

// Client returns a new client, closed with the test.
func (d *Daemon) Client() *wire.Client {
	d.t.Helper()
	c, err := wire.Dial(d.Path())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// Kill ends the process as a crash would and waits until it is gone.
func (d *Daemon) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pid != 0 {
		_ = syscall.Kill(d.pid, syscall.SIGKILL) // it may be dead already
		<-d.ended
		d.pid = 0
	}
}

// Restart ends the process if it lives, starts another on the same socket, and waits until it is ready.
func (d *Daemon) Restart() {
	d.t.Helper()
	d.Kill()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.start(); err != nil {
		d.t.Fatalf("start hsmd: %v", err)
	}
}

// Await waits until the process has ended by itself, or stop is closed, which it tells.
func (d *Daemon) Await(stop <-chan struct{}) (ended bool) {
	d.mu.Lock()
	gone := d.ended
	d.mu.Unlock()
	select {
	case <-gone:
		return true
	case <-stop:
		return false
	}
}

func (d *Daemon) start() error {
	name := filepath.Join(d.dir, notifyName)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer os.Remove(name)
	defer notify.Close()
	secret, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	defer secret.Close()
	if _, err := feed.Write(ChainKey[:]); err != nil {
		return err
	}
	feed.Close()
	// The shell is there because only the new process knows the number that LISTEN_PID must have.
	args := append([]string{"-c", `export LISTEN_PID=$$; exec /proc/self/fd/5 "$@"`, "hsmd", "-module", Module, "-tokens", d.dir, "-domain", d.domain, "-box", Box}, d.flags...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.ExtraFiles = []*os.File{d.listener, secret, d.binary}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret", "NOTIFY_SOCKET="+notify.LocalAddr().String())
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig fires when the thread that started the process ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // tests kill it
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	d.pid, d.ended = cmd.Process.Pid, ended
	return awaitReady(notify, ended)
}

func awaitReady(notify *net.UnixConn, ended <-chan struct{}) error {
	deadline := time.Now().Add(readyWithin)
	b := make([]byte, 4096)
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			return fmt.Errorf("hsmd ended before it was ready")
		default:
		}
		if err := notify.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		n, err := notify.Read(b)
		if err == nil && strings.Contains(string(b[:n]), "READY=1") {
			return nil
		}
	}
	return fmt.Errorf("hsmd was not ready within %v", readyWithin)
}

// CPU returns the processor time that the process has used, user and system.
func (d *Daemon) CPU() (sum time.Duration) {
	d.t.Helper()
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(d.PID()), "task", "*", "schedstat"))
	if err != nil || len(threads) == 0 {
		d.t.Fatalf("find threads of hsmd: %v", err)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			d.t.Fatalf("read %s: %v", path, err)
		}
		sum += time.Duration(n)
	}
	return sum
}
