package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// A rebuild is the image of a release, built again from its source tree.
type rebuild struct {
	t      *tool
	tree   string // checkout of the commit
	domain string // folder with the domain's public part: domain.json and the Secure Boot certificates
	kernel string // which one the image has, as the builder calls it; empty: the one that the builder takes by itself
	fips   string // the same, of Go's cryptographic module
	health string // the same, of where metrics are served
	baud   string // the same, of the serial line's speed
}

// A manifest is what the builder says of an image.
type manifest struct {
	Files map[string]struct {
		SHA256 label.Digest `json:"sha256"`
	} `json:"files"`
	PCR4  label.Digest `json:"pcr4"`
	PCR7  label.Digest `json:"pcr7"`
	PCR11 label.Digest `json:"pcr11"`
}

const (
	builtImage    = "kra.efi"
	builtManifest = "kra.json"
	maxManifest   = 1 << 20
	dirtyStamp    = "-dirty"
)

// compare builds the image that the box says it runs and holds it against what the box's TPM quoted.
func (r rebuild) compare(ctx context.Context, id client.Identity) error {
	if err := r.check(ctx, id); err != nil {
		return err
	}
	out, err := os.MkdirTemp("", "kra-rebuild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	r.t.atEnd(func() { _ = os.RemoveAll(out) })
	notes, err := r.build(ctx, id, out)
	if err != nil {
		return err
	}
	m, err := readManifest(filepath.Join(out, builtManifest))
	if err != nil {
		return err
	}
	if err := m.equals(id); err != nil {
		return hint(err, "it was built with other inputs or tools or another -kernel, -fips140, -health or -baud, or that commit is not what the domain built; the builder notes:\n%s", notes)
	}
	_, err = fmt.Fprintf(r.t.stdout, `
Built again from %s at commit %s: the image has the same bytes
(SHA-256 %s), and the registers that it predicts are
those that the TPM quoted: PCR 4, 7 and 11. This box runs that source.
`, plain(r.tree), plain(id.Commit), m.Files[builtImage].SHA256)
	return err
}

// check finds a tree that cannot be the one of the box before anything is built.
func (r rebuild) check(ctx context.Context, id client.Identity) error {
	if id.Image == (label.Digest{}).String() {
		return untrustedf("rebuild: the box boots no image of the product, there is nothing to compare")
	}
	if strings.HasSuffix(id.Commit, dirtyStamp) {
		return untrustedf("rebuild: the box runs an image of a dirty tree (commit %s): nobody else can have its source", id.Commit)
	}
	head, err := r.run(ctx, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if head := strings.TrimSpace(head); head != id.Commit {
		return untrustedf("rebuild: other commit: %s is at %s, the box runs %s (git checkout %[3]s)", r.tree, head, id.Commit)
	}
	changed, err := r.run(ctx, "git", "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return err
	}
	if changed = strings.TrimSpace(changed); changed != "" {
		first, _, _ := strings.Cut(changed, "\n")
		return untrustedf("rebuild: dirty tree: %s differs from its commit, in %s for one", r.tree, strings.TrimSpace(first))
	}
	return r.checkDomain(id)
}

// checkDomain wants the public part of the domain that vouches for the box: it is in the image.
func (r rebuild) checkDomain(id client.Identity) error {
	b, err := os.ReadFile(filepath.Join(r.domain, "domain.json"))
	if err != nil {
		return hint(err, "ask the domain for its domain.json and the certificates in secureboot/, and name their folder with -domain")
	}
	d, err := label.ParseDomain(b)
	if err != nil {
		return err
	}
	if root := sha256.Sum256(d.Root); hex.EncodeToString(root[:]) != id.Root {
		return untrustedf("rebuild: %s is of domain %s, whose root is not the one that you gave", r.domain, d.Name)
	}
	return nil
}

// build runs the tree's own builder and returns what it notes of the inputs.
func (r rebuild) build(ctx context.Context, id client.Identity, out string) (notes string, err error) {
	domain, err := filepath.Abs(r.domain)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(r.t.stderr, "Building release %s again; this takes a minute or more.\n", plain(id.Release))
	args := []string{"run", "./image/cmd/mkimage", "-domain", domain, "-out", out, "-cache", filepath.Join("dist", "cache"),
		"-version", id.Release, "-epoch", strconv.FormatUint(id.Epoch, 10), "-commit", id.Commit}
	said, err := r.run(ctx, "go", append(args, r.options()...)...)
	for line := range strings.Lines(said) {
		if strings.Contains(line, "note:") {
			notes += line
		}
	}
	return notes, err
}

// options are what the image was built with, of what its registers show.
func (r rebuild) options() (args []string) {
	for _, o := range [][2]string{{"-kernel", r.kernel}, {"-fips140", r.fips}, {"-health", r.health}, {"-baud", r.baud}} {
		if o[1] != "" {
			args = append(args, o[:]...)
		}
	}
	return args
}

// run runs a program in the tree.
func (r rebuild) run(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = r.tree
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("rebuild: %s %s: %w: %s", name, args[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), nil
}

func readManifest(path string) (manifest, error) {
	var m manifest
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if len(b) > maxManifest {
		return m, errors.New("rebuild: the manifest is too long")
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("rebuild: read manifest: %w", err)
	}
	return m, nil
}

// equals holds an image against a box, byte for byte and register by register.
func (m manifest) equals(id client.Identity) error {
	if built := m.Files[builtImage].SHA256.String(); built != id.Image {
		return untrustedf("rebuild: other bytes: the image built here has SHA-256 %s, the domain vouches for %s", built, id.Image)
	}
	for _, r := range []struct {
		pcr  int
		want label.Digest
	}{{4, m.PCR4}, {7, m.PCR7}, {11, m.PCR11}} {
		if found := id.PCRs[r.pcr]; found != r.want || found == (label.Digest{}) {
			return untrustedf("rebuild: the image built here makes PCR %d %s, the box's TPM quoted %s", r.pcr, r.want, found)
		}
	}
	return nil
}

func untrustedf(format string, args ...any) error {
	return &client.Untrusted{Err: fmt.Errorf(format, args...)}
}
