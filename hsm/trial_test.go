package hsm_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
)

const trialPIN = "4711-user"

// A prober runs hsmd probe on one token.
type prober struct {
	t       *testing.T
	program string
	at      []string // flags that name the token, and the PIN's file
	pin     string
}

func newProber(t *testing.T, c hsm.Config, pin string) *prober {
	t.Helper()
	p := &prober{t: t, program: filepath.Join(t.TempDir(), "hsmd"), pin: pin}
	if out, err := exec.Command("go", "build", "-o", p.program, "github.com/keyrelease/krabox/hsm/cmd/hsmd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.at = []string{"-module", c.Module, "-parameters", c.Parameters, "-label", c.Label, "-pin-file", p.file(pin + "\n")}
	return p
}

// file makes a file with a text.
func (p *prober) file(text string) string {
	p.t.Helper()
	name := filepath.Join(p.t.TempDir(), "pin")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return name
}

// run returns what the probe wrote, on both, and its exit code. The PIN is in neither.
func (p *prober) run(args ...string) (report, said string, code int) {
	p.t.Helper()
	c := exec.Command(p.program, append([]string{"probe"}, args...)...)
	return p.ran(c, c.Run)
}

func (p *prober) ran(c *exec.Cmd, run func() error) (report, said string, code int) {
	p.t.Helper()
	var out, talk bytes.Buffer
	c.Stdout, c.Stderr = &out, &talk
	if err := run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		p.t.Fatal(err)
	}
	if strings.Contains(out.String()+talk.String(), p.pin) {
		p.t.Errorf("the PIN is in what it says:\n%s%s", out.String(), talk.String())
	}
	return out.String(), talk.String(), c.ProcessState.ExitCode()
}

// says checks lines of a report: a name, and how what stands behind it begins.
func (p *prober) says(report string, want map[string]string) {
	p.t.Helper()
	for name, begins := range want {
		m := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(name) + ` +(\S.*)$`).FindStringSubmatch(report)
		if m == nil || !strings.HasPrefix(m[1], begins) {
			p.t.Errorf("%s: %q; want %q", name, m, begins)
		}
	}
	if p.t.Failed() {
		p.t.Log(report)
	}
}

const allSuites = "p256, p384, rsa-3072, rsa-4096, mlkem768-p256"

// objects lists the object files of SoftHSM's tokens.
func objects(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "*", "*.object"))
	more, err2 := filepath.Glob(filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens", "*", "*.object"))
	if err := errors.Join(err, err2); err != nil || len(found)+len(more) == 0 {
		t.Fatalf("no token: %v", err)
	}
	return append(found, more...)
}

// TestProbeBareToken: a token that nobody prepared makes resident keys, and is as it was. Without trusted keys nothing is wrapped there.
func TestProbeBareToken(t *testing.T) {
	hsmtest.Initialized(t, "hsm", trialPIN)
	before := objects(t)
	p := newProber(t, hsm.Config{Module: hsmtest.Module, Label: "hsm"}, trialPIN)
	report, said, code := p.run(p.at...)
	if code != 0 || said != "" {
		t.Errorf("exit code %d: %s", code, said)
	}
	p.says(report, map[string]string{
		"module": hsmtest.Module, "manufacturer": "SoftHSM project", "token": "hsm", "firmware": "2.",
		"p256 generate and derive":                       "yes",
		"rsa-oaep sha-256 inside":                        "no: unwrap inside: pkcs11: 0x7",
		"rsa-oaep sha-1 inside":                          "yes",
		"trusted wrap and unwrap":                        "no: token has 0 keys",
		"index of the keys that are there":               "yes",
		"p384, bound, generated, resident":               "yes",
		"p384, bound, generated, vault":                  "no: this module keeps no keys in vault mode",
		"rsa-2048, bound, imported, resident":            "yes",
		"p256, bound, imported wrapped, resident":        "yes",
		"keys that never leave it (bound), resident":     allSuites,
		"keys that can be copied (replicable), resident": allSuites,
		"bound keys in vault mode, 100,000 of them":      "none",
		"copies, backups of keys, keys bound to labels":  "no: token has 0 keys",
		"RSA-OAEP SHA-1: message keys stay inside":       "yes",
		"nothing stayed in the token":                    "yes",
		"a box can work with it":                         "yes",
	})
	if now := objects(t); !slices.Equal(now, before) {
		t.Errorf("the token has %d objects, want the %d of before", len(now), len(before))
	}
	checkProbePage(t, report)
}

// checkProbePage holds PROBE.md to a report, but for what is another with each token and machine.
func checkProbePage(t *testing.T, report string) {
	t.Helper()
	text := string(must(os.ReadFile("PROBE.md")))
	_, shown, found := strings.Cut(text, "nobody prepared:\n\n")
	shown, _, ended := strings.Cut(shown, "\nThe last part")
	if !found || !ended {
		t.Fatal("PROBE.md shows no output")
	}
	plain := func(s string) string {
		s = regexp.MustCompile(`(?m)^ *(token|serial number|\d+ sessions.*?)   .*$`).ReplaceAllString(s, "$1")
		return regexp.MustCompile(`\d+ sessions`).ReplaceAllString(s, "sessions")
	}
	if shown, want := plain(regexp.MustCompile(`(?m)^    `).ReplaceAllString(shown, "")), plain(report); shown != want {
		t.Errorf("PROBE.md shows\n%s\nand it is\n%s", shown, want)
	}
}

// TestProbeTokenInUse: with a box's token all can be had, and what was in it is there and opens as before.
func TestProbeTokenInUse(t *testing.T) {
	c, token := hsmtest.New(t)
	k, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	to, _, err := c.ImportKey()
	if err != nil {
		t.Fatal(err)
	}
	before, n := objects(t), c.Objects()
	p := newProber(t, hsm.Config{Module: hsmtest.Module, Label: "kra"}, string(token.PIN))
	report, said, code := p.run(p.at...)
	if code != 0 || said != "" {
		t.Errorf("exit code %d: %s", code, said)
	}
	p.says(report, map[string]string{
		"trusted wrap and unwrap":                        "yes",
		"trusted wrap and unwrap of bound keys":          "yes",
		"keys that never leave it (bound), resident":     allSuites,
		"bound keys in vault mode, 100,000 of them":      allSuites,
		"replicable keys in vault mode":                  allSuites,
		"keys that come in the clear":                    "p256, p384, rsa-2048",
		"keys that come wrapped to its import key":       "p256",
		"copies, backups of keys, keys bound to labels":  "yes",
		"a box can work with it":                         "yes",
		"keys that can be copied (replicable), resident": allSuites,
	})
	if now := objects(t); !slices.Equal(now, before) || c.Objects() != n {
		t.Errorf("the token has %d objects, want the %d of before", len(now), len(before))
	}
	if r, _ := unwrap(t, c, wrapTo(t, k, 7)); !isKey(r[0], 7) {
		t.Errorf("the key of before does not open: %v", r[0].Err)
	}
	if again, _, err := c.ImportKey(); err != nil || !bytes.Equal(again, to) {
		t.Errorf("the import key of before is gone: %v", err)
	}
}

// TestProbeWeakModule: NSS computes rightly and keeps no promise. The report says so, the exit code too, and nothing stays.
func TestProbeWeakModule(t *testing.T) {
	config := nss(t)
	count := func() int {
		c := must(hsm.New(config, [32]byte{1}))
		defer c.Close()
		if _, err := c.Open(wire.Token{PIN: []byte(nssPIN)}); err != nil {
			t.Fatal(err)
		}
		return c.Objects()
	}
	before := count()
	p := newProber(t, config, nssPIN)
	report, said, code := p.run(p.at...)
	if code != 1 || !strings.Contains(said, "a box cannot work with this token: it makes no key that is safe in it") {
		t.Errorf("exit code %d: %s", code, said)
	}
	p.says(report, map[string]string{
		"manufacturer":                               "Mozilla Foundation",
		"p256 generate and derive":                   "yes",
		"p256, bound, generated, resident":           "no: test new key: attack key: a copy can be without attribute",
		"rsa-4096, bound, generated, resident":       "no: test new key: attack key",
		"p256, bound, imported wrapped, resident":    "no: test import key: attack key",
		"keys that never leave it (bound), resident": "none",
		"keys that come in the clear":                "none",
		"nothing stayed in the token":                "yes",
		"a box can work with it":                     "no: it makes no key that is safe in it",
	})
	if now := count(); now != before {
		t.Errorf("the token has %d objects, want the %d of before", now, before)
	}
}

// TestProbeIsStopped: who stops a probe finds the token as it was.
func TestProbeIsStopped(t *testing.T) {
	hsmtest.Initialized(t, "hsm", trialPIN)
	before := objects(t)
	p := newProber(t, hsm.Config{Module: hsmtest.Module, Label: "hsm"}, trialPIN)
	c := exec.Command(p.program, append([]string{"probe"}, p.at...)...)
	report, said, code := p.ran(c, func() error {
		if err := c.Start(); err != nil {
			return err
		}
		for deadline := time.Now().Add(time.Minute); len(objects(t)) == len(before); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("no key was made within a minute")
				break
			}
		}
		return errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait())
	})
	if code != 1 || !strings.Contains(said, "not tried to the end") {
		t.Errorf("exit code %d: %s", code, said)
	}
	p.says(report, map[string]string{"p256, bound, imported, resident": "no: not tried", "nothing stayed in the token": "yes", "a box can work with it": "no: the token was not tried"})
	if now := objects(t); !slices.Equal(now, before) {
		t.Errorf("the token has %d objects, want the %d of before", len(now), len(before))
	}
}

// TestProbeRefuses: what is missing or wrong is said, without the PIN, and with a code of its own where it was called wrongly.
func TestProbeRefuses(t *testing.T) {
	hsmtest.Initialized(t, "hsm", trialPIN)
	p := newProber(t, hsm.Config{Module: hsmtest.Module, Label: "hsm"}, trialPIN)
	with := func(flag, value string) []string { return append(slices.Clone(p.at), flag, value) }
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":       {nil, 2, "want hsmd probe -module FILE"},
		"no module":     {with("-module", ""), 2, "want hsmd probe"},
		"no label":      {with("-label", ""), 2, "want hsmd probe"},
		"no PIN":        {with("-pin-file", ""), 2, "want hsmd probe"},
		"unknown flag":  {with("-nonsense", "x"), 2, "want hsmd probe"},
		"PIN as word":   {append(slices.Clone(p.at), trialPIN), 2, "want hsmd probe"},
		"no such file":  {with("-pin-file", "/none"), 1, "read PIN: open /none"},
		"empty file":    {with("-pin-file", p.file("\n")), 1, "want one line of 1 to 256 bytes"},
		"long file":     {with("-pin-file", p.file(strings.Repeat(trialPIN, 40))), 1, "want one line of 1 to 256 bytes"},
		"two lines":     {with("-pin-file", p.file(trialPIN+"\nmore\n")), 1, "want one line of 1 to 256 bytes"},
		"wrong PIN":     {with("-pin-file", p.file("0815-user")), 1, "the token refuses the PIN"},
		"another token": {with("-label", "none"), 1, "find token"},
		"no library":    {with("-module", "/none.so"), 1, "load module /none.so"},
	} {
		if report, said, code := p.run(c.args...); code != c.code || report != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit code %d, %q, %q; want %d and %q", name, code, report, said, c.code, c.want)
		}
	}
	if _, said, code := p.run("-h"); code != 0 || !strings.Contains(said, "-pin-file") {
		t.Errorf("-h: exit code %d, %q", code, said)
	}
}
