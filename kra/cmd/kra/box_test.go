package main

import (
	"bytes"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
)

// TestBox runs the manual of testdata/box against a whole box: swtpm, tpmd, hsmd with
// SoftHSM, krad. "box LINE" is typed at its console; what that shows is in the file
// "console". Persons bob and carol have certificates.
func TestBox(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/box",
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { return setUpBox(t, e) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"box": typeAtBox, "code": code, "flip": flip, "age-recipient": ageRecipientOf, "serve": serveFolder, "jose": joseCommand, "stock-age": stockAge,
			"paste": paste, "refuses": refuses, "certificates": certificates, "desk": atDesk, "free-port": freePort, "until": until,
		},
	})
}

func setUpBox(t *testing.T, e *testscript.Env) error {
	b := boxtest.Start(t)
	e.Values["box"] = b
	e.Values["test"] = t
	b.Trust("corp")
	root, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(e.WorkDir, "root.pem"), root, 0o600); err != nil {
		return err
	}
	for _, name := range []string{"bob", "carol"} {
		b.Person(name)
		var pair []byte
		for _, end := range []string{".pem", ".key"} {
			part, err := os.ReadFile(filepath.Join(b.Domain, "people", name+end))
			if err != nil {
				return err
			}
			pair = append(pair, part...)
		}
		if err := os.WriteFile(filepath.Join(e.WorkDir, name+".pem"), pair, 0o600); err != nil {
			return err
		}
	}
	e.Setenv("DOMAIN", b.Domain)
	e.Setenv("KRA_ROOT", filepath.Join(e.WorkDir, "root.pem"))
	e.Setenv("KRA_URL", b.Agent(nil).URL())
	return nil
}

func typeAtBox(ts *testscript.TestScript, neg bool, args []string) {
	shown, failure := ts.Value("box").(*boxtest.Box).Try(strings.Join(args, " "))
	if failure != "" {
		ts.Fatalf("the console says: %s", failure)
	}
	ts.Check(os.WriteFile(ts.MkAbs("console"), []byte(shown), 0o600))
}

// paste FILE LINE: types a line at the console, and what is in the file to what that asks.
func paste(ts *testscript.TestScript, neg bool, args []string) {
	shown, failure := ts.Value("box").(*boxtest.Box).Try(strings.Join(args[1:], " "), strings.TrimSpace(ts.ReadFile(args[0])))
	if failure != "" {
		ts.Fatalf("the console says: %s", failure)
	}
	ts.Check(os.WriteFile(ts.MkAbs("console"), []byte(shown), 0o600))
}

// refuses FILE WHY LINE: is paste for what the console must refuse, for this reason.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	_, failure := ts.Value("box").(*boxtest.Box).Try(strings.Join(args[2:], " "), strings.TrimSpace(ts.ReadFile(args[0])))
	if !strings.Contains(failure, args[1]) {
		ts.Fatalf("the console says %q, want a refusal with %q", failure, args[1])
	}
}

// certificates SHOWN FILE: what is certificates in what the console has shown.
func certificates(ts *testscript.TestScript, neg bool, args []string) {
	text := []byte(ts.ReadFile(args[0]))
	var all []byte
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == "CERTIFICATE" {
			all = append(all, pem.EncodeToMemory(b)...)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), all, 0o600))
}

// stock-age PATH: builds age's own command, as go.mod has it.
func stockAge(ts *testscript.TestScript, neg bool, args []string) {
	c := exec.Command("go", "build", "-o", ts.MkAbs(args[0]), "filippo.io/age/cmd/age")
	if out, err := c.CombinedOutput(); err != nil {
		ts.Fatalf("build age: %v\n%s", err, out)
	}
}

// serve FOLDER VAR: a plain HTTP file server, without any security.
func serveFolder(ts *testscript.TestScript, neg bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv(args[1], s.URL)
}

// desk ARGS: a verb of the domain's desk. What it says is in the file "desk.txt", what it makes in "desk.out".
func atDesk(ts *testscript.TestScript, neg bool, args []string) {
	var out, talk bytes.Buffer
	err := desk.Command(append(args, "-dir", ts.Getenv("DOMAIN")), &out, &talk)
	if err != nil && !neg || err == nil && neg {
		ts.Fatalf("desk: %v\n%s", err, talk.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs("desk.txt"), talk.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("desk.out"), out.Bytes(), 0o600))
}

// free-port VAR: a port on loopback that nobody listens on.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// until PATTERN ARGS: kra ARGS, again and again, until what it writes, to either output, has the pattern.
func until(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	var last string
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		_ = ts.Exec("kra", args[1:]...)
		if last = ts.ReadFile("stdout") + ts.ReadFile("stderr"); re.MatchString(last) {
			return
		}
	}
	ts.Fatalf("never %q: %s", args[0], last)
}
