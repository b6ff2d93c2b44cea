package boxtest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// insideFull has this binary run one test in a name space of its own, with which its mounts end.
const insideFull = "BOXTEST_DISK_FULL"

// TestDiskFull: what MANUAL.md says of a full disk, of a box whose state lies on a small file system. Segments of the log are short, so
// that the test need not write the 64 MiB of one, and what is kept free is in proportion.
func TestDiskFull(t *testing.T) { inNameSpace(t, diskFull) }

// inNameSpace runs f, which is the whole test, in a process of its own.
func inNameSpace(t *testing.T, f func(*testing.T)) {
	if os.Getenv(insideFull) != "" {
		f(t)
		return
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	defer runtime.UnlockOSThread()
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), insideFull+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A small is a box whose state is on a small file system.
type small struct {
	*boxtest.Box
	t       *testing.T
	h       block.Header
	other   string // a file of somebody else's, which takes what is left of the disk
	release func(within time.Duration) error
}

func newSmall(t *testing.T, size string) *small {
	b := boxtest.Start(t, boxtest.Edit{File: "appliance/audit/audit.go", Old: "segmentSize  = 64 << 20", New: "segmentSize  = 1 << 20"},
		boxtest.Edit{File: "appliance/audit/full.go", Old: "spareShare = 32", New: "spareShare = 12"},
		boxtest.Edit{File: "appliance/store/full.go", Old: "changeRoom = 1 << 20", New: "changeRoom = 1 << 18"})
	legalTeam(b)
	for i := range 200 { // rules that each start logs, and for which the spare has no room
		b.Do(fmt.Sprintf("rule add long%d is %strue", i, strings.Repeat("true && ", 58)))
	}
	bob := b.Person("bob")
	s := &small{Box: b, t: t, other: filepath.Join(b.State, "other")}
	s.h, _ = header(t, b.Agent(&bob), "x")
	s.release = func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		headers := make([]block.Header, 64)
		for i := range headers {
			headers[i] = s.h
		}
		answers, err := b.Agent(&bob).Release(ctx, headers)
		for _, a := range answers {
			err = errors.Join(err, a.Err)
		}
		return err
	}
	b.Stop()
	old := b.State + "-old"
	if err := errors.Join(os.Rename(b.State, old), os.Mkdir(b.State, 0o700), unix.Mount("none", b.State, "tmpfs", 0, "size="+size), os.CopyFS(b.State, os.DirFS(old))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Stop()
		if err := unix.Unmount(b.State, 0); err != nil {
			t.Error(err)
		}
	})
	// a copy has the usual modes, and the daemons ask for their own
	if err := filepath.WalkDir(b.State, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700)
		} else if err == nil {
			err = os.Chmod(path, 0o600)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.Login()
	return s
}

// fill leaves no block of the disk free.
func (s *small) fill() {
	s.t.Helper()
	f, err := os.Create(s.other)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		s.t.Fatal(err)
	}
}

// until waits for what comes by itself.
func (s *small) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not %s\n%s\n%s", what, s.Do("status"), s.Output())
		}
	}
}

// refuses wants no release, no change, and words that say why.
func (s *small) refuses() {
	s.t.Helper()
	before := words(s.Do("status"))
	if s.release(time.Second) == nil { // the client asks again for as long
		s.t.Error("a key is released on a full disk")
	}
	for line, answer := range map[string]string{"access add another": "", "rule add r is true": "", "key generate p256 for legal-team": "", "access title legal-team Others": "",
		"officer add mia": "a new passphrase for mia", "trust remove corp": "yes", "time set " + time.Now().UTC().Format(time.RFC3339): "yes", "boot renew": "yes"} {
		answers := strings.Fields("")
		if answer != "" {
			answers = []string{answer, answer}
		}
		if _, failure := s.Try(line, answers...); !strings.Contains(failure, "othing was done: the disk is full") {
			s.t.Errorf("%s on a full disk: %q", line, failure)
		}
	}
	if !strings.Contains(before, "health the disk is full: ") {
		s.t.Errorf("status says %s", before)
	}
	state := func(status string) string { // what a change would have altered
		_, rest, _ := strings.Cut(status, "state generation ")
		rest, _, _ = strings.Cut(rest, " log ")
		return rest
	}
	if after := words(s.Do("status")); state(after) != state(before) || state(before) == "" {
		s.t.Errorf("a refused change has an effect: %q, then %q", state(before), state(after))
	}
}

func diskFull(t *testing.T) {
	s := newSmall(t, "3m")
	if err := s.release(time.Minute); err != nil {
		t.Fatal(err)
	}
	// the log fills the disk, as one does that grows for years
	last := ""
	s.until("full", func() bool {
		err := s.release(5 * time.Second)
		if err != nil {
			last = err.Error()
			return strings.Contains(words(s.Do("log health")), "the disk is full")
		}
		return false
	})
	t.Logf("the last request was told: %s", last)
	if strings.Contains(last, "disk") || strings.Contains(last, "space") || strings.Contains(last, "log") {
		t.Errorf("who asks is told: %s", last)
	}
	if shown := words(s.Do("log health")); !strings.Contains(shown, "enlarged; the box goes on by itself") {
		t.Errorf("log health says %s", shown)
	}
	s.refuses()

	// it can be looked at, its log be taken away, and it starts again
	full := verifyLog(t, s.Box).Head.Size
	s.Reset()
	if s.Up().Mode != "enrolled" {
		t.Fatalf("with a full disk the box is %s: %s", s.Up().Mode, s.Up().Reason)
	}
	s.Login()
	s.until("full again", func() bool {
		s.release(time.Second)
		return strings.Contains(words(s.Do("log health")), "the disk is full")
	})
	s.refuses()
	if size := verifyLog(t, s.Box).Head.Size; size < full {
		t.Errorf("%d records after a restart, %d before", size, full)
	}

	// with room again it goes on by itself
	if err := unix.Mount("none", s.State, "tmpfs", unix.MS_REMOUNT, "size=6m"); err != nil {
		t.Fatal(err)
	}
	well := func() bool { return strings.Contains(words(s.Do("status")), "health good") }
	s.until("in service", func() bool { return well() && s.release(time.Minute) == nil })
	s.Do("access add more")
	s.Do("log verify")

	// somebody else takes the last block: no room for a change, and a log whose segment is there
	s.fill()
	s.until("full of others", func() bool { s.release(time.Second); return !well() })
	s.refuses()
	if err := os.Remove(s.other); err != nil {
		t.Fatal(err)
	}
	s.until("in service again", func() bool { return well() && s.release(time.Minute) == nil })
	s.Do("access title more More")
	h, _ := s.Try("key generate p256 for more")
	if !strings.Contains(h, "current key of more") {
		t.Errorf("key generate says %s", h)
	}
	s.Do("log verify")
	if report := verifyLog(t, s.Box); report.Head.Size < full+64 {
		t.Errorf("%d records, %d when the disk was full", report.Head.Size, full)
	}
	s.Reset()
	s.Login()
	if err := s.release(time.Minute); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	s.Do("log verify")
}
