package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

func TestDirectoryIsVerified(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := map[string]struct {
		how func(*clienttest.Forgery)
		why string
	}{
		"as it should be":         {func(*clienttest.Forgery) {}, ""},
		"signed by the root":      {func(f *clienttest.Forgery) { f.By = "root" }, "no label key stands between"},
		"signed by a person's CA": {func(f *clienttest.Forgery) { f.By = "persons" }, "unknown authority"},
		"of another label":        {func(f *clienttest.Forgery) { f.By = "maintenance" }, `label "maintenance"`},
		"expired": {func(f *clienttest.Forgery) {
			f.Template.NotBefore, f.Template.NotAfter = time.Unix(1, 0), time.Unix(2, 0)
		}, "expired"},
		"name and URI differ":   {func(f *clienttest.Forgery) { f.Template.Subject.CommonName = "board" }, `for "board" and for "other"`},
		"of another domain":     {func(f *clienttest.Forgery) { f.Template.URIs = clienttest.URI("kra://rival/other") }, "not permitted"},
		"a receipt key's name":  {func(f *clienttest.Forgery) { f.Template.URIs = clienttest.URI("kra://acme/receipt/other") }, "access identifier"},
		"another scheme":        {func(f *clienttest.Forgery) { f.Template.URIs = clienttest.URI("https://acme/other") }, "does not name a key-release key"},
		"without a name":        {func(f *clienttest.Forgery) { f.Template.URIs = nil }, "not one URI"},
		"for signing":           {func(f *clienttest.Forgery) { f.Template.KeyUsage = x509.KeyUsageDigitalSignature }, "key usage"},
		"for signing also":      {func(f *clienttest.Forgery) { f.Template.KeyUsage |= x509.KeyUsageDigitalSignature }, "key usage"},
		"of a curve not in use": {func(f *clienttest.Forgery) { f.Public = p521.Public() }, "no suite"},
	}
	for name, c := range forged {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			a.Publish(a.Forge(t, "other", c.how))
			checkDirectory(t, a, c.why)
		})
	}
	entries := map[string]struct {
		how func(*kra.PublicKey)
		why string
	}{
		"entry of another access identifier": {func(k *kra.PublicKey) { k.Access = "third" }, "other than the certificate"},
		"entry with another key id":          {func(k *kra.PublicKey) { k.KeyID = strings.Repeat("ab", 32) }, "other than the certificate"},
		"entry with another suite":           {func(k *kra.PublicKey) { k.Suite = "rsa-oaep" }, "other than the certificate"},
		"entry twice":                        {func(*kra.PublicKey) {}, "listed twice"},
		"entry without the label":            {func(k *kra.PublicKey) { k.Certificate = k.Certificate[:strings.LastIndex(k.Certificate, "-----BEGIN")] }, "unknown authority"},
		"entry that is no certificate":       {func(k *kra.PublicKey) { k.Certificate = "x" }, "PEM"},
	}
	for name, c := range entries {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			k := a.Forge(t, "other", func(*clienttest.Forgery) {})
			if name == "entry twice" {
				a.Publish(k)
			}
			c.how(&k)
			a.Publish(k)
			checkDirectory(t, a, c.why)
		})
	}
}

// checkDirectory fetches; why is a part of the refusal, empty for none.
func checkDirectory(t *testing.T, a *clienttest.Agent, why string) {
	t.Helper()
	d, err := as(t, a, "").Directory(t.Context())
	if why == "" {
		if _, ok := d.Lookup("other"); err != nil || !ok {
			t.Fatalf("directory = %v; want the key", err)
		}
		return
	}
	var untrusted *client.Untrusted
	if !errors.As(err, &untrusted) || !strings.Contains(err.Error(), why) {
		t.Fatalf("directory = %v; want it not believed, with %q", err, why)
	}
	if len(d.Keys()) != 0 {
		t.Error("keys of a directory that is not believed can be used")
	}
}

func TestServerMustBeAnAgent(t *testing.T) {
	a := clienttest.NewAs(t, "maintenance")
	_, err := as(t, a, "").Directory(t.Context())
	var untrusted *client.Untrusted
	if !errors.As(err, &untrusted) || !strings.Contains(err.Error(), `label "maintenance"`) {
		t.Errorf("server of another label: %v; want it not believed", err)
	}
	other := clienttest.New(t)
	c, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust(t, other)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Verify(t.Context()); !errors.As(err, &untrusted) {
		t.Errorf("server of another domain: %v; want it not believed", err)
	}
}

func TestTrustIsARoot(t *testing.T) {
	a := newAgent(t)
	cert, _ := a.Person(t, "alice")
	for name, text := range map[string]string{"a person": string(cert), "nothing": "", "no PEM": "root",
		"two things": string(a.RootPEM()) + "x"} {
		if tr, err := client.ParseTrust([]byte(text)); err == nil || tr.Valid() {
			t.Errorf("ParseTrust of %s = %v", name, err)
		}
	}
	if _, err := client.NewAgent(client.Config{URL: a.URL}); err == nil {
		t.Error("an agent is prepared without a root")
	}
	for _, url := range []string{"", "http://x", "https://", "https://u@x", "https://x/path", "https://x?q"} {
		if _, err := client.NewAgent(client.Config{URL: url, Trust: trust(t, a)}); err == nil {
			t.Errorf("NewAgent takes the address %q", url)
		}
	}
}
