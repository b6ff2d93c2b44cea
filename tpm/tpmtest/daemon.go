package tpmtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// A Daemon is a real tpmd with both its channels. It ends with the test, or with Kill.
type Daemon struct {
	Init   *wire.Init   // process 1's channel
	Client *wire.Client // the agent's channel
	Socket string       // where the agent's channel listens

	args     []string
	listener *os.File // ours, kept for the next one
	process  *process
}

// DaemonConfig says what to run tpmd with.
type DaemonConfig struct {
	TPM      *TPM
	State    string // folder
	Domain   label.Domain
	EventLog string // file; may be empty
}

// daemonStart bounds tpmd's way to its first answer.
const daemonStart = 20 * time.Second

// built is tpmd, built once for a test's process, under one name in the user's cache: tests leave nothing behind.
var built = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "krabox-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("tpmd-%d", os.Getpid()))
	out, err := exec.Command("go", "build", "-o", path, "github.com/keyrelease/krabox/tpm/cmd/tpmd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build tpmd: %w: %s", err, out)
	}
	final := filepath.Join(dir, "tpmd")
	return final, os.Rename(path, final)
})

// Binary is the path of a freshly built tpmd.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// StartDaemon runs tpmd with inherited descriptors, as process 1 of the image does, and waits until it answers.
func StartDaemon(t testing.TB, cfg DaemonConfig) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpmd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	domain := filepath.Join(dir, "domain.json")
	if err := os.WriteFile(domain, cfg.Domain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Socket: filepath.Join(dir, "tpm.sock"),
		args: []string{Binary(t), "-device", cfg.TPM.Device(), "-state", cfg.State, "-domain", domain, "-eventlog", cfg.EventLog}}
	d.listener = listenFile(t, d.Socket)
	t.Cleanup(func() { _ = d.listener.Close() })
	d.start(t)
	t.Cleanup(d.Kill)
	if d.Client, err = wire.Dial(d.Socket); err != nil {
		t.Fatal(err)
	}
	return d
}

// start runs tpmd on the listener that is there and a fresh channel for process 1.
func (d *Daemon) start(t testing.TB) {
	t.Helper()
	ours, theirs := pair(t)
	defer func() { _ = theirs.Close() }()
	// LISTEN_PID must be the child's: a tiny shell knows its own.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, d.args...)...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, d.listener}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=init:tpm", "NOTIFY_SOCKET=")
	var err error
	if d.process, err = run(cmd); err != nil {
		t.Fatal(err)
	}
	d.Init = wire.NewInit(ours)
	ctx, cancel := context.WithTimeout(t.Context(), daemonStart)
	defer cancel()
	if _, err := d.Init.Status(ctx); err != nil {
		t.Fatalf("start tpmd: %v", err)
	}
}

// Restart kills tpmd and starts another one in its place, as a supervisor does: the socket stays, connections do not.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.process.kill()
	_ = d.Init.Close()
	d.start(t)
}

// Done is closed when tpmd has ended.
func (d *Daemon) Done() <-chan struct{} { return d.process.done }

// Kill ends tpmd as a crash does.
func (d *Daemon) Kill() {
	d.process.kill()
	_ = d.Init.Close()
	if d.Client != nil {
		_ = d.Client.Close()
	}
}

// pair makes process 1's channel: our end as a connection, tpmd's as a file.
func pair(t testing.TB) (net.Conn, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "init")
	defer func() { _ = ours.Close() }()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	return conn, os.NewFile(uintptr(fds[1]), "init")
}

func listenFile(t testing.TB, path string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return f
}
