package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// source is a repository with one commit.
func source(t *testing.T) (dir, commit string) {
	t.Helper()
	dir = t.TempDir()
	git(t, dir, "init", "-q")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "one")
	return dir, strings.TrimSpace(git(t, dir, "rev-parse", "HEAD"))
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestRebuildWantsTheTree: a tree that is not what the box runs is named before anything is built.
func TestRebuildWantsTheTree(t *testing.T) {
	image := label.Digest{1}.String()
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		id     func(commit string) client.Identity
		want   string
	}{
		"changed file": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(c string) client.Identity { return client.Identity{Commit: c, Image: image} }, "dirty tree"},
		"new file": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "more.go"), []byte("package main\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(c string) client.Identity { return client.Identity{Commit: c, Image: image} }, "dirty tree"},
		"another commit": {func(t *testing.T, dir string) { git(t, dir, "commit", "-q", "--allow-empty", "-m", "two") },
			func(c string) client.Identity { return client.Identity{Commit: c, Image: image} }, "other commit"},
		"box of a dirty tree": {nil, func(c string) client.Identity { return client.Identity{Commit: c + "-dirty", Image: image} }, "image of a dirty tree"},
		"box without image":   {nil, func(c string) client.Identity { return client.Identity{Commit: c, Image: label.Digest{}.String()} }, "no image of the product"},
		"no domain":           {nil, func(c string) client.Identity { return client.Identity{Commit: c, Image: image} }, "domain.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, commit := source(t)
			if c.change != nil {
				c.change(t, dir)
			}
			r := rebuild{t: &tool{}, tree: dir, domain: t.TempDir()}
			if err := r.check(t.Context(), c.id(commit)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("check: %v; want %q", err, c.want)
			}
		})
	}
}

// TestRebuildCompares: a difference in the image or in any register is an error that a script sees.
func TestRebuildCompares(t *testing.T) {
	m := manifest{PCR4: label.Digest{4}, PCR7: label.Digest{7}, PCR11: label.Digest{11}}
	m.Files = map[string]struct {
		SHA256 label.Digest `json:"sha256"`
	}{builtImage: {label.Digest{1}}}
	box := func(change func(*client.Identity)) client.Identity {
		id := client.Identity{Image: label.Digest{1}.String(), PCRs: label.PCRs{4: {4}, 7: {7}, 11: {11}}}
		change(&id)
		return id
	}
	if err := m.equals(box(func(*client.Identity) {})); err != nil {
		t.Errorf("equal: %v", err)
	}
	for want, change := range map[string]func(*client.Identity){
		"other bytes": func(id *client.Identity) { id.Image = label.Digest{2}.String() },
		"makes PCR 4": func(id *client.Identity) { id.PCRs[4] = label.Digest{5} },
		"makes PCR 7": func(id *client.Identity) { id.PCRs[7] = label.Digest{5} }, "makes PCR 11": func(id *client.Identity) { delete(id.PCRs, 11) },
	} {
		err := m.equals(box(change))
		if err == nil || !strings.Contains(err.Error(), want) || codeOf(err) != exitUntrusted {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestRebuildOptions: what the image was built with goes to the builder, and nothing that was not said: an older builder may not know it.
func TestRebuildOptions(t *testing.T) {
	if got := (rebuild{}).options(); len(got) != 0 {
		t.Errorf("nothing was said, and the builder is given %q", got)
	}
	all := rebuild{kernel: "full", fips: "certified", health: ":9443", baud: "9600"}
	if got, want := strings.Join(all.options(), " "), "-kernel full -fips140 certified -health :9443 -baud 9600"; got != want {
		t.Errorf("the builder is given %q, want %q", got, want)
	}
}
