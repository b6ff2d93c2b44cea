package boot

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/machine"
)

// programs is the folder with the programs that TestMain built; it is set before any test and not changed.
var programs string

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run()) // it starts none of them
	}
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	programs = dir
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/stage1", "./testdata/daemon", "./testdata/probe", "./testdata/agent", "./testdata/tpmd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build test programs: %v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// readSources shows the go command what the programs are made of, from within a test: it then serves no verdict on other sources
// from its cache.
func readSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"cmd", "compartment", "machine", "outbound", "testdata"} {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" {
				_, err = os.ReadFile(path)
			}
			return err
		}))
	}
}

// quick is a pace for tests: long enough for a loaded machine where the test waits for something good.
var quick = pace{
	startup: 20 * time.Second, watchdog: 10 * time.Second, grace: 5 * time.Second,
	least: 10 * time.Millisecond, most: 40 * time.Millisecond, steady: time.Minute, tries: 3,
	tpmd: 5 * time.Second, courtesy: time.Second,
}

// lines collects what is said.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func (l *lines) say(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

// newGround is a ground for tests; all it started is stopped by the test.
func newGround(t *testing.T, p pace) (*ground, *lines) {
	t.Helper()
	readSources(t)
	said := &lines{}
	g := &ground{forge: newForge(), pace: p, stage1: filepath.Join(programs, "stage1"), run: t.TempDir(), out: said, say: said.say}
	t.Cleanup(g.forge.close)
	return g, said
}

// behave is a spec of the test daemon.
func behave(how string) spec {
	p := compartment.Policy{Kind: compartment.Open, UID: os.Getuid(), GID: os.Getgid(), OpenFiles: 64}
	p.Program, p.Args = filepath.Join(programs, "daemon"), []string{how}
	return spec{name: how, confine: p, watched: true, gives: func() (*gift, error) { return &gift{}, nil }}
}

// keepFor starts a daemon for the test.
func keepFor(t *testing.T, g *ground, s spec) *unit {
	t.Helper()
	u := g.keep(s)
	t.Cleanup(func() { u.stop(errKill) })
	return u
}

// eventually waits until is says yes.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s did not happen", what)
}

func TestGoodDaemonRunsUntilStopped(t *testing.T) {
	p := quick
	p.watchdog = 3 * time.Second
	g, said := newGround(t, p)
	u := keepFor(t, g, behave("good"))
	if err := u.await(t.Context()); err != nil {
		t.Fatalf("await = %v\n%s", err, said)
	}
	eventually(t, "its words", func() bool { return u.status().Said == "all is well" })
	time.Sleep(2 * p.watchdog)
	s := u.status()
	if s.State != machine.Ready || s.Restarts != 0 || s.PID == 0 {
		t.Errorf("status = %+v; want ready without a restart\n%s", s, said)
	}
	u.stop(errStop)
	if s := u.status(); s.State != machine.Stopped || s.PID != 0 || alive(s.PID) {
		t.Errorf("status after stop = %+v", s)
	}
}

// alive says whether a process exists.
func alive(pid int) bool { return pid != 0 && syscall.Kill(pid, 0) == nil }

// kill kills a daemon that runs: process 0 would be all that run with the test.
func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("it does not run")
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
}

func TestBadDaemonsAreStartedAgain(t *testing.T) {
	for how, why := range map[string]string{
		"quiet": "gave no sign of life",
		"stuck": "gave no sign of life",
		"crash": "exit status 3: no more of this",
		"early": "exit status 4",
		"proxy": "gave no sign of life",
	} {
		t.Run(how, func(t *testing.T) {
			p := quick
			p.watchdog = 600 * time.Millisecond
			if how == "quiet" || how == "proxy" {
				p.startup = 500 * time.Millisecond
			}
			g, said := newGround(t, p)
			u := keepFor(t, g, behave(how))
			eventually(t, "second start", func() bool { return u.status().Restarts >= 2 })
			if s := u.status(); !strings.Contains(s.Ended, why) {
				t.Errorf("ended = %q; want %q\n%s", s.Ended, why, said)
			}
		})
	}
}

func TestAwaitGivesUpAfterSomeTries(t *testing.T) {
	g, _ := newGround(t, quick)
	u := keepFor(t, g, behave("early"))
	if err := u.await(t.Context()); err == nil || !strings.Contains(err.Error(), "early: exit status 4") {
		t.Errorf("await = %v", err)
	}
}

func TestStubbornDaemonIsKilled(t *testing.T) {
	p := quick
	p.grace = 300 * time.Millisecond
	g, said := newGround(t, p)
	u := keepFor(t, g, behave("stubborn"))
	if err := u.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := u.status().PID
	u.stop(errStop)
	if alive(pid) || !strings.Contains(said.String(), "does not stop and is killed") {
		t.Errorf("process %d alive = %v; said %q", pid, alive(pid), said)
	}
}

func TestKilledDaemonComesBack(t *testing.T) {
	g, _ := newGround(t, quick)
	u := keepFor(t, g, behave("good"))
	if err := u.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		kill(t, u.status().PID)
		eventually(t, "restart", func() bool { s := u.status(); return s.Restarts == n && s.State == machine.Ready })
	}
}

func TestBackOffDoublesToItsLimit(t *testing.T) {
	p := pace{least: time.Second, most: 10 * time.Second}
	for n, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if got := p.wait(n); got != want*time.Second {
			t.Errorf("wait(%d) = %v; want %v s", n, got, want)
		}
	}
	if got := p.wait(1 << 40); got != p.most {
		t.Errorf("wait of a large count = %v", got)
	}
}
