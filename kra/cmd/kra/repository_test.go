package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyrelease/krabox/kra/attrcert"
)

// certificate FILE.pem: the certificate of a person's file, without the key, as FILE-cert.pem.
func certificateOf(ts *testscript.TestScript, neg bool, args []string) {
	cert, _, _ := strings.Cut(ts.ReadFile(args[0]), "-----BEGIN PRIVATE KEY")
	ts.Check(os.WriteFile(ts.MkAbs(strings.TrimSuffix(args[0], ".pem")+"-cert.pem"), []byte(cert), 0o644))
}

// attest PERSON.pem FILE: an attribute certificate for the person, under the person's own key.
func attest(ts *testscript.TestScript, neg bool, args []string) {
	c, rest := pem.Decode([]byte(ts.ReadFile(args[0])))
	k, _ := pem.Decode(rest)
	cert, err := x509.ParseCertificate(c.Bytes)
	ts.Check(err)
	key, err := x509.ParsePKCS8PrivateKey(k.Bytes)
	ts.Check(err)
	now := time.Now()
	raw, err := attrcert.Issue(attrcert.Template{Holder: cert, From: now, Until: now.Add(time.Hour), Groups: []string{"legal"}}, cert, key.(crypto.Signer))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: attrcert.PEMType, Bytes: raw}), 0o644))
}

// serve DIR VAR: a web server of the folder, its address in a variable.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Value("test").(*testing.T).Cleanup(s.Close)
	ts.Setenv(args[1], s.URL)
}
