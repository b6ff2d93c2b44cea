package main

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kra": main, pluginFile: main})
}

// scripts is the number of committed manual pages in testdata/script. Fewer is a failure.
const scripts = 18

// TestScripts runs the manual: each script has an agent of its own, with the access
// identifiers legal-team (p256) and board (rsa-oaep), and the persons alice and mallory.
func TestScripts(t *testing.T) {
	found, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(found) < scripts {
		t.Fatalf("%d scripts; want %d", len(found), scripts)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { return setUp(t, e) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"agent": agentCommand, "code": code, "copies": copies, "cut": cut, "flip": flip, "relabel": relabel, "mode": mode, "age-recipient": ageRecipientOf,
			"certificate": certificateOf, "attest": attest, "serve": serve,
		},
	})
}

func setUp(t *testing.T, e *testscript.Env) error {
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.AddKey(t, "board", "Board of directors", block.SuiteRSAOAEP)
	a.AddKey(t, "tricky", "Tricky\x1b[2J\r", block.SuiteP256)
	e.Values["agent"] = a
	e.Values["test"] = t
	e.Setenv("KRA_URL", a.URL)
	e.Setenv("KRA_ROOT", filepath.Join(e.WorkDir, "root.pem"))
	e.Setenv("KRA_CERT", filepath.Join(e.WorkDir, "alice.pem"))
	files := map[string][]byte{"root.pem": a.RootPEM(), "other-root.pem": clienttest.New(t).RootPEM()}
	for _, name := range []string{"alice", "mallory"} {
		cert, key := a.Person(t, name)
		files[name+".pem"] = append(cert, key...)
	}
	for name, s := range map[string]block.Suite{"alice": block.SuiteRSAOAEP, "bob": block.SuiteP256} {
		cert, key := a.Second(t, name, s)
		files[name+"-encryption.pem"], files[name+"-encryption-key.pem"] = append(cert, key...), key
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// agentCommand: agent allow NAME... | stop | busy N | lie WHAT | export FILE | requests N.
func agentCommand(ts *testscript.TestScript, neg bool, args []string) {
	a := ts.Value("agent").(*clienttest.Agent)
	switch verb, rest := args[0], args[1:]; verb {
	case "allow":
		a.Allow(func(_ kra.AccessID, name string) bool {
			return strings.Contains(" "+strings.Join(rest, " ")+" ", " "+name+" ")
		})
	case "stop":
		a.Stop()
	case "busy":
		n, err := strconv.Atoi(rest[0])
		ts.Check(err)
		a.Busy(n)
	case "lie":
		a.Lie(lies()[rest[0]])
	case "export":
		f, err := os.Create(ts.MkAbs(rest[0]))
		ts.Check(err)
		ts.Check(errors.Join(a.Export(f), f.Close()))
	case "saw": // certificates attributes tokens delivery decryptor
		q := a.Last()
		p := q.Presented()
		if got := fmt.Sprintln(len(p.Certificates), len(p.Attributes), len(p.Tokens), q.Delivery().To(), q.Claim()); strings.Join(strings.Fields(got), " ") != strings.Join(rest, " ") {
			ts.Fatalf("the agent saw %s", got)
		}
	case "requests":
		if got := strconv.Itoa(a.Requests()); got != rest[0] {
			ts.Fatalf("%s requests for release; want %s", got, rest[0])
		}
	default:
		ts.Fatalf("unknown: agent %s", verb)
	}
}

func lies() map[string]func(*clienttest.Lie) {
	return map[string]func(*clienttest.Lie){
		"key": func(l *clienttest.Lie) { l.Key[0] ^= 1 },
		"receipt": func(l *clienttest.Lie) {
			l.Receipt = []byte(strings.Replace(string(l.Receipt), `"book":1`, `"book":2`, 1))
		},
		"clear":     func(l *clienttest.Lie) { l.InTheClear = true },
		"elsewhere": func(l *clienttest.Lie) { l.Elsewhere = 1 },
		"access":    func(l *clienttest.Lie) { l.Access = "board" },
		"none":      nil,
	}
}

// code N PROGRAM ARG...: the program ends with exit code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d; want %s", got, args[0])
	}
}

// copies FROM N TO...: N bytes made of FROM, repeated.
func copies(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	big := strings.Repeat(text, n/len(text)+1)[:n]
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(big), 0o644))
}

// cut FILE N: leaves all but the last N bytes.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.ReadFile(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b[:len(b)-n]), 0o644))
}

// flip FILE N: changes one bit of the byte N from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b[len(b)-n] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// relabel FROM TO: DER of AuthEnvelopedData in AES-256-GCM becomes EnvelopedData in AES-256-CBC with the same recipients.
func relabel(ts *testscript.TestScript, neg bool, args []string) {
	var info struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version    int
			Recipients asn1.RawValue
			Encrypted  struct {
				Type       asn1.ObjectIdentifier
				Algorithm  pkix.AlgorithmIdentifier
				Ciphertext asn1.RawValue
			}
			MAC []byte `asn1:"optional"`
		} `asn1:"explicit,tag:0"`
	}
	_, err := asn1.Unmarshal([]byte(ts.ReadFile(args[0])), &info)
	ts.Check(err)
	info.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	c := &info.Content
	c.Version, c.MAC = 2, nil
	c.Encrypted.Algorithm = pkix.AlgorithmIdentifier{
		Algorithm:  asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42},
		Parameters: asn1.RawValue{Tag: asn1.TagOctetString, Bytes: make([]byte, 16)},
	}
	ct := &c.Encrypted.Ciphertext
	ct.FullBytes, ct.Bytes = nil, ct.Bytes[:len(ct.Bytes)&^15]
	b, err := asn1.Marshal(info)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// mode FILE WANT.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().String(); got != args[1] {
		ts.Fatalf("mode of %s = %s; want %s", args[0], got, args[1])
	}
}

// age-recipient FILE VAR: puts the recipient of the last age-keygen into a variable.
func ageRecipientOf(ts *testscript.TestScript, neg bool, args []string) {
	for _, line := range strings.Split(ts.ReadFile(args[0]), "\n") {
		if r, ok := strings.CutPrefix(line, "# public key: "); ok {
			ts.Setenv(args[1], r)
			return
		}
	}
	ts.Fatalf("no recipient in %s", args[0])
}

func TestLiesParse(t *testing.T) {
	// A lie that no longer changes anything would make its script pass for the wrong reason.
	for name, lie := range lies() {
		l := &clienttest.Lie{Key: make([]byte, 16), Access: "legal-team", Receipt: json.RawMessage(`{"public":{"book":1}}`)}
		if lie == nil {
			continue
		}
		lie(l)
		if l.Key[0] == 0 && !l.InTheClear && l.Elsewhere == 0 && l.Access == "legal-team" && strings.Contains(string(l.Receipt), `"book":1`) {
			t.Errorf("lie %q changes nothing", name)
		}
	}
}
