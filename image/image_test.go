package image

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"

	"github.com/keyrelease/krabox/image/manifest"
	"github.com/keyrelease/krabox/kra/label"
)

// buildHere makes the test binary a builder: reproducible builds differ in
// umask, folder and environment, which belong to a process.
const buildHere = "IMAGE_TEST_BUILD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(buildHere); spec != "" {
		if err := buildFrom(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// written is a Spec without the field that JSON has no form for.
type written struct {
	Spec
	Progress string
}

func buildFrom(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s written
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	_, err = Build(s.Spec)
	return err
}

func testDomain(t *testing.T) label.Domain {
	t.Helper()
	d := label.Domain{Name: "example"}
	keys := make([]*ecdsa.PrivateKey, 3)
	for i := range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	var err error
	if d.Root, err = x509.CreateCertificate(rand.Reader, template, template, keys[0].Public(), keys[0]); err != nil {
		t.Fatal(err)
	}
	if d.Label, err = label.NewKey(&keys[1].PublicKey); err != nil {
		t.Fatal(err)
	}
	if d.Recovery, err = label.NewKey(&keys[2].PublicKey); err != nil {
		t.Fatal(err)
	}
	escrow, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	d.Escrow = escrow.Recipient().String()
	return d
}

// cache is where packages are kept between runs: the same as mkimage's.
func cache(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../dist/cache")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBuildTwice builds one static and one cgo program into an image, twice:
// another folder, user's umask, time zone, home, language and an empty build cache.
func TestBuildTwice(t *testing.T) {
	domain := testDomain(t)
	original := filepath.Join(t.TempDir(), "original")
	copyTree(t, "..", original, gitFiles(t, ".."))
	program := builder(t)
	var outs []string
	for i, env := range [][]string{
		{"TZ=Europe/Berlin", "LANG=C"},
		{"TZ=Pacific/Auckland", "LANG=C.UTF-8", "CGO_CFLAGS=-O0 -g3", "GOFLAGS=-v", "CC=false", "GOFIPS140=certified", "GOAMD64=v3", "LD_LIBRARY_PATH=/nowhere", "SOURCE_DATE_EPOCH=1"},
	} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", i))
		source := filepath.Join(dir, "source")
		if err := os.CopyFS(source, os.DirFS(original)); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			env = append(env, "HOME="+dir, "GOCACHE="+filepath.Join(dir, "gocache"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "TMPDIR="+dir)
		}
		out := filepath.Join(dir, "out")
		rebuild(t, program, Spec{
			Source: source, Out: out, Cache: cache(t), Domain: domain, Version: "v0.1.0", Epoch: 1, Commit: "0eacb1b", Libraries: Libraries(), Kernel: Cloud,
			Commands: []Command{{"./boot/cmd/stage1", "/init", Static}, {"./hsm/cmd/hsmd", "/bin/hsmd", Dynamic}},
		}, env, []int{0o022, 0o077}[i])
		outs = append(outs, out)
	}
	for _, name := range []string{FileManifest, FileInitramfs, FileUKI, FileDisk} {
		a, err := fileOf(filepath.Join(outs[0], name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := fileOf(filepath.Join(outs[1], name))
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("%s differs: %v and %v", name, a, b)
		}
	}
	sameArchive(t, outs[0], outs[1])
	checkImage(t, outs[0], domain)
}

// sameArchive names the files that make two images differ.
func sameArchive(t *testing.T, a, b string) {
	t.Helper()
	first, second := unpack(t, read(t, filepath.Join(a, FileInitramfs))), unpack(t, read(t, filepath.Join(b, FileInitramfs)))
	for name, r := range first.Files {
		other, ok := second.Get(name)
		if !ok || r.Info != other.Info {
			t.Errorf("%s: %v in one image, %v in the other", name, r.Info, other.Info)
		} else if r.FileSize > 0 && content(t, first, name) != content(t, second, name) {
			t.Errorf("%s differs", name)
		}
	}
}

// builder is this test binary without the race detector: Build has no goroutines of its own, and
// compression, which is most of it beside the compiler, would take several times as long.
func builder(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "builder")
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("compile the builder: %v\n%s", err, out)
	}
	return program
}

func rebuild(t *testing.T, program string, s Spec, env []string, umask int) {
	t.Helper()
	data, err := json.Marshal(written{Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(umask)
	defer syscall.Umask(old)
	cmd := exec.Command(program)
	cmd.Env = append(append(os.Environ(), buildHere+"="+file), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func gitFiles(t *testing.T, tree string) []string {
	t.Helper()
	files, err := exec.Command("git", "-C", tree, "ls-files", "-z", "-c", "-o", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(files), "\x00"), "\x00")
}

// copyTree copies the files of the module as they lie on the disk.
func copyTree(t *testing.T, from, to string, names []string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // listed but deleted
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkImage looks at what was built: the manifest tells the truth, the modes are right, no shell is inside.
func checkImage(t *testing.T, out string, domain label.Domain) {
	t.Helper()
	m, err := manifest.ParseImage(read(t, filepath.Join(out, FileManifest)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range m.Files {
		got, err := fileOf(filepath.Join(out, name))
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	archive := unpack(t, read(t, filepath.Join(out, FileInitramfs)))
	inside := content(t, archive, PathManifest)
	if d := cmp.Diff(string(m.Release.Bytes()), inside); d != "" {
		t.Errorf("%s: %s", PathManifest, d)
	}
	if d := cmp.Diff(string(domain.Bytes()), content(t, archive, PathDomain)); d != "" {
		t.Errorf("%s: %s", PathDomain, d)
	}
	for line := range strings.Lines(content(t, archive, PathModules)) {
		content(t, archive, strings.Fields(line)[0])
	}
	for name, r := range archive.Files {
		if r.UID != 0 || r.GID != 0 || r.MTime != 0 || (r.Mode&0o022 != 0 && name != "tmp" && name != "dev/null" && r.Mode&0o120000 != 0o120000) {
			t.Errorf("%s: mode %o uid %d gid %d time %d", name, r.Mode, r.UID, r.GID, r.MTime)
		}
		if base := filepath.Base(name); base == "sh" || base == "bash" || base == "busybox" {
			t.Errorf("a shell is inside: %s", name)
		}
	}
	if root := archive.Files["."]; root.Mode&0o777 != 0o755 {
		t.Errorf("root folder has mode %o: other users are locked out", root.Mode)
	}
}

func unpack(t *testing.T, packed []byte) *cpio.Archive {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var raw bytes.Buffer
	if _, err := r.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	a, err := cpio.ArchiveFromReader(cpio.Newc.Reader(bytes.NewReader(raw.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func content(t *testing.T, a *cpio.Archive, path string) string {
	t.Helper()
	r, ok := a.Get(path)
	if !ok {
		t.Fatalf("%s is not in the image", path)
	}
	b := make([]byte, r.FileSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBuildRefuses(t *testing.T) {
	good := Spec{Commands: Commands(), Kernel: Cloud, Domain: testDomain(t), Version: "v0.1.0", Epoch: 1, Commit: "x", Out: t.TempDir(), Cache: cache(t)}
	for name, change := range map[string]func(*Spec){
		"no commands":       func(s *Spec) { s.Commands = nil },
		"init is not first": func(s *Spec) { s.Commands = s.Commands[1:] },
		"no domain":         func(s *Spec) { s.Domain = label.Domain{} },
		"one domain key":    func(s *Spec) { s.Domain.Recovery = s.Domain.Label },
		"no kernel":         func(s *Spec) { s.Kernel = 0 },
		"another kernel":    func(s *Spec) { s.Kernel = Full + 1 },
		"no epoch":          func(s *Spec) { s.Epoch = 0 },
		"today's module":    func(s *Spec) { s.FIPS140 = "latest" },
		"a small state":     func(s *Spec) { s.State = StateSize - 1<<20 },
		"half a MiB":        func(s *Spec) { s.State = StateSize + 1<<19 },
		"health, and words": func(s *Spec) { s.Health = ":9443 init=/bin/sh" },
		"health by name":    func(s *Spec) { s.Health = "box1:9443" },
		"health nowhere":    func(s *Spec) { s.Health = "127.0.0.1" },
		"health at 0":       func(s *Spec) { s.Health = ":0" },
		"another speed":     func(s *Spec) { s.Baud = 4800 },
		"a speed below 0":   func(s *Spec) { s.Baud = -9600 },
		"health at 09443":   func(s *Spec) { s.Health = ":09443" },
	} {
		s := good
		change(&s)
		if _, err := Build(s); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// TestModuleOfPrograms: the programs compute with the cryptographic module that the image is to have, whatever the builder's settings say, and the
// list of inputs names it.
func TestModuleOfPrograms(t *testing.T) {
	t.Setenv("GOFIPS140", "certified")
	for module, want := range map[string]string{"": "", "off": "", "certified": "v1."} {
		file := filepath.Join(t.TempDir(), "init")
		if err := (Spec{Source: "..", FIPS140: module}).goBuild(Command{"./boot/cmd/stage1", "/init", Static}, file); err != nil {
			t.Fatal(err)
		}
		inputs, err := cryptographicModule(cpio.StaticFile("init", string(read(t, file)), 0o755))
		switch {
		case err != nil:
			t.Errorf("%q: %v", module, err)
		case want == "" && len(inputs) > 0:
			t.Errorf("%q: %+v", module, inputs)
		case want != "" && (len(inputs) != 1 || !strings.HasPrefix(inputs[0].Version, want) || len(differences(inputs)) > 0):
			t.Errorf("%q: %+v, %q", module, inputs, differences(inputs))
		}
	}
}

func TestRegisterExtends(t *testing.T) {
	var r register
	r.event([]byte("x"))
	d := sha256.Sum256([]byte("x"))
	if want := sha256.Sum256(append(make([]byte, 32), d[:]...)); r != want {
		t.Errorf("extend: %x, want %x", r, want)
	}
}
