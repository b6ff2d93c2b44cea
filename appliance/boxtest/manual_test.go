package boxtest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/console/transcript"
)

// A rack is where the manual's transcripts are played: a box on this host, and a folder on another machine.
type rack struct {
	t        *testing.T
	b        *boxtest.Box
	dir, bin string
}

func (r *rack) At(who, line string, restarts bool, answers []string) (string, error) {
	shown, failure := r.b.Try(line)
	for n := range answers { // one after the other, as the console does it
		if strings.HasPrefix(failure, "asks ") {
			shown, failure = r.b.Try(line, answers[:n+1]...)
		}
	}
	if failure != "" {
		return shown, errors.New(failure)
	}
	if restarts {
		if up := r.b.Wait(); up.Mode != "enrolled" {
			return shown, errors.New(up.Reason)
		}
		r.b.LoginAs("olga", "the passphrase of olga")
	}
	return shown, nil
}

// Run: a server without measured boot has no registers that a build predicts.
func (r *rack) Run(who, line string) (string, error) {
	people := filepath.Join(r.dir, "domain", "people", who)
	c := exec.Command("sh", "-c", strings.Replace(line, "-firmware-as-seen", "-as-observed", 1))
	c.Dir = r.dir
	c.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"), "KRA_ROOT=domain/root.pem", "KRA_CERT="+people+".pem", "KRA_KEY="+people+".key")
	if who != "desk" {
		c.Env = append(c.Env, "KRA_URL=https://"+r.b.Up().Release.String())
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return string(out), transcript.ErrRefused
	}
	if err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return string(out), nil
}

func (r *rack) Read(file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, file))
	return string(b), err
}

func (r *rack) Write(file, text string) error {
	return os.WriteFile(filepath.Join(r.dir, file), []byte(text), 0o600)
}

// plays plays a transcript of the manual.
func (r *rack) plays(name string) {
	r.t.Helper()
	text, err := os.ReadFile("../../console/MANUAL.md")
	if err != nil {
		r.t.Fatal(err)
	}
	steps, err := transcript.Parse(string(text), name)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := transcript.Play(steps, r, map[string]string{}); err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
}

// holds wants a text in a file.
func (r *rack) holds(file, want string) {
	r.t.Helper()
	if got, err := r.Read(file); err != nil || got != want {
		r.t.Errorf("%s is %q, %v; want %q", file, got, err, want)
	}
}

// stick is a disk that the manual's officers plug in: a file behind the code of process 1.
var stick = diskstest.Disk{Name: "sdb", Model: "Ultra", Serial: "4C530001", Size: 4 << 20}

// TestManual plays the manual's transcripts: a box from the crate to its first released key, its backup, and its total loss. Another box of
// its domain opens, with two of three shares, what was encrypted to the lost one's key.
func TestManual(t *testing.T) {
	r := &rack{t: t, b: boxtest.New(t), dir: t.TempDir(), bin: t.TempDir()}
	if out, err := exec.Command("go", "build", "-o", r.bin+"/", "github.com/keyrelease/krabox/kra/cmd/kra", "github.com/keyrelease/krabox/image/cmd/domain").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := errors.Join(os.Symlink(r.b.Domain, filepath.Join(r.dir, "domain")), r.Write("kra.json", `{"version":"v0.0.1","epoch":1,"commit":"test"}`),
		r.Write("olga.txt", "the passphrase of olga\n"), r.Write("contract.txt", "what was agreed\n")); err != nil {
		t.Fatal(err)
	}
	r.plays("crate")
	r.holds("opened.txt", "what was agreed\n")
	r.plays("backup")
	r.b.Disks.Plug(stick)
	r.plays("stick")
	file := r.b.Disks.File(stick.Name)
	r.b.Stop()
	lost := r.b
	r.b = lost.Beside("box2")
	r.plays("loss")
	r.holds("opened-again.txt", "what was agreed\n")
	if _, err := r.Read("not-for-bob.txt"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused request left a file: %v", err)
	}
	r.b.Stop()
	r.b = lost.Another("box3")
	if err := os.Rename(file, r.b.Disks.Plug(stick)); err != nil {
		t.Fatal(err)
	}
	r.plays("stick-loss")
}
