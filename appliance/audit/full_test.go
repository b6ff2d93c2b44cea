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
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// TestFullDisk fills a real file system of 3.4 MiB, in a name space of its own.
func TestFullDisk(t *testing.T) {
	inNameSpace(t, fullDisk)
}

// inNameSpace runs f, which is the whole test, in a process with a name space of its own, where it may mount.
func inNameSpace(t *testing.T, f func(*testing.T)) {
	const inside = "KRA_AUDIT_TEST_FULL_DISK"
	if os.Getenv(inside) != "" {
		f(t)
		return
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	defer runtime.UnlockOSThread()
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T) {
	b := newBench(t)
	if err := unix.Mount("none", b.dir, "tmpfs", 0, "size=3400k"); err != nil {
		t.Fatal("mount a small file system: ", err)
	}
	size := func(words string) {
		t.Helper()
		if err := unix.Mount("none", b.dir, "tmpfs", unix.MS_REMOUNT, words); err != nil {
			t.Fatal(err)
		}
	}
	b.opts.SegmentSize = 1 << 20
	l := b.boot(t)
	ctx := context.Background()
	released := func() Entry { return Entry{Kind: receipt.Refusal, Private: strings.Repeat("z", 20_000)} }
	var err error
	acknowledged := int64(0)
	for range 1000 {
		if _, err = l.Append(ctx, released()); err != nil {
			break
		}
		acknowledged = l.Head().Size
	}
	full := func(when string, err error) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) || !errors.Is(err, ErrFull) || errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v; want no space left, and not closed", when, err)
		}
	}
	if full("Append", err); acknowledged < 50 {
		t.Fatalf("full after %d records", acknowledged)
	}
	full("Health", l.Health())
	if half, _ := filepath.Glob(filepath.Join(b.dir, "*"+unfinished)); len(half) != 0 {
		t.Errorf("a half-made segment takes the last room: %v", half)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil || int64(st.Bavail)*int64(st.Bsize) < b.opts.SegmentSize/reserveShare {
		t.Errorf("the log took the last room: %d blocks are left, %v", st.Bavail, err)
	}

	// what is not the port's goes on, also after a restart, and the whole log is there
	mustAppend(t, l, Entry{Kind: receipt.Login})
	if _, err := l.Append(ctx, Entry{Kind: receipt.Book, Private: strings.Repeat("z", 20_000)}); err == nil {
		t.Error("the spare takes rules, which each start writes again")
	} else {
		full("rules", err)
	}
	l.Close()
	l = b.boot(t)
	mustAppend(t, l, Entry{Kind: receipt.Boot})
	if _, err := l.Append(ctx, released()); err == nil {
		t.Error("after a restart a full disk takes releases")
	} else {
		full("Append after a restart", err)
	}
	if got := l.Head().Size; got != acknowledged+3 {
		t.Errorf("%d records on a full disk; want %d", got, acknowledged+3)
	}

	// the spare ends too, and then nothing is taken
	for range 1000 {
		if _, err = l.Append(ctx, Entry{Kind: receipt.Command, Private: strings.Repeat("z", 5_000)}); err != nil {
			break
		}
	}
	full("without a spare", err)

	size("size=16m")
	for end := time.Now().Add(time.Minute); l.Health() != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if err := l.Health(); err != nil {
		t.Fatalf("with more room: %v", err)
	}
	mustAppend(t, l, released())

	// no room for hashes: what is durable is acknowledged, and later nothing is taken
	if err := os.WriteFile(filepath.Join(b.dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(filepath.Join(b.dir, "other"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = other.Write(block)
	}
	other.Close()
	for err = nil; err == nil; {
		_, err = l.Append(ctx, Entry{Kind: receipt.Refusal})
	}
	full("without room for hashes", err)
	if err := os.Remove(other.Name()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); l.Health() != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	mustAppend(t, l, released())
	last := l.Head()
	l.Close()
	l = b.boot(t)
	if got, err := l.RootAt(last.Size); err != nil || got != last.Root {
		t.Errorf("after a restart the first %d records have another root: %v", last.Size, err)
	}
	mustAppend(t, l, released())
	l.Close()
	if err := unix.Unmount(b.dir, 0); err != nil {
		t.Error(err)
	}
}
