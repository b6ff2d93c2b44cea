package eval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
)

// exitRefused is kra's exit code when the agent does not release the key.
const exitRefused = 3

func (r *run) configure(context.Context) error {
	for _, who := range []string{"alice", "bob"} {
		if _, _, err := desk.IssuePerson(r.o.Domain, pkix.Name{CommonName: who, Organization: []string{"Example"}}); err != nil {
			return err
		}
	}
	ca, err := os.ReadFile(filepath.Join(r.o.Domain, desk.PeopleFile))
	if err != nil {
		return err
	}
	for _, c := range []struct{ line, shows, answer string }{
		{line: `access add legal-team "Legal team"`, shows: "was made"},
		{line: "key generate p256 for legal-team", shows: "was made"},
		{line: "trust add corp", shows: "CN=People", answer: string(ca)},
		{line: "group add counsel corp:CN=alice,O=Example", shows: "is in group counsel"},
		{line: "rule add counsel group counsel", shows: "counsel"},
		{line: "access lists legal-team is counsel", shows: "1 rule list"},
		{line: "access test legal-team as corp:CN=alice,O=Example from 10.0.2.2", shows: "Allowed"},
		{line: "access test legal-team as corp:CN=bob,O=Example from 10.0.2.2", shows: "Refused"},
	} {
		var answers []string
		if c.answer != "" {
			answers = []string{c.answer}
		}
		if err := r.operator.Must(c.shows, c.line, answers...); err != nil {
			return err
		}
	}
	return nil
}

// kra runs the command as a person; nobody when who is empty. It returns its exit code and what it said.
func (r *run) kra(ctx context.Context, who string, args ...string) (code int, said string, err error) {
	r.say("$ kra %s%s", strings.Join(args, " "), map[bool]string{true: "   # as " + who}[who != ""])
	c := exec.CommandContext(ctx, r.o.KRA, args...)
	c.Env = append(os.Environ(), "KRA_URL=https://"+r.machine.Addr(port), "KRA_ROOT="+abs(filepath.Join(r.o.Domain, desk.RootFile)))
	if who != "" {
		base := abs(filepath.Join(r.o.Domain, "people", who))
		c.Env = append(c.Env, "KRA_CERT="+base+".pem", "KRA_KEY="+base+".key")
	}
	c.Dir = r.o.Dir
	out, err := c.CombinedOutput()
	for l := range strings.Lines(string(out)) {
		r.say("  %s", strings.TrimRight(l, "\n"))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out), nil
	}
	return 0, string(out), err
}

func abs(path string) string {
	a, err := filepath.Abs(path)
	if err != nil {
		panic(err) // the working folder is gone
	}
	return a
}

// must runs the command and fails unless it is done.
func (r *run) must(ctx context.Context, who string, args ...string) (string, error) {
	code, said, err := r.kra(ctx, who, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("kra %s: exit code %d: %s", strings.Join(args, " "), code, said)
	}
	return said, err
}

func (r *run) encrypt(ctx context.Context) error {
	readme, err := os.ReadFile(r.o.Readme)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path("README.md"), readme, 0o600); err != nil {
		return err
	}
	if err := writeNoise(r.path("big.bin"), bigFile); err != nil {
		return err
	}
	for _, name := range []string{"README.md", "big.bin"} {
		if _, err := r.must(ctx, "", "encrypt", "-to", "legal-team", name); err != nil {
			return err
		}
		info, err := os.Stat(r.path(name + ".age"))
		if err != nil {
			return err
		}
		r.say("  %s.age: %d bytes", name, info.Size())
	}
	return r.keyID(ctx)
}

// writeNoise writes n bytes that no compressor could shorten, the same at every evaluation.
func writeNoise(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), n); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// keyID takes the key's id from the verified directory.
func (r *run) keyID(ctx context.Context) error {
	root, err := os.ReadFile(filepath.Join(r.o.Domain, desk.RootFile))
	if err != nil {
		return err
	}
	trust, err := client.ParseTrust(root)
	if err != nil {
		return err
	}
	a, err := client.NewAgent(client.Config{URL: "https://" + r.machine.Addr(port), Trust: trust})
	if err != nil {
		return err
	}
	defer a.Close()
	d, err := a.Directory(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path("directory.json"), d.Bytes(), 0o600); err != nil {
		return err
	}
	k, ok := d.Lookup("legal-team")
	if !ok {
		return errors.New("the directory has no key for legal-team")
	}
	r.result.KeyID = k.ID().String()
	return nil
}

func (r *run) refused(ctx context.Context) error {
	code, _, err := r.kra(ctx, "bob", "decrypt", "-o", "bob.md", "README.md.age")
	if err != nil {
		return err
	}
	if code != exitRefused {
		return fmt.Errorf("exit code %d, want %d", code, exitRefused)
	}
	if _, err := os.Stat(r.path("bob.md")); !os.IsNotExist(err) {
		return errors.New("a refused decrypt left a file")
	}
	r.say("exit code %d; no file was left", code)
	return nil
}

func (r *run) allowed(ctx context.Context) error {
	if err := r.operator.Must("is in group counsel", "group add counsel corp:CN=bob,O=Example"); err != nil {
		return err
	}
	for plain, args := range map[string][]string{
		"README.md": {"decrypt", "-receipt", "bob.receipt", "-o", "bob.md", "README.md.age"},
		"big.bin":   {"decrypt", "-o", "bob.bin", "big.bin.age"},
	} {
		if _, err := r.must(ctx, "bob", args...); err != nil {
			return err
		}
		if err := r.same(plain, args[len(args)-2]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) same(a, b string) error {
	x, err := digest(r.path(a))
	if err != nil {
		return err
	}
	y, err := digest(r.path(b))
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return fmt.Errorf("%s and %s differ", a, b)
	}
	r.say("%s and %s are equal: sha256 %x", a, b, x)
	return nil
}

func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// evidence verifies the receipt and the exported log, with nothing but the domain's root.
func (r *run) evidence(ctx context.Context) error {
	if err := r.operator.Must("The log is whole", "log verify"); err != nil {
		return err
	}
	r.say("> log export, copied from the console to log.jsonl")
	export, err := r.operator.Quiet().Do("log export")
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path("log.jsonl"), []byte(export), 0o600); err != nil {
		return err
	}
	said, err := r.must(ctx, "", "log", "verify", "bob.receipt", "log.jsonl")
	if err != nil {
		return err
	}
	if !strings.Contains(said, "bob.receipt: good") {
		return fmt.Errorf("the receipt is not good: %s", said)
	}
	return r.logHead(export)
}

// logHead takes size and root from the last checkpoint of the export.
func (r *run) logHead(export string) error {
	var last string
	for l := range strings.Lines(export) {
		var e struct {
			Checkpoint string `json:"checkpoint"`
		}
		if json.Unmarshal([]byte(l), &e) == nil && e.Checkpoint != "" {
			last = e.Checkpoint
		}
	}
	f := strings.Split(last, "\n")
	if len(f) < 3 {
		return errors.New("the export has no checkpoint")
	}
	if _, err := fmt.Sscan(f[1], &r.result.LogSize); err != nil {
		return err
	}
	if _, err := base64.StdEncoding.DecodeString(f[2]); err != nil {
		return err
	}
	r.result.LogRoot = f[2]
	return nil
}

func (r *run) restart(ctx context.Context) error {
	if err := r.operator.Leave("reboot", "yes"); err != nil {
		return err
	}
	if _, err := r.operator.RestartedAs("enrolled"); err != nil {
		return err
	}
	if _, err := r.must(ctx, "bob", "decrypt", "-o", "again.md", "README.md.age"); err != nil {
		return err
	}
	if err := r.same("README.md", "again.md"); err != nil {
		return err
	}
	if out, err := r.curl(ctx); err != nil {
		return fmt.Errorf("curl: %w: %s", err, out)
	}
	_, err := r.must(ctx, "", "verify")
	return err
}

// curlTime is how long curl waits on a machine with KVM.
const curlTime = 4 * time.Second

// curl asks for the box's status as any TLS client would, which knows nothing but the domain's root.
func (r *run) curl(ctx context.Context) (string, error) {
	args := []string{"--silent", "--show-error", "--max-time", fmt.Sprint(int(r.host.Scale(curlTime).Seconds())), "--cacert", filepath.Join(r.o.Domain, desk.RootFile), "https://" + r.machine.Addr(port) + kra.PathStatus}
	r.say("$ curl %s", strings.Join(args, " "))
	out, err := exec.CommandContext(ctx, "curl", args...).CombinedOutput()
	r.say("  %s", strings.TrimSpace(string(out)))
	return string(out), err
}

// maintained restarts the box into a state in which its label key signs no certificate for the port: there is none to be had.
func (r *run) maintained(ctx context.Context) error {
	if err := r.operator.Login(officer, passphrase); err != nil {
		return err
	}
	if err := r.operator.Leave("system maintenance", "yes"); err != nil {
		return err
	}
	if _, err := r.operator.RestartedAs("maintenance"); err != nil {
		return err
	}
	if out, err := r.curl(ctx); err == nil {
		return fmt.Errorf("a box in maintenance shows a certificate: %s", out)
	}
	r.say("nothing is open, and nobody answers: without the label key there is no certificate")
	return r.operator.Leave("poweroff", "yes")
}
