package qemu_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/image/manifest"
)

// run runs a program in a folder.
func run1(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// clone is another checkout of the commit that these tests are of.
func clone(t *testing.T) (dir, commit string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "clone")
	run1(t, "..", "git", "clone", "-q", "--no-hardlinks", run1(t, "..", "git", "rev-parse", "--path-format=absolute", "--git-common-dir"), dir)
	commit = run1(t, "..", "git", "rev-parse", "HEAD")
	run1(t, dir, "git", "checkout", "-q", commit)
	cache, err := filepath.Abs(filepath.Join(*dist, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	run1(t, dir, "cp", "-r", cache, "dist/cache")
	return dir, commit
}

// install builds an image of a tree, with more of the builder's flags, and puts it on the disk of a box that is off, approved.
func (g *guest) install(t *testing.T, tree, commit, version string, more ...string) manifest.Image {
	t.Helper()
	domain, err := filepath.Abs(g.lab.domain)
	if err != nil {
		t.Fatal(err)
	}
	run1(t, tree, append([]string{"go", "run", "./image/cmd/mkimage", "-domain", domain, "-version", version, "-epoch", "1", "-commit", commit}, more...)...)
	out := filepath.Join(tree, "dist")
	if err := g.lab.desk.SignImage(out); err != nil {
		t.Fatal(err)
	}
	m, err := readManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	r, err := release(m)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := g.lab.desk.ApproveFleet(r)
	if err != nil {
		t.Fatal(err)
	}
	uki, err := os.ReadFile(filepath.Join(out, image.FileSigned))
	if err != nil {
		t.Fatal(err)
	}
	if err := image.InstallApprovals(g.box.Disk(), bundle); err != nil {
		t.Fatal(err)
	}
	if err := image.InstallUKI(g.box.Disk(), uki); err != nil {
		t.Fatal(err)
	}
	return m
}

const healthPort = 9443

// healthy asks a box whose image says so for its health and metrics.
func (g *guest) healthy(t *testing.T) {
	t.Helper()
	for path, want := range map[string]string{"/healthz": "", "/metrics": "kra_healthy 1"} {
		r, err := http.Get("http://" + g.machine.Addr(healthPort) + path)
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v, want %q in\n%s", path, r.Status, err, want, body)
		}
	}
}

// TestBoxRebuilt runs a box on the image of a commit, whose programs compute with Go's validated module, and has its user build that image again
// in a checkout of his own: what the TPM quoted is what comes out. One byte of code more, hidden from git, and it is not.
func TestBoxRebuilt(t *testing.T) {
	g, s := copyOf(t)
	kra := filepath.Join(t.TempDir(), "kra")
	run1(t, "..", "go", "build", "-o", kra, "./kra/cmd/kra")
	domain, err := filepath.Abs(g.lab.domain)
	if err != nil {
		t.Fatal(err)
	}
	tree, commit := clone(t)
	m := g.install(t, tree, commit, "v0.1.9", "-fips140", "certified", "-health", ":9443")
	if !slices.ContainsFunc(m.Inputs, func(in manifest.Input) bool {
		return in.Package == "go-fips140" && strings.HasPrefix(in.Version, "v1.")
	}) {
		t.Errorf("the image's inputs lack the module: %+v", m.Inputs)
	}
	g.more = []int{healthPort}
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	g.healthy(t)
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	if shown, err := g.operator.Do("system test"); err != nil || !strings.Contains(shown, "FIPS 140 mode on, module v1.") || strings.Contains(shown, "FAILED") {
		t.Errorf("system test: %v\n%s", err, shown)
	}
	mine, _ := clone(t)
	verify := func() (string, error) {
		c := exec.Command(kra, "verify", "-root", filepath.Join(domain, desk.RootFile), "-domain", domain, "-rebuild", mine, "-fips140", "certified", "-health", ":9443", "https://"+g.machine.Addr(releasePort))
		said, err := c.CombinedOutput()
		return string(said), err
	}
	said, err := verify()
	if err != nil || !strings.Contains(said, "This box runs that source.") {
		t.Fatalf("kra verify -rebuild: %v\n%s", err, said)
	}
	file := filepath.Join("boot", "boot.go")
	text, err := os.ReadFile(filepath.Join(mine, file))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"boot: %w"`, `"Boot: %w"`, 1)
	if err := os.WriteFile(filepath.Join(mine, file), []byte(changed), 0o600); err != nil || changed == string(text) {
		t.Fatalf("change a byte: %v", err)
	}
	if said, err := verify(); err == nil || !strings.Contains(said, "dirty tree") {
		t.Errorf("a changed tree: %v\n%s", err, said)
	}
	run1(t, mine, "git", "update-index", "--assume-unchanged", file)
	if said, err := verify(); err == nil || !strings.Contains(said, "other bytes") {
		t.Errorf("a tree whose change git does not see: %v\n%s", err, said)
	}
}
