package boxtest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// kraBinary is the command line, built once.
var kraBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kra")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kra")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/keyrelease/krabox/kra/cmd/kra").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// A machine is a second computer, with a TPM of its own, at which somebody types kra.
type machine struct {
	t        *testing.T
	box      *boxtest.Box
	tpm      *tpmtest.TPM
	identity string // folder
	work     string // folder
	domain   string // folder of the domain that owns it
}

func newMachine(t *testing.T, b *boxtest.Box, domain string) *machine {
	t.Helper()
	if _, err := kraBinary(); err != nil {
		t.Fatal(err)
	}
	return &machine{t, b, tpmtest.New(t), filepath.Join(t.TempDir(), "identity"), t.TempDir(), domain}
}

// try runs kra.
func (m *machine) try(args ...string) (out, said string, err error) {
	m.t.Helper()
	path, err := kraBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	c := exec.CommandContext(m.t.Context(), path, args...)
	c.Env = append(os.Environ(), "KRA_URL="+m.box.Agent(nil).URL(), "KRA_ROOT="+filepath.Join(m.box.Domain, desk.RootFile))
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err = c.Run()
	return stdout.String(), stderr.String(), err
}

func (m *machine) kra(args ...string) (out, said string) {
	m.t.Helper()
	out, said, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("kra %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return out, said
}

// desk runs domain.
func (m *machine) desk(args ...string) string {
	m.t.Helper()
	var out, talk bytes.Buffer
	args = append(append(args[:2:2], "-dir", m.domain), args[2:]...)
	if err := desk.Command(args, &out, &talk); err != nil {
		m.t.Fatalf("domain %s: %v\n%s", strings.Join(args, " "), err, talk.String())
	}
	return out.String()
}

func (m *machine) file(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.work, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

var printed = regexp.MustCompile(`fingerprint ([0-9a-f-]+)`)

// request has the machine make a request, and gives its file and its fingerprint.
func (m *machine) request() (file, fingerprint string) {
	m.t.Helper()
	out, said := m.kra("platform", "request", "-dir", m.identity, "-tpm", m.tpm.Device(), "-domain", filepath.Join(m.domain, desk.DomainFile), "-label", "analysis")
	found := printed.FindStringSubmatch(said)
	if found == nil {
		m.t.Fatalf("no fingerprint: %s", said)
	}
	return m.file("request.pem", out), found[1]
}

func (m *machine) enrol(name string, epoch int) {
	m.t.Helper()
	request, seen := m.request()
	answer := m.desk("platform", "enrol", "-request", request, "-name", name, "-version", "v1", "-epoch", fmt.Sprint(epoch), "-first-seen", seen)
	if out, _ := m.kra("platform", "install", "-dir", m.identity, m.file("identity.pem", answer)); !strings.Contains(out, "can be used now") {
		m.t.Errorf("install: %s", out)
	}
}

// decrypts asks for the key of a file as the machine.
func (m *machine) decrypts(block string, flags ...string) (string, error) {
	m.t.Helper()
	args := append([]string{"decrypt", "-ask", "always", "-platform", m.identity, "-o", "-"}, flags...)
	out, said, err := m.try(append(args, block)...)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return out, err
}

// TestPlatform: a machine with a TPM of its own joins the domain, shows the box what it runs, has the box show itself first, and has a key,
// whoever sits at it; in another state, or with an older version, it has none.
func TestPlatform(t *testing.T) {
	b := boxtest.Start(t)
	m := newMachine(t, b, b.Domain)
	m.desk("label", "client", "-name", "analysis", "-description", "analysis of documents")
	m.enrol("build7", 3)
	b.Do("platform trust fleet own")
	b.Do("platform label fleet analysis")
	b.Do("access add papers")
	b.Do("key generate p256 for papers")
	b.Do(`rule add analysts is platform.label == "analysis" && platform.measured && platform.version >= 3 && platform.age <= 60`)
	b.Do("access lists papers is analysts")
	block := filepath.Join(m.work, "paper.age")
	m.kra("encrypt", "-to", "papers", "-o", block, m.file("paper", "for machines only"))
	for _, flags := range [][]string{nil, {"-mutual"}} {
		if got, err := m.decrypts(block, flags...); err != nil || got != "for machines only" {
			t.Fatalf("decrypt %v: %q, %v\n%s", flags, got, err, b.Do("log show 4"))
		}
	}
	receipts := filepath.Join(m.work, "receipts")
	if _, err := m.decrypts(block, "-receipt", receipts); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(receipts); err != nil || !strings.Contains(string(text), `"shown":"`) {
		t.Errorf("receipt %s, %v", text, err)
	}
	for _, step := range []struct {
		do func(desk.Whom) (label.SignedPermissions, error)
		ok bool
	}{{b.Desk.Revoke, false}, {b.Desk.Restore, true}} {
		p, err := step.do(desk.Whom{Name: "build7"})
		if err != nil {
			t.Fatal(err)
		}
		b.Do("board install", string(p.Armored()))
		if _, err := m.decrypts(block); (err == nil) != step.ok {
			t.Errorf("permissions %d: %v; want a key: %v", p.Permissions.Sequence, err, step.ok)
		}
		if !step.ok && !strings.Contains(b.Output(), "revoked by the domain") {
			t.Error("nothing says why")
		}
	}
	leaf := filepath.Join(m.work, "leaf.pem")
	m.kra("platform", "leaf", "-dir", m.identity, "-o", leaf)
	if _, _, err := m.try("decrypt", "-ask", "always", "-cert", leaf, "-o", "-", block); err == nil {
		t.Error("the certificate alone has the key: nothing was confirmed")
	}
	nobody := newMachine(t, b, b.Domain)
	nobody.identity = m.identity // a copy of the folder, without its TPM
	if err := os.WriteFile(filepath.Join(m.identity, "device"), []byte(nobody.tpm.Device()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.decrypts(block); err == nil {
		t.Error("a copy of the folder has the key")
	}
	if err := os.WriteFile(filepath.Join(m.identity, "device"), []byte(m.tpm.Device()), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Do(`rule set analysts is platform.label == "analysis" && platform.version >= 4`)
	if _, err := m.decrypts(block); err == nil {
		t.Error("an older version has the key")
	}
	m.tpm.Extend(t, 11, sha256.Sum256([]byte("version 4")))
	if _, err := m.decrypts(block); err == nil {
		t.Error("software that nobody approved has the key")
	}
	if out, _ := m.kra("platform", "status", "-dir", m.identity); !strings.Contains(out, "cannot be used now") {
		t.Errorf("status: %s", out)
	}
	request, seen := m.request()
	approvals := m.desk("platform", "approve", "-request", request, "-version", "v4", "-epoch", "4", "-first-seen", seen)
	m.kra("platform", "install", "-dir", m.identity, m.file("approvals.pem", approvals))
	if got, err := m.decrypts(block, "-mutual"); err != nil || got != "for machines only" {
		t.Errorf("after the approval: %q, %v", got, err)
	}
	b.Do("platform unlabel fleet analysis", "yes")
	if _, err := m.decrypts(block); err == nil {
		t.Error("a label that counts no longer has the key")
	}
}

// TestPlatformOfPartner: a machine of another domain, which the box's officers know, states what its label means there.
func TestPlatformOfPartner(t *testing.T) {
	b := boxtest.Start(t)
	partner := filepath.Join(t.TempDir(), "partner")
	if err := desk.Init(partner, "partner.example"); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, b, partner)
	m.desk("label", "peer", "-name", "analysis", "-description", "analysis as the partner does it")
	m.enrol("node1", 1)
	document, err := os.ReadFile(filepath.Join(partner, "labels", "analysis.txt"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(document)
	means := hex.EncodeToString(sum[:])
	root, err := os.ReadFile(filepath.Join(partner, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	b.Do("platform trust partner domain partner.example", string(root))
	b.Do("platform label partner analysis as compute means " + means)
	b.Do("access add papers")
	b.Do("key generate p256 for papers")
	b.Do(`rule add partners is platform.label == "compute" && platform.domain == "partner.example"`)
	b.Do("access lists papers is partners")
	block := filepath.Join(m.work, "paper.age")
	m.kra("encrypt", "-to", "papers", "-o", block, m.file("paper", "for partners"))
	if got, err := m.decrypts(block, "-mutual"); err != nil || got != "for partners" {
		t.Fatalf("%q, %v\n%s", got, err, b.Do("log show 4"))
	}
	other := sha256.Sum256([]byte("something else"))
	b.Do("platform label partner analysis as compute means " + hex.EncodeToString(other[:]))
	if _, err := m.decrypts(block); err == nil {
		t.Error("a label that means something else there has the key")
	}
	b.Do("platform label partner analysis as compute means " + means)
	if _, err := m.decrypts(block); err != nil {
		t.Error(err)
	}
	b.Do("platform distrust partner", "yes")
	if _, err := m.decrypts(block); err == nil {
		t.Error("a domain that is trusted no longer has the key")
	}
}
