package audit

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// TestFullDisk fills a real file system of 4 MiB, in a name space of its own.
func TestFullDisk(t *testing.T) {
	const inside = "KRA_AUDIT_TEST_FULL_DISK"
	if os.Getenv(inside) != "" {
		fullDisk(t)
		return
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	defer runtime.UnlockOSThread()
	c := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T) {
	b := newBench(t)
	if err := unix.Mount("none", b.dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal("mount a small file system: ", err)
	}
	b.opts.SegmentSize = 1 << 20
	l := b.boot(t)
	var err error
	acknowledged := int64(0)
	for range 1000 {
		if _, err = l.Append(context.Background(), Entry{Kind: receipt.Command, Private: strings.Repeat("z", 20_000)}); err != nil {
			break
		}
		acknowledged = l.Head().Size
	}
	if !errors.Is(err, unix.ENOSPC) || !errors.Is(err, ErrClosed) || acknowledged < 50 {
		t.Fatalf("after %d records Append = %v; want no space left", acknowledged, err)
	}
	if err := l.Health(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Health() = %v; want no space left", err)
	}
	l.Close()

	if half, _ := filepath.Glob(filepath.Join(b.dir, "*"+unfinished)); len(half) != 0 {
		t.Errorf("a half-made segment takes the last room: %v", half)
	}
	if err := unix.Mount("none", b.dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	l = b.boot(t)
	if got := l.Head().Size; got != acknowledged+1 {
		t.Errorf("with more room the log has %d records; want %d and the new key", got, acknowledged)
	}
	mustAppend(t, l, Entry{Kind: receipt.Command, Private: strings.Repeat("z", 20_000)})
	l.Close()
	if err := unix.Unmount(b.dir, 0); err != nil {
		t.Error(err)
	}
}
