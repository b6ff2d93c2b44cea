package hsmtest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hsmd returns a command that is hsmd with descriptors of its own, not started.
func hsmd(t *testing.T, env []string, files ...*os.File) *exec.Cmd {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `export LISTEN_PID=$$; exec /proc/self/fd/6 "$@"`, "hsmd", "-tokens", Dir(t))
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	for len(files) < 3 {
		files = append(files, null)
	}
	cmd.ExtraFiles = append(files, binary)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// pipe returns a pipe with this in it and nothing more to come.
func pipe(t *testing.T, content []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { r.Close() })
	return r
}

func socket(t *testing.T) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDaemonWantsItsDescriptors(t *testing.T) {
	for name, x := range map[string]struct {
		env   []string
		files []*os.File
		want  string
	}{
		"none":            {nil, nil, "want the descriptors"},
		"listener only":   {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=hsm"}, []*os.File{socket(t)}, "want the descriptors"},
		"secret only":     {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=secret"}, []*os.File{pipe(t, ChainKey[:])}, "want the descriptors"},
		"another name":    {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:other"}, []*os.File{socket(t), pipe(t, ChainKey[:])}, "is not known"},
		"short secret":    {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret"}, []*os.File{socket(t), pipe(t, ChainKey[:31])}, "read chain key"},
		"long secret":     {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret"}, []*os.File{socket(t), pipe(t, make([]byte, 33))}, "more than 32 bytes"},
		"zero secret":     {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret"}, []*os.File{socket(t), pipe(t, make([]byte, 32))}, "want the descriptors"},
		"not a listener":  {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret"}, []*os.File{pipe(t, nil), pipe(t, ChainKey[:])}, "inherit descriptors"},
		"not even a pipe": {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret"}, nil, "inherit descriptors"},
	} {
		out, err := hsmd(t, x.env, x.files...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), x.want) {
			t.Errorf("%s: hsmd = %q, %v; want %q", name, out, err, x.want)
		}
	}
}

// TestSupervision: READY when it listens, WATCHDOG while it is well, STOPPING and success when it is told to end.
func TestSupervision(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	cmd := hsmd(t, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=hsm:secret", "NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=300000"}, socket(t), pipe(t, ChainKey[:]))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := notify.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		b := make([]byte, 256)
		n, err := notify.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("hsmd says %q, %v; want %q", b[:n], err, want)
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 256)
		n, err := notify.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) == "STOPPING=1" {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("hsmd ends with %v", err)
	}
}
