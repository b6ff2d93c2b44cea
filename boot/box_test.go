package boot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/tpm/wire"
)

// script is what testdata/tpmd does.
type script struct {
	State  wire.State
	Reason string
	Refuse map[string]string
	Die    map[string]string

	Unapproved string
}

// testBox is a Run with stand-ins for tpmd, krad and hsmd.
type testBox struct {
	Options
	said  *lines
	up    chan Up
	ended chan error
	stop  context.CancelFunc
}

// newTestBox lays out a box whose tpmd follows the script.
func newTestBox(t *testing.T, s script) *testBox {
	t.Helper()
	readSources(t)
	dir, err := os.MkdirTemp("", "box") // short: socket paths have a limit
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &testBox{said: &lines{}, up: make(chan Up, 8), ended: make(chan error, 1)}
	b.Options = Options{
		Kind: compartment.Open, Run: dir + "/run", State: dir + "/state", BinDir: dir + "/bin", Domain: dir + "/domain.json",
		TPM: "unix:/nowhere", Module: dir + "/none", Release: "127.0.0.1:0", Health: "127.0.0.1:0",
		Say: func(line string) { b.said.say("%s", line) }, Output: b.said, pace: quick, Up: func(u Up) { b.up <- u },
		Reset: func(context.Context) error { return os.Remove(filepath.Join(dir, "state/tpm/ops")) },
	}
	must(t, os.MkdirAll(b.State+"/tpm", 0o700))
	must(t, os.Mkdir(b.BinDir, 0o755))
	for name, as := range map[string]string{"stage1": "stage1", "tpmd": "tpmd", "agent": "krad"} {
		must(t, os.Link(filepath.Join(programs, name), filepath.Join(b.BinDir, as)))
	}
	for _, as := range []string{"hsmd", "outboundd"} {
		must(t, os.Link(filepath.Join(programs, "agent"), filepath.Join(b.BinDir, as)))
	}
	j, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(b.State+"/tpm/script.json", j, 0o600))
	return b
}

// start runs the box until the test ends.
func (b *testBox) start(t *testing.T) *testBox {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() { b.ended <- Run(ctx, b.Options) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-b.ended:
		case <-time.After(20 * time.Second):
			t.Error("Run does not end")
		}
		if t.Failed() {
			t.Logf("said:\n%s", b.said)
		}
	})
	return b
}

func (b *testBox) awaitUp(t *testing.T) Up {
	t.Helper()
	select {
	case u := <-b.up:
		return u
	case err := <-b.ended:
		b.ended <- err
		t.Fatalf("Run ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the agent does not come up")
	}
	return Up{}
}

// ask sends a line to a stand-in and decodes its answer into out, if that is not nil.
func (b *testBox) ask(t *testing.T, socket, line string, out any) string {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(b.Run, socket+".sock"))
	must(t, err)
	defer c.Close()
	fmt.Fprintln(c, line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	must(t, err)
	if out != nil {
		must(t, json.Unmarshal([]byte(answer), out))
	}
	return strings.TrimSpace(answer)
}

// tell sends krad a line that may be its last: no answer is awaited.
func (b *testBox) tell(t *testing.T, line string) {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(b.Run, "admin.sock"))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	fmt.Fprintln(c, line)
}

// ops is what tpmd was asked since the last reset.
func (b *testBox) ops(t *testing.T) []string {
	t.Helper()
	o, err := os.ReadFile(b.State + "/tpm/ops")
	must(t, err)
	return strings.Fields(strings.ReplaceAll(string(o), " ", "-"))
}

// report is what a stand-in was started with.
type report struct {
	Args   []string
	Names  []string
	Secret string
	PID    int
}

// flag returns the value of a flag of the report.
func (r report) flag(name string) string {
	if i := slices.Index(r.Args, name); i >= 0 && i+1 < len(r.Args) {
		return r.Args[i+1]
	}
	return ""
}

// standInKeys are the digests of the keys derived from what the stand-in tpmd unseals.
func standInKeys(t *testing.T) (store, chain string) {
	t.Helper()
	o, err := wire.NewOpened([]byte(strings.Repeat("sealed", 10)[:32]), make([]byte, 32))
	must(t, err)
	s, c := wire.Derive(o)
	a, b := sha256.Sum256(s[:]), sha256.Sum256(c[:])
	return hex.EncodeToString(a[:]), hex.EncodeToString(b[:])
}

func TestFactoryBoxRunsWithoutKeys(t *testing.T) {
	b := newTestBox(t, script{State: wire.Factory}).start(t)
	u := b.awaitUp(t)
	if u.Mode != "factory" || u.Release != nil || u.Health != nil {
		t.Errorf("up = %+v", u)
	}
	var r report
	b.ask(t, "admin", "who", &r)
	if r.flag("-mode") != "factory" || r.Secret != "" || !slices.Equal(r.Names, []string{"admin", "enrol", "machine"}) {
		t.Errorf("krad was started as %+v", r)
	}
	if d := cmp.Diff([]string{"status", "extend-running"}, b.ops(t)); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(b.Run + "/hsm.sock"); err == nil {
		t.Error("hsmd's socket is there")
	}
}

func TestEnrolledBoxOpensBetweenItsStages(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	u := b.awaitUp(t)
	if u.Mode != "enrolled" || u.Release == nil || u.Health == nil {
		t.Errorf("up = %+v", u)
	}
	store, chain := standInKeys(t)
	var krad, hsmd report
	b.ask(t, "admin", "who", &krad)
	eventually(t, "hsmd", func() bool { return services(u)["hsmd"].State == machine.Ready })
	b.ask(t, "hsm", "who", &hsmd)
	if krad.Secret != store || !slices.Equal(krad.Names, []string{"admin", "release", "health", "secret", "machine"}) {
		t.Errorf("krad was started as %+v; want secret %s", krad, store)
	}
	if _, runs := services(u)["outboundd"]; runs || krad.flag("-outbound") != "" {
		t.Error("on a host, krad is told to ask outboundd")
	}
	if hsmd.Secret != chain || !slices.Equal(hsmd.Names, []string{"hsm", "secret"}) {
		t.Errorf("hsmd was started as %+v; want secret %s", hsmd, chain)
	}
	if d := cmp.Diff([]string{"status", "extend-open", "unseal", "extend-running"}, b.ops(t)); d != "" {
		t.Error(d)
	}
}

func services(u Up) map[string]machine.Service {
	m := map[string]machine.Service{}
	for _, s := range u.Status().Services {
		m[s.Name] = s
	}
	return m
}

// TestCrashedDaemonsGetTheirKeysAgain kills each daemon that holds a key: it comes back with the same key, and the TPM is asked
// for nothing.
func TestCrashedDaemonsGetTheirKeysAgain(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	u := b.awaitUp(t)
	store, chain := standInKeys(t)
	for name, want := range map[string]string{"krad": store, "hsmd": chain, "tpmd": ""} {
		eventually(t, name, func() bool { return services(u)[name].State == machine.Ready })
		kill(t, services(u)[name].PID)
		eventually(t, name+" again", func() bool { s := services(u)[name]; return s.Restarts == 1 && s.State == machine.Ready })
		if want == "" {
			continue
		}
		var r report
		b.ask(t, map[string]string{"krad": "admin", "hsmd": "hsm"}[name], "who", &r)
		if r.Secret != want {
			t.Errorf("%s came back with key %s; want %s", name, r.Secret, want)
		}
	}
	if n := len(b.ops(t)); n != 4 {
		t.Errorf("the TPM was asked %d times; want 4: %q", n, b.ops(t))
	}
}

// TestEveryRefusalLocks makes each step fail: the box serves nothing, says why, and no key is left.
func TestEveryRefusalLocks(t *testing.T) {
	for name, c := range map[string]struct {
		script script
		fault  string
		reason string
		last   string // request to the TPM
	}{
		"inconsistent":       {script: script{State: wire.Inconsistent, Reason: "record without state"}, reason: "record without state", last: "extend-locked"},
		"status refused":     {script: script{State: wire.Enrolled, Refuse: map[string]string{"status": "no"}}, reason: "ask the TPM: ", last: "extend-locked"},
		"open refused":       {script: script{State: wire.Enrolled, Refuse: map[string]string{"extend open": "no"}}, reason: "extend stage open", last: "extend-locked"},
		"unseal refused":     {script: script{State: wire.Enrolled, Refuse: map[string]string{"unseal": "PCR 11 is a, v1 expects b"}}, reason: "PCR 11 is a, v1 expects b", last: "extend-locked"},
		"running refused":    {script: script{State: wire.Enrolled, Refuse: map[string]string{"extend running": "no"}}, reason: "extend stage running", last: "extend-locked"},
		"dies before unseal": {script: script{State: wire.Enrolled, Die: map[string]string{"unseal": "before"}}, reason: "unseal", last: "extend-locked"},
		"dies after unseal":  {script: script{State: wire.Enrolled, Die: map[string]string{"unseal": "after"}}, reason: "unseal", last: "extend-locked"},
		"dies at running":    {script: script{State: wire.Enrolled, Die: map[string]string{"extend running": "before"}}, reason: "extend stage running", last: "extend-locked"},
		"dies past running":  {script: script{State: wire.Enrolled, Die: map[string]string{"extend running": "after"}}, reason: "extend stage running", last: "extend-locked"},
		"fault":              {script: script{State: wire.Enrolled}, fault: "there is no state partition", reason: "there is no state partition", last: "extend-locked"},
		"lock refused":       {script: script{State: wire.Inconsistent, Reason: "x", Refuse: map[string]string{"extend locked": "no"}}, reason: "the TPM's daemon is stopped", last: "status"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBox(t, c.script)
			b.Fault = c.fault
			b.start(t)
			u := b.awaitUp(t)
			if u.Mode != "locked" || !strings.Contains(u.Reason, c.reason) || u.Release != nil {
				t.Errorf("up = %+v; want the reason %q", u, c.reason)
			}
			wantLocked(t, b, c.reason)
			if ops := b.ops(t); ops[len(ops)-1] != c.last {
				t.Errorf("TPM was asked %q; want %q last", ops, c.last)
			}
			if _, runs := services(u)["tpmd"]; runs != (c.last == "extend-locked") {
				t.Errorf("tpmd runs = %v", runs)
			} else if !runs {
				wantHungUp(t, b)
			}
		})
	}
}

// TestUnapprovedIsMaintenance: where nothing that was measured is approved, the box goes to maintenance instead of open. Nothing is
// unsealed, no port is there, and krad is given no key.
func TestUnapprovedIsMaintenance(t *testing.T) {
	const why = "PCR 0 (firmware): expected a, found b"
	b := newTestBox(t, script{State: wire.Enrolled, Unapproved: why}).start(t)
	u := b.awaitUp(t)
	if u.Mode != "maintenance" || u.Reason != why || u.Release != nil || u.Health != nil {
		t.Errorf("up = %+v", u)
	}
	wantMaintenance(t, b, why)
}

func wantMaintenance(t *testing.T, b *testBox, reason string) {
	t.Helper()
	var r report
	b.ask(t, "admin", "who", &r)
	if r.flag("-mode") != "maintenance" || !strings.Contains(r.flag("-reason"), reason) || r.Secret != "" || !slices.Equal(r.Names, []string{"admin", "machine"}) {
		t.Errorf("krad was started as %+v", r)
	}
	if d := cmp.Diff([]string{"status", "extend-maintenance"}, b.ops(t)); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(b.Run + "/hsm.sock"); err == nil {
		t.Error("hsmd's socket is there")
	}
	if !strings.Contains(b.said.String(), "maintenance: ") {
		t.Errorf("the screen does not say it:\n%s", b.said)
	}
}

// TestPreloadedApprovals: what lies on the boot partition goes to tpmd before anything is decided. A box without, with a boot partition that
// cannot be read, or with approvals that tpmd refuses, boots as ever.
func TestPreloadedApprovals(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		err    error
		refuse map[string]string
		ops    []string
		said   string
	}{
		"some":       {text: "fleet", ops: []string{"preload-fleet", "status", "extend-open", "unseal", "extend-running"}, said: "2 are new"},
		"none":       {err: fs.ErrNotExist, ops: []string{"status", "extend-open", "unseal", "extend-running"}},
		"unreadable": {err: errors.New("broken cluster chain"), ops: []string{"status", "extend-open", "unseal", "extend-running"}, said: "broken cluster chain"},
		"refused": {text: "forged", refuse: map[string]string{"preload forged": "not signed by the domain"}, ops: []string{"status", "extend-open", "unseal", "extend-running"},
			said: "not signed by the domain"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBox(t, script{State: wire.Enrolled, Refuse: c.refuse})
			b.Preloaded = func() ([]byte, error) { return []byte(c.text), c.err }
			b.start(t)
			if u := b.awaitUp(t); u.Mode != "enrolled" {
				t.Errorf("up = %+v", u)
			}
			if d := cmp.Diff(c.ops, b.ops(t)); d != "" {
				t.Error(d)
			}
			if !strings.Contains(b.said.String(), c.said) {
				t.Errorf("the screen lacks %q:\n%s", c.said, b.said)
			}
		})
	}
}

// TestOfficerAsksForMaintenance: the word counts for one boot, also when the disk cannot forget it.
func TestOfficerAsksForMaintenance(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	if u := b.awaitUp(t); u.Mode != "enrolled" {
		t.Fatalf("up = %+v", u)
	}
	b.tell(t, "maintenance")
	if u := b.awaitUp(t); u.Mode != "maintenance" || !strings.Contains(u.Reason, "an officer asked for it") {
		t.Fatalf("up = %+v", u)
	}
	wantMaintenance(t, b, "an officer asked for it")
	b.tell(t, "reboot")
	if u := b.awaitUp(t); u.Mode != "enrolled" {
		t.Errorf("the restart after maintenance: %+v", u)
	}
	must(t, os.MkdirAll(filepath.Join(b.State, maintenanceFile, "cannot be removed"), 0o700))
	b.tell(t, "reboot")
	if u := b.awaitUp(t); u.Mode != "maintenance" || !strings.Contains(u.Reason, "until the disk can be written") {
		t.Errorf("a word that cannot be taken back: %+v", u)
	}
}

// TestMaintenanceThatFailsLocks: a box that cannot reach the stage is locked, and never open.
func TestMaintenanceThatFailsLocks(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled, Unapproved: "x", Refuse: map[string]string{"extend maintenance": "no"}}).start(t)
	if u := b.awaitUp(t); u.Mode != "locked" || !strings.Contains(u.Reason, "extend stage maintenance") {
		t.Errorf("up = %+v", u)
	}
	wantLocked(t, b, "extend stage maintenance")
	if d := cmp.Diff([]string{"status", "extend-locked"}, b.ops(t)); d != "" {
		t.Error(d)
	}
}

// wantLocked asserts that the krad that runs was told the reason and given nothing.
func wantLocked(t *testing.T, b *testBox, reason string) {
	t.Helper()
	var r report
	b.ask(t, "admin", "who", &r)
	if r.flag("-mode") != "locked" || !strings.Contains(r.flag("-reason"), reason) || r.Secret != "" {
		t.Errorf("krad was started as %+v", r)
	}
	if !slices.Equal(r.Names, []string{"admin", "machine"}) {
		t.Errorf("a locked krad inherited %q", r.Names)
	}
	if !strings.Contains(b.said.String(), "locked: ") || !strings.Contains(b.said.String(), reason) {
		t.Errorf("the screen does not say %q:\n%s", reason, b.said)
	}
	if _, err := os.Stat(b.Run + "/hsm.sock"); err == nil {
		t.Error("hsmd's socket is there")
	}
}

// wantHungUp asserts that krad is not kept waiting for a TPM's daemon that will not come.
func wantHungUp(t *testing.T, b *testBox) {
	t.Helper()
	c, err := wire.Dial(b.Run + "/tpm.sock")
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Status(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("Status = %v after %v", err, ctx.Err())
	}
}

// TestLockOfARunningBox: krad finds the state rolled back and asks for the lock.
func TestLockOfARunningBox(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	u := b.awaitUp(t)
	port := u.Release.String()
	eventually(t, "hsmd", func() bool { return services(u)["hsmd"].State == machine.Ready })
	hsmd := services(u)["hsmd"].PID
	b.tell(t, "lock state is older than the record")
	u = b.awaitUp(t)
	if u.Mode != "locked" || u.Reason != "state is older than the record" {
		t.Errorf("up = %+v", u)
	}
	wantLocked(t, b, "state is older than the record")
	if alive(hsmd) {
		t.Error("hsmd still runs")
	}
	if c, err := net.Dial("tcp", port); err == nil {
		c.Close()
		t.Error("the release port is still open")
	}
	want := []string{"status", "extend-open", "unseal", "extend-running", "extend-locked"}
	if d := cmp.Diff(want, b.ops(t)); d != "" {
		t.Error(d)
	}
	if s := u.Status(); s.Mode != "locked" || s.Stage != "locked" {
		t.Errorf("status = %+v", s)
	}
}

// TestLockBeforeReady: krad judges the state while it starts, and is not ready then.
func TestLockBeforeReady(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled})
	must(t, os.MkdirAll(b.State+"/krad", 0o700))
	must(t, os.WriteFile(b.State+"/krad/lock-at-start", nil, 0o600))
	b.start(t)
	for u := b.awaitUp(t); u.Mode != "locked"; u = b.awaitUp(t) {
	}
	wantLocked(t, b, "found at the start")
}

func TestRebootStartsOverAndPowerOffEnds(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	u := b.awaitUp(t)
	was := services(u)["krad"].PID
	b.ask(t, "admin", "reboot", nil)
	u = b.awaitUp(t)
	if u.Mode != "enrolled" || alive(was) || services(u)["krad"].PID == was {
		t.Errorf("after a reboot: %+v, krad %d alive = %v", u, was, alive(was))
	}
	if d := cmp.Diff([]string{"status", "extend-open", "unseal", "extend-running"}, b.ops(t)); d != "" {
		t.Errorf("ops after the reset: %s", d)
	}
	b.ask(t, "admin", "poweroff", nil)
	err := <-b.ended
	b.ended <- err
	if err != nil {
		t.Errorf("Run after power off = %v", err)
	}
	if ops := b.ops(t); ops[len(ops)-1] != "stop" {
		t.Errorf("tpmd was not stopped in order: %q", ops)
	}
}

// TestHostKeepsClockAndNetwork: a host's clock may be vouched for where it is right, and neither is set.
func TestHostKeepsClockAndNetwork(t *testing.T) {
	b := newTestBox(t, script{State: wire.Factory}).start(t)
	b.awaitUp(t)
	if got := b.ask(t, "admin", "clock", nil); got != `"ok"` {
		t.Errorf("clock = %s", got)
	}
	for line, what := range map[string]string{"wrong-clock": "clock", "network": "network"} {
		if got := b.ask(t, "admin", line, nil); !strings.Contains(got, what+" of this host is not the agent's") {
			t.Errorf("%s = %s", line, got)
		}
	}
	var s machine.Status
	b.ask(t, "admin", "status", &s)
	if s.Mode != "factory" || s.Stage != "running" || len(s.Services) != 2 {
		t.Errorf("status = %+v", s)
	}
}

// TestTurn: krad is started with the key that the TPM's half gives, also when the TPM's daemon dies while it takes the half; a refusal leaves the
// key of before.
func TestTurn(t *testing.T) {
	for name, c := range map[string]struct {
		script script
		ok     bool
	}{
		"taken":       {script{State: wire.Enrolled}, true},
		"dies before": {script{State: wire.Enrolled, Die: map[string]string{"half": "before"}}, true},
		"dies after":  {script{State: wire.Enrolled, Die: map[string]string{"half": "after"}}, true},
		"refused":     {script{State: wire.Enrolled, Refuse: map[string]string{"half": "RC_POLICY_FAIL"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBox(t, c.script).start(t)
			b.awaitUp(t)
			var before report
			b.ask(t, "admin", "who", &before)
			var next string
			b.ask(t, "admin", "renew", &next)
			said := b.ask(t, "admin", "turn", nil)
			if ok := said == `"ok"`; ok != c.ok || !ok && !strings.Contains(said, "RC_POLICY_FAIL") {
				t.Errorf("turn = %s", said)
			}
			want := next
			if !c.ok {
				want = before.Secret
			}
			if r := b.again(t, before); r.Secret != want || next == before.Secret {
				t.Errorf("krad is started with %s; before it was %s, and next %s", r.Secret, before.Secret, next)
			}
		})
	}
}

// TestTurnInDoubt: when the TPM's daemon dies over a half and the next one refuses it, nobody knows which half the TPM has: no krad is started with
// either key, and the box finds out by starting again.
func TestTurnInDoubt(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled, Die: map[string]string{"half": "before"}, Refuse: map[string]string{"half": "RC_VALUE"}}).start(t)
	b.awaitUp(t)
	b.ask(t, "admin", "renew", nil)
	b.tell(t, "turn")
	b.awaitUp(t)
	if !strings.Contains(b.said.String(), "nobody knows which half") {
		t.Errorf("the screen does not say why:\n%s", b.said)
	}
}

// TestUnlockedStaysSo: a krad that starts again in the same boot has the key that the unlock secret makes; the next boot has not.
func TestUnlockedStaysSo(t *testing.T) {
	b := newTestBox(t, script{State: wire.Enrolled}).start(t)
	b.awaitUp(t)
	var before report
	b.ask(t, "admin", "who", &before)
	var unlocked string
	b.ask(t, "admin", "unlock", &unlocked)
	if r := b.again(t, before); r.Secret != unlocked || unlocked == before.Secret {
		t.Errorf("krad is started with %s; before it was %s, unlocked it is %s", r.Secret, before.Secret, unlocked)
	}
	b.tell(t, "reboot")
	b.awaitUp(t)
	var r report
	b.ask(t, "admin", "who", &r)
	if r.Secret != before.Secret {
		t.Error("a boot has another key than the one before it had before it was unlocked")
	}
}

// again kills krad and returns what the next one was started with.
func (b *testBox) again(t *testing.T, was report) (r report) {
	t.Helper()
	kill(t, was.PID)
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(b.Run, "admin.sock"))
		must(t, err)
		fmt.Fprintln(c, "who")
		answer, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if err == nil && json.Unmarshal([]byte(answer), &r) == nil && r.PID != was.PID {
			return r
		}
	}
	t.Fatal("krad does not come again")
	return r
}

// rack is hardware that remembers what it was asked.
type rack struct{ asked lines }

func (r *rack) SetClock(t time.Time) error         { r.asked.say("clock"); return nil }
func (r *rack) AdjustClock(by time.Duration) error { r.asked.say("adjust %s", by); return nil }
func (r *rack) SetNetwork(_ context.Context, n machine.Network) error {
	r.asked.say("network %s", n.Mode)
	return nil
}
func (r *rack) Ports() ([]machine.Port, string) { return nil, "fine" }

// TestNetworkFollowsTheMode: only an enrolled box is on the network; it is by itself, until krad says otherwise.
func TestNetworkFollowsTheMode(t *testing.T) {
	b, r := newTestBox(t, script{State: wire.Enrolled}), &rack{}
	b.Hardware = r
	b.start(t)
	u := b.awaitUp(t)
	if got := r.asked.String(); got != "network dhcp\n" {
		t.Errorf("an enrolled box asked for %q", got)
	}
	if u.Status().Network != "fine" {
		t.Errorf("status = %+v", u.Status())
	}
	wantOutbound(t, b, u)
	b.tell(t, "lock for a test")
	b.awaitUp(t)
	if got := r.asked.String(); got != "network dhcp\nnetwork off\n" {
		t.Errorf("a box that is locked asked for %q", got)
	}
	if _, err := os.Stat(b.Run + "/outbound.sock"); err == nil {
		t.Error("a locked box has a way out")
	}
	if got := b.ask(t, "admin", "network", nil); !strings.Contains(got, "a locked box has no network") {
		t.Errorf("network of a locked box = %s", got)
	}
	b.ask(t, "admin", "clock", nil)
	if !strings.HasSuffix(r.asked.String(), "clock\n") {
		t.Errorf("asked %q", &r.asked)
	}
}

// wantOutbound asserts that krad was told of its way out, which has nothing but its socket.
func wantOutbound(t *testing.T, b *testBox, u Up) {
	t.Helper()
	var krad, out report
	b.ask(t, "admin", "who", &krad)
	eventually(t, "outboundd", func() bool { return services(u)["outboundd"].State == machine.Ready })
	b.ask(t, "outbound", "who", &out)
	if krad.flag("-outbound") != b.Run+"/outbound.sock" || out.flag("-names") != b.Run+"/names" {
		t.Errorf("krad was started as %+v, outboundd as %+v", krad, out)
	}
	if out.Secret != "" || !slices.Equal(out.Names, []string{"outbound"}) {
		t.Errorf("outboundd was given %q", out.Names)
	}
}

func TestFactoryAndLockedBoxesHaveNoNetwork(t *testing.T) {
	for _, state := range []wire.State{wire.Factory, wire.Inconsistent} {
		b, r := newTestBox(t, script{State: state}), &rack{}
		b.Hardware = r
		b.start(t)
		b.awaitUp(t)
		if got := r.asked.String(); got != "" {
			t.Errorf("%s: asked for %q", state, got)
		}
		if _, err := os.Stat(b.Run + "/outbound.sock"); err == nil {
			t.Errorf("%s: there is a way out", state)
		}
	}
}
