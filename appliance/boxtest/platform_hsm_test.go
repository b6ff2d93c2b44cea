package boxtest_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/hsm/hsmtest"
)

// TestPlatformInHSM: a label key may be in a token instead of a TPM. It has its label and has keys by it; it is unmeasured, and what wants a
// measured platform, or a version, is not for it.
func TestPlatformInHSM(t *testing.T) {
	b := boxtest.Start(t)
	m := newMachine(t, b, b.Domain)
	m.desk("label", "client", "-name", "analysis", "-description", "analysis of documents")
	b.Do("platform trust fleet own")
	b.Do("platform label fleet analysis")
	b.Do("access add papers")
	b.Do("key generate p256 for papers")
	b.Do(`rule add analysts is platform.label == "analysis"`)
	b.Do("access lists papers is analysts")
	block := filepath.Join(m.work, "paper.age")
	m.kra("encrypt", "-to", "papers", "-o", block, m.file("paper", "for machines only"))

	hsmtest.Initialized(t, "platform", "1234-user")
	bin := filepath.Join(t.TempDir(), "hsmd")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/keyrelease/krabox/hsm/cmd/hsmd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	token := func(args ...string) (string, error) {
		c := exec.Command(bin, append(append([]string{"token"}, args...), "-module", hsmtest.Module, "-token", "platform")...)
		c.Stdin = strings.NewReader("1234-user\n")
		out, err := c.Output()
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := token(args...)
		if err != nil {
			t.Fatalf("hsmd token %v: %v", args, err)
		}
		return out
	}
	id, _, _ := strings.Cut(must("make", "-name", "kra platform"), " ")
	other, _, _ := strings.Cut(must("make", "-name", "another"), " ")
	cert := m.file("label.pem", m.desk("platform", "certify", "-csr", m.file("hsm.csr", must("request", "-id", id)), "-label", "analysis", "-name", "hsm1"))
	leaf := m.file("leaf.pem", must("leaf", "-id", id, "-certificate", cert))
	if _, err := token("leaf", "-id", other, "-certificate", cert); err == nil {
		t.Error("another key of the token makes a leaf")
	}
	decrypts := func() bool {
		out, _, err := m.try("decrypt", "-ask", "always", "-cert", leaf, "-o", "-", block)
		return err == nil && out == "for machines only"
	}
	for rule, want := range map[string]bool{
		`platform.label == "analysis"`:                       true,
		`platform.label == "analysis" && !platform.measured`: true,
		`platform.label == "analysis" && platform.measured`:  false,
		`platform.version >= 1`:                              false,
		`!(platform.version < 1)`:                            false,
		`!(platform.age > 60)`:                               false,
	} {
		b.Do("rule set analysts is " + rule)
		if got := decrypts(); got != want {
			t.Errorf("%s: %v; want %v", rule, got, want)
		}
	}
}
