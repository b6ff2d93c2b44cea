package qemu_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/qemu"
)

var (
	cuts  = flag.Int("cuts", 3, "how often TestBoxPowerCuts cuts the power of each box")
	boxes = flag.Int("boxes", 1, "how many boxes TestBoxPowerCuts works with, side by side")
)

// A laborer works at the console of a box whose power is cut, and knows what he was told.
type laborer struct {
	*guest
	disk *qemu.Volatile
	dice *rand.Rand
	keys int    // made and acknowledged
	team string // that the last one was made for: one has 256 at most

	access, rules []string // made and acknowledged
	begun         string   // what was begun last, if nobody knows what became of it
	backup        string   // when the last one was made that open has seen
	backedUp      bool     // since then, and acknowledged
	backups       int

	lost int // sectors
}

// open starts the box and looks for all that was acknowledged.
func (w *laborer) open(s *inService) error {
	w.disk.Power()
	if err := w.up("enrolled"); err != nil {
		return err
	}
	if err := w.decrypt(s); err != nil {
		return fmt.Errorf("a key of before: %w", err)
	}
	if err := w.login(); err != nil {
		return err
	}
	shown := map[string]string{}
	for _, line := range []string{"access list", "rule list", "system secrets", "status", "backup show"} {
		out, err := w.operator.Do(line)
		if err != nil {
			return err
		}
		shown[line] = spaces.ReplaceAllString(out, " ")
	}
	for _, a := range w.access {
		if !strings.Contains(shown["access list"], a) {
			return fmt.Errorf("access identifier %s, which was acknowledged, is gone:\n%s", a, shown["access list"])
		}
	}
	for _, r := range w.rules {
		if !strings.Contains(shown["rule list"], r) {
			return fmt.Errorf("rule %s, which was acknowledged, is gone:\n%s", r, shown["rule list"])
		}
	}
	// The inventory holds token and state against each other, and refuses if one has a key that the other has not.
	m := keysLine.FindStringSubmatch(shown["status"])
	if m == nil || !strings.Contains(shown["system secrets"], "in all") {
		return fmt.Errorf("state and token disagree:\n%s\n%s", shown["status"], shown["system secrets"])
	}
	last := lastBackup.FindString(shown["backup show"])
	if w.backedUp && last == w.backup {
		return fmt.Errorf("a backup was acknowledged, and after it the box knows of %q", last)
	}
	w.backup, w.backedUp = last, false
	found := 0
	fmt.Sscan(m[1], &found)
	if found < w.keys || found > w.keys+1 || found > w.keys && !strings.HasPrefix(w.begun, "key ") {
		return fmt.Errorf("%d keys; %d were acknowledged, and %q was begun", found, w.keys, w.begun)
	}
	w.keys = found
	return nil
}

var keysLine = regexp.MustCompile(`generation [0-9]+: .*?([0-9]+) keys?,`)

var lastBackup = regexp.MustCompile(`last backup \S+ \S+`)

// backupKey gives the box a key that backups are made for.
func (w *laborer) backupKey() error {
	if _, err := w.operator.Do("backup key shares 2 of 2", "yes"); err != nil {
		return err
	}
	request := ""
	for range 2 {
		share, err := w.operator.Do("backup key next")
		if err != nil {
			return err
		}
		if request, err = w.operator.Do("backup share", strings.Join(shareLine.FindAllString(strings.ReplaceAll(share, "\r", ""), -1), "\n")); err != nil {
			return err
		}
	}
	approved, err := w.lab.desk.ApproveBackupKey([]byte(request))
	if err != nil {
		return err
	}
	return w.operator.Must("approved", "backup key accept", string(approved))
}

// newest is the access identifier that was made last.
func (w *laborer) newest() string {
	if len(w.access) == 0 {
		return w.team
	}
	return w.access[len(w.access)-1]
}

// labor makes changes until the power is cut, and notes those that the console has acknowledged.
func (w *laborer) labor(n int) error {
	for i := 0; ; i++ {
		name := fmt.Sprintf("n%dx%d", n, i)
		var want string
		switch w.dice.IntN(6) {
		case 0:
			w.begun, want = "access add "+name, "was made"
		case 1:
			w.begun, want = "rule add "+name+" group counsel", "was made"
		case 2:
			w.begun, want = "key generate p256 for "+w.newest(), "was made"
		case 3:
			w.begun, want = "key rotate "+w.team, "current key"
		case 4:
			w.begun, want = "backup make", "END KRA BACKUP"
		default:
			w.begun, want = "boot renew", "Renewed"
		}
		var answers []string
		if w.begun == "boot renew" || w.begun == "backup make" {
			answers = []string{"yes"}
		}
		if err := w.operator.Must(want, w.begun, answers...); err != nil {
			return err
		}
		switch verb, _, _ := strings.Cut(w.begun, " "); verb {
		case "access":
			w.access = append(w.access, name)
		case "rule":
			w.rules = append(w.rules, name)
		case "key":
			w.keys++
			w.team = w.begun[strings.LastIndexByte(w.begun, ' ')+1:]
		case "backup":
			w.backedUp = true
			w.backups++
		}
		w.begun = ""
	}
}

// cutWhileLaboring cuts the power of box, TPM and disk at a moment that nobody chose: with a write of the disk, or at any time.
func (w *laborer) cutWhileLaboring(t *testing.T, n int) {
	t.Helper()
	if n == 0 {
		if err := w.backupKey(); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(w.dice.Uint64(), w.dice.Uint64()))
	var blown <-chan qemu.Loss
	var moment <-chan time.Time
	when := ""
	if w.dice.IntN(4) == 0 {
		wait := w.lab.host.Idle(time.Duration(500+w.dice.IntN(2000)) * time.Millisecond)
		moment, when = time.After(wait), wait.Round(time.Millisecond).String()
	} else {
		writes := w.dice.IntN(300)
		blown, when = w.disk.CutAfter(writes, r, 0.5), fmt.Sprintf("%d writes", writes)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.labor(n) }()
	var loss qemu.Loss
	select {
	case loss = <-blown:
	case <-moment:
		loss.Sectors, loss.Err = w.disk.Cut(r, 0.5)
	case err := <-ended:
		select {
		case loss = <-blown: // which is what ended it
			ended <- nil
		default:
			t.Fatalf("before the cut: %v", err)
		}
	}
	if loss.Err != nil {
		t.Fatal(loss.Err)
	}
	w.machine.Cut()
	<-ended // what was on the line before the cut was acknowledged
	w.lost += loss.Sectors
	t.Logf("cut %d after %s, during %q: %d sectors lost; %d access identifiers, %d rules, %d keys, %d backups acknowledged", n, when, w.begun, loss.Sectors, len(w.access), len(w.rules), w.keys, w.backups)
}

// newLaborer is at a box whose programs are the product's, or have edits.
func newLaborer(t *testing.T, seed uint64, edits func(tree string)) (*laborer, *inService) {
	t.Helper()
	g, s := copyOf(t)
	if edits != nil {
		tree, commit := clone(t)
		edits(tree)
		g.install(t, tree, commit, "v0.1.8")
	}
	w := &laborer{guest: g, dice: rand.New(rand.NewPCG(7, seed)), keys: 1, team: "legal-team"}
	var err error
	if w.disk, err = qemu.NewVolatile(g.box.Disk()); err != nil {
		t.Fatal(err)
	}
	g.drive = w.disk.Drive()
	t.Cleanup(func() {
		g.cut()
		if err := w.disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, s
}

// TestBoxPowerCuts cuts the power of a box that is being administered, at random moments, and of its disk, which loses at random what was not
// flushed. The box always comes up; what the console acknowledged is there, token and state agree on every key, and it releases.
func TestBoxPowerCuts(t *testing.T) {
	for n := range *boxes {
		t.Run(fmt.Sprint("box", n+1), func(t *testing.T) { powerCuts(t, uint64(n)) })
	}
}

func powerCuts(t *testing.T, seed uint64) {
	w, s := newLaborer(t, seed, nil)
	for n := range *cuts {
		if err := w.open(s); err != nil {
			t.Fatalf("after %d cuts: %v", n, err)
		}
		w.cutWhileLaboring(t, n)
	}
	if err := w.open(s); err != nil {
		t.Fatalf("after the last cut: %v", err)
	}
	if *cuts >= 10 && w.lost == 0 {
		t.Error("control: no cut has cost a sector")
	}
	if w.disk.Flushes() == 0 || len(w.access)+len(w.rules)+w.keys+w.backups < 2 {
		t.Errorf("control: %d flushes, %d changes", w.disk.Flushes(), len(w.access)+len(w.rules)+w.keys+w.backups)
	}
}

// TestBoxPowerCutsAreSeen is the control: with an agent that is the product's but for one call, the fdatasync of the log, the same cuts do not pass.
func TestBoxPowerCutsAreSeen(t *testing.T) {
	w, s := newLaborer(t, 0, func(tree string) {
		file := filepath.Join(tree, "appliance", "audit", "disk.go")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const sync = "unix.Fdatasync(int(f.Fd()))"
		edited := strings.Replace(string(text), sync, "error(nil)", 1)
		if edited == string(text) {
			t.Fatalf("%s has no %s", file, sync)
		}
		if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for n := range 3 {
		if err := w.open(s); err != nil {
			if n == 0 {
				t.Fatal(err)
			}
			t.Logf("as it should be: %v", firstLine(err))
			return
		}
		w.cutWhileLaboring(t, n)
	}
	if err := w.open(s); err == nil {
		t.Error("a log that is not synced passes")
	}
}

func firstLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	return lines[slices.IndexFunc(lines, func(l string) bool { return l != "" })]
}
