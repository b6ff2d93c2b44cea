package boot

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/compartment"
)

// supervisor marks a process of this test that keeps a daemon and waits to be killed.
const supervisor = "BOOT_TEST_SUPERVISOR"

// TestDaemonsDieWithTheirSupervisor kills a supervisor that cannot clean up. What stage1 does to the parent-death signal on its way
// through users is undone by it again.
func TestDaemonsDieWithTheirSupervisor(t *testing.T) {
	if kind := os.Getenv(supervisor); kind != "" {
		superviseForever(t, kind)
	}
	if os.Getuid() != 0 {
		t.Fatal("compartments are made by root: run this test as root")
	}
	readSources(t)
	for _, kind := range []string{"open", "sealed"} {
		t.Run(kind, func(t *testing.T) {
			c := exec.Command(os.Args[0], "-test.run=^TestDaemonsDieWithTheirSupervisor$")
			c.Env = append(os.Environ(), supervisor+"="+kind, inside+"="+programs, supervisor+"_RUN="+worldFolder(t))
			out, err := c.StdoutPipe()
			must(t, err)
			must(t, c.Start())
			t.Cleanup(func() { c.Process.Kill(); c.Wait() })
			pid := 0
			for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
				if text, ok := strings.CutPrefix(s.Text(), "daemon "); ok {
					pid, err = strconv.Atoi(text)
					must(t, err)
				}
			}
			if !alive(pid) {
				t.Fatalf("daemon %d does not run", pid)
			}
			must(t, c.Process.Signal(syscall.SIGKILL))
			eventually(t, "end of the daemon", func() bool { return !running(pid) })
		})
	}
}

// running says whether a process exists and is more than a corpse that nobody has looked at.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func superviseForever(t *testing.T, kind string) {
	said := &lines{}
	g := &ground{forge: newForge(), pace: boxPace, out: said, say: said.say}
	g.run, g.stage1 = os.Getenv(supervisor+"_RUN"), filepath.Join(os.Getenv(inside), "stage1")
	s := behave("deaf")
	s.confine.Program = filepath.Join(os.Getenv(inside), "daemon")
	if kind == "sealed" {
		s.confine.Kind, s.confine.UID, s.confine.GID = compartment.Sealed, uidKRAD, uidKRAD
	}
	u := g.keep(s)
	if err := u.await(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	fmt.Println("daemon", u.status().PID)
	time.Sleep(time.Hour)
}
