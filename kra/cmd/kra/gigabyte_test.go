package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

var gigabytes = flag.Int("gigabytes", 0, "how much TestGigabyte pipes through; 0 is 256 MiB")

// maxGrowth is how much more memory, in KiB, a process may use for a big file than for a
// small one. A child's maximum starts at what its parent had when it was forked, so the
// parent keeps nothing big.
const maxGrowth = 16 << 10

// rounds is how often both are run, in turns. Who begins alternates.
const rounds = 5

// TestGigabyte pipes a file through kra encrypt | kra decrypt and through stock age,
// prints the ratio of their speeds, and holds the memory of both kra processes to what
// a small file needs.
func TestGigabyte(t *testing.T) {
	n := int64(*gigabytes) << 30
	if n == 0 {
		n = 256 << 20
	}
	w := newWorld(t).built()
	small, big := w.file("small", 64<<20), w.file("big", n)
	// Once, before anything is measured, so that the file is in the page cache for all.
	if got, want := w.throughKra(big), sum(t, open(t, big)); got != want {
		t.Errorf("SHA-256 of what came back = %s; want %s", got, want)
	}

	first := w.kra(small)
	var ours, theirs runs
	for i := range rounds {
		if i%2 == 0 {
			ours = append(ours, w.kra(big))
		}
		theirs = append(theirs, w.age(big))
		if i%2 == 1 {
			ours = append(ours, w.kra(big))
		}
	}
	k, a := ours.best(), theirs.best()
	for _, r := range []pipeline{first, k, a} {
		t.Logf("%s", r)
	}
	for i := range k.memory {
		if k.memory[i] > first.memory[i]+maxGrowth {
			t.Errorf("%s used %d KiB, and %d KiB for 64 MiB; want constant memory", k.names[i], k.memory[i], first.memory[i])
		}
	}
	// The ratios are printed, not asserted: other work on the machine decides more than we do.
	t.Logf("kra / age, best of %d: %s", rounds, compare(k, a))
	t.Logf("kra / age, medians: %s", compare(ours.median(), theirs.median()))
}

func compare(k, a pipeline) string {
	return fmt.Sprintf("speed %.2f, CPU %.2f", a.wall.Seconds()/k.wall.Seconds(), k.cpu.Seconds()/a.cpu.Seconds())
}

type world struct {
	t        *testing.T
	dir      string
	env      []string
	identity string
	to       string
	program  string // "" is the test's own
	agent    *clienttest.Agent
}

func newWorld(t *testing.T) world {
	t.Helper()
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.Allow(func(_ kra.AccessID, name string) bool { return name == "alice" })
	dir := t.TempDir()
	cert, key := a.Person(t, "alice")
	w := world{t: t, dir: dir, agent: a, identity: filepath.Join(dir, "age.txt")}
	w.write("alice.pem", append(cert, key...))
	w.env = append(os.Environ(), "KRA_URL="+a.URL, "KRA_ROOT="+w.write("root.pem", a.RootPEM()), "KRA_CERT="+filepath.Join(dir, "alice.pem"))
	if out, err := exec.Command("age-keygen", "-o", w.identity).CombinedOutput(); err != nil {
		t.Fatalf("age-keygen: %v: %s", err, out)
	}
	raw, err := os.ReadFile(w.identity)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "# public key: ")
	w.to, _, _ = strings.Cut(rest, "\n")
	return w
}

// built puts the program as users have it first on the path: the test's own binary, which
// other tests run under its name, takes longer to start.
func (w world) built() world {
	w.t.Helper()
	bin := filepath.Join(w.dir, "bin")
	if out, err := exec.Command("go", "build", "-o", bin+"/", ".").CombinedOutput(); err != nil {
		w.t.Fatalf("go build: %v: %s", err, out)
	}
	w.program = filepath.Join(bin, "kra")
	return w
}

func (w world) write(name string, b []byte) string {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// file makes a file of n bytes that differ from megabyte to megabyte, with holes that
// cost no disk.
func (w world) file(name string, n int64) string {
	path := filepath.Join(w.dir, name)
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	err = f.Truncate(n)
	for at := int64(0); at < n && err == nil; at += 1 << 20 {
		_, err = f.WriteAt(fmt.Appendf(nil, "megabyte %d", at>>20), at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// A pipeline is what one pipeline took.
type pipeline struct {
	names  [2]string
	memory [2]int64 // KiB at most
	cpu    time.Duration
	wall   time.Duration
	size   int64
}

func (r pipeline) String() string {
	mib := float64(r.size) / (1 << 20)
	return fmt.Sprintf("%s | %s: %.0f MiB, %.0f MiB/s, CPU %v, memory %d and %d KiB", r.names[0], r.names[1], mib,
		mib/r.wall.Seconds(), r.cpu.Round(time.Millisecond), r.memory[0], r.memory[1])
}

// runs are those of one pipeline on one file.
type runs []pipeline

// best takes the least time of all, and the most memory.
func (r runs) best() pipeline {
	b := r[0]
	for _, o := range r[1:] {
		b.wall, b.cpu = min(b.wall, o.wall), min(b.cpu, o.cpu)
		for i := range b.memory {
			b.memory[i] = max(b.memory[i], o.memory[i])
		}
	}
	return b
}

func (r runs) median() pipeline {
	m := r.best()
	m.wall = middle(r, func(p pipeline) time.Duration { return p.wall })
	m.cpu = middle(r, func(p pipeline) time.Duration { return p.cpu })
	return m
}

func middle(r runs, of func(pipeline) time.Duration) time.Duration {
	var all []time.Duration
	for _, p := range r {
		all = append(all, of(p))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (w world) kra(path string) pipeline {
	return w.pipe(path, nil, []string{"kra", "encrypt", "-to", "legal-team"}, []string{"kra", "decrypt"})
}

func (w world) age(path string) pipeline {
	return w.pipe(path, nil, []string{"age", "-r", w.to}, []string{"age", "-d", "-i", w.identity})
}

func (w world) throughKra(path string) string {
	h := sha256.New()
	w.pipe(path, h, []string{"kra", "encrypt", "-to", "legal-team"}, []string{"kra", "decrypt"})
	return hex.EncodeToString(h.Sum(nil))
}

// pipe runs first | second on a file. Both end with the test: they are killed with
// the process that waits for them.
func (w world) pipe(path string, out io.Writer, first, second []string) pipeline {
	w.t.Helper()
	in := open(w.t, path)
	info, err := in.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	r, pw, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	a, b := w.command(first), w.command(second)
	a.Stdin, a.Stdout, b.Stdin, b.Stdout = in, pw, r, out
	start := time.Now()
	err = errors.Join(a.Start(), b.Start(), pw.Close(), r.Close(), a.Wait(), b.Wait())
	if err != nil {
		w.t.Fatalf("%s | %s: %v", first, second, err)
	}
	res := pipeline{names: [2]string{first[0] + " " + first[1], second[0] + " " + second[1]}, wall: time.Since(start), size: info.Size()}
	for i, c := range []*exec.Cmd{a, b} {
		res.cpu += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		res.memory[i] = c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	}
	return res
}

func (w world) command(args []string) *exec.Cmd {
	name := args[0]
	if name == "kra" && w.program != "" {
		name = w.program
	}
	c := exec.CommandContext(w.t.Context(), name, args[1:]...)
	c.Env, c.Stderr = w.env, os.Stderr
	return c
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
