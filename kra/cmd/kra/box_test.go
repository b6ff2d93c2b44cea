package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
