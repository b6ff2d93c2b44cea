package qemu_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/transcript"
	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/qemu"
)

// manualOfficer is the officer of the manual's transcripts.
const manualOfficer = "olga"

// exitRefused is kra's exit code when the agent does not release the key.
const exitRefused = 3

// A rack is where the manual's transcripts are played: a machine at whose serial line somebody sits, and a folder on another machine.
type rack struct {
	t   *testing.T
	dir string // the folder
	bin string // of the programs that are used there
	box string // folder of the machine
	g   *guest
}

// newRack has in its folder what the manual says is there.
func newRack(t *testing.T) *rack {
	t.Helper()
	r := &rack{t: t, dir: t.TempDir(), bin: t.TempDir()}
	if out, err := exec.Command("go", "build", "-o", r.bin+"/", "../kra/cmd/kra", "../image/cmd/domain").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	manifest, err := os.ReadFile(filepath.Join(*dist, image.FileManifest))
	if err := errors.Join(err, os.CopyFS(filepath.Join(r.dir, "domain"), os.DirFS(*domain)), r.Write("kra.json", string(manifest)),
		r.Write("olga.txt", passphrase+"\n"), r.Write("contract.txt", "what was agreed\n")); err != nil {
		t.Fatal(err)
	}
	return r
}

// machine puts another new box into the rack and switches it on.
func (r *rack) machine(l *lab) {
	r.t.Helper()
	r.g, r.box = &guest{lab: l, stick: filepath.Join(r.dir, "stick"), disk: []string{"nvme,drive=disk,serial=kra", "nvme,drive=stick,serial=4C530001"}}, r.t.TempDir()
	f, err := os.OpenFile(r.g.stick, os.O_CREATE|os.O_WRONLY, 0o600) // what is on it stays
	if err := errors.Join(err, f.Truncate(8<<20), f.Close()); err != nil {
		r.t.Fatal(err)
	}
	if r.g.box, err = qemu.NewBox(r.box, filepath.Join(*dist, image.FileDisk), l.keys); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.g.cut)
	if err := r.g.up("factory"); err != nil {
		r.t.Fatal(err)
	}
}

// lost leaves nothing of the box.
func (r *rack) lost() {
	r.t.Helper()
	r.g.cut()
	if err := os.RemoveAll(r.box); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rack) At(who, line string, restarts bool, answers []string) (string, error) {
	r.t.Logf("%s> %s", who, line)
	if !restarts {
		return r.g.operator.Do(line, answers...)
	}
	if err := r.g.operator.Leave(line, answers...); err != nil {
		return "", err
	}
	if err := r.g.restarted(); err != nil {
		return "", err
	}
	return r.g.greeting.Text, errors.Join(r.g.mode("enrolled"), r.g.operator.Login(manualOfficer, passphrase))
}

// Run repeats what finds the port closed, which opens a moment after the console.
func (r *rack) Run(who, line string) (string, error) {
	r.t.Logf("%s$ %s", who, line)
	people := filepath.Join(r.dir, "domain", "people", who)
	deadline := time.Now().Add(r.g.lab.host.Scale(anyMoment))
	for {
		c := exec.Command("sh", "-c", line)
		c.Dir = r.dir
		c.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"), "KRA_URL=https://"+r.g.machine.Addr(releasePort), "KRA_ROOT=domain/root.pem",
			"KRA_CERT="+people+".pem", "KRA_KEY="+people+".key")
		if _, err := os.Stat(people + ".pem"); err != nil {
			c.Env = c.Env[:len(c.Env)-2]
		}
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return string(out), nil
		case errors.As(err, &exit) && exit.ExitCode() == exitRefused:
			return string(out), transcript.ErrRefused
		case who == "desk" || time.Now().After(deadline):
			return string(out), errors.Join(err, errors.New(string(out)))
		}
		time.Sleep(time.Second)
	}
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
	text, err := os.ReadFile("../console/MANUAL.md")
	if err != nil {
		r.t.Fatal(err)
	}
	steps, err := transcript.Parse(string(text), name)
	if err != nil {
		r.t.Fatal(err)
	}
	// other names than the manual's: the domain may have a box of that name by now, on which the evaluation was made
	if err := transcript.Play(steps, r, map[string]string{"box1": "rack1", "box2": "rack2", "sdb": "nvme1n1"}); err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
}

// same wants two files to be one text.
func (r *rack) same(a, b string) {
	r.t.Helper()
	x, errX := r.Read(a)
	y, errY := r.Read(b)
	if errX != nil || errY != nil || x != y {
		r.t.Errorf("%s is %q, %s is %q; %v %v", a, x, b, y, errX, errY)
	}
}

// TestBoxManual plays the manual's transcripts over the serial line, and nothing else: a box from the crate to its first released key, and its
// backup, pasted and on a second disk. Then disk, TPM and firmware of it are no more. Another box of its domain gets the printed backup and
// two of three shares typed in, and releases by the lost one's rules what was encrypted to the lost one's key.
func TestBoxManual(t *testing.T) {
	t.Parallel()
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	r := newRack(t)
	r.machine(l)
	r.plays("crate")
	r.same("contract.txt", "opened.txt")
	r.plays("backup")
	r.plays("stick")
	r.lost()
	r.machine(l)
	r.plays("loss")
	r.same("contract.txt", "opened-again.txt")
	if _, err := r.Read("not-for-bob.txt"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused request left a file: %v", err)
	}
}
