package token_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform/token"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/kra/policy"
)

// What Debian's packages glewlwyd and sqlite3 bring: an OpenID provider, what its database begins with, and what makes it.
const (
	glewlwyd = "/usr/bin/glewlwyd"
	database = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"
	sqlite   = "/usr/bin/sqlite3"
)

// An openID is a running OpenID provider.
type openID struct {
	t    testing.TB
	url  string
	http *http.Client
}

func newOpenID(t testing.TB) *openID {
	t.Helper()
	dir := t.TempDir()
	first, err := os.Open(database)
	if err != nil {
		t.Fatalf("find glewlwyd: %v (apt-get install glewlwyd sqlite3)", err)
	}
	defer first.Close()
	fill := exec.Command(sqlite, filepath.Join(dir, "db"))
	fill.Stdin = first
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	port := peertest.Port(t, "tcp")
	at := fmt.Sprintf("127.0.0.1:%d", port)
	o := &openID{t: t, url: "http://" + at, http: &http.Client{}}
	if o.http.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`port=%d
bind_address="127.0.0.1"
external_url="%s"
api_prefix="api"
log_mode="console"
log_level="INFO"
cookie_domain="127.0.0.1"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
database = { type = "sqlite3", path = "%s/db" };
`, port, o.url, dir)
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var said peertest.Words
	c := exec.Command(glewlwyd, "--config-file="+file)
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = c.Wait() // killed
		if t.Failed() {
			t.Logf("glewlwyd: %s", &said)
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", at); err == nil {
			conn.Close()
			return o
		}
		if time.Now().After(end) {
			t.Fatal("glewlwyd does not answer")
		}
	}
}

func (o *openID) do(r *http.Request) []byte {
	o.t.Helper()
	answer, err := o.http.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		o.t.Fatalf("%s %s: %s, %v\n%s", r.Method, r.URL, answer.Status, err, b)
	}
	return b
}

// put sends the administrator's words.
func (o *openID) put(path string, what map[string]any) {
	o.t.Helper()
	b, err := json.Marshal(what)
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, o.url+path, bytes.NewReader(b))
	if err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	o.do(r)
}

// token gets a token for a client, who has the certificate or says the password.
func (o *openID) token(id, password string, cert *x509.Certificate) string {
	o.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"kra"}, "client_id": {id}}
	if password != "" {
		form.Set("client_secret", password)
	}
	r, err := http.NewRequest(http.MethodPost, o.url+"/api/oidc/token", strings.NewReader(form.Encode()))
	if err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if cert != nil { // as a server that ends TLS for the provider hands it on
		r.Header["x509"] = []string{strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), "\n", " ")} // in that case
	}
	var said struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(o.do(r), &said); err != nil {
		o.t.Fatal(err)
	}
	return said.Token
}

func (o *openID) keys() []byte {
	o.t.Helper()
	r, err := http.NewRequest(http.MethodGet, o.url+"/api/oidc/jwks", nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return o.do(r)
}

// A provider that somebody else has written issues tokens, to a client that it knows by certificate (RFC 8705) and to one
// that it knows by password; its key set is what is pasted into the box.
func TestOpenIDProvider(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bob"}, DNSNames: []string{"bob.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	o := newOpenID(t)
	o.put("/api/auth/", map[string]any{"username": "admin", "password": "password"})
	o.put("/api/scope/", map[string]any{"name": "kra", "display_name": "kra", "password_required": false})
	o.put("/api/mod/plugin/", map[string]any{"module": "oidc", "name": "oidc", "display_name": "oidc", "enabled": true, "parameters": map[string]any{
		"iss": issuer, "jwt-type": "ecdsa", "jwt-key-size": "256", "key": text("PRIVATE KEY", private), "cert": text("PUBLIC KEY", public),
		"code-duration": 600, "refresh-token-duration": 3600, "access-token-duration": 3600, "allow-non-oidc": true, "auth-type-client-enabled": true,
		"auth-type-code-enabled": true, "jwks-show": true, "client-cert-source": "header", "client-cert-header-name": "x509",
		"client-cert-self-signed-allowed": true, "client-cert-use-endpoint-aliases": false}})
	client := func(id, method string, more ...any) {
		all := map[string]any{"client_id": id, "name": id, "scope": []string{"kra"}, "confidential": true, "enabled": true,
			"authorization_type": []string{"client_credentials"}, "token_endpoint_auth_method": []string{method}, "redirect_uri": []string{"https://example.com"}}
		all[more[0].(string)] = more[1]
		o.put("/api/client/", all)
	}
	client("bob", "tls_client_auth", "tls_client_auth_san_dns", "bob.example.com")
	client("eve", "client_secret_post", "password", "a password for tests only")

	v, err := token.New(token.Config{Issuer: issuer, Audience: "kra", Keys: o.keys(), Map: []token.Mapping{
		{Kind: policy.Attribute, Name: "client", From: "client_id"}, {Kind: policy.Role, From: "scope"}}})
	if err != nil {
		t.Fatalf("%v\n%s", err, o.keys())
	}
	bound := o.token("bob", "", bob)
	items, err := v.Verify(bound, bob)
	if want := "attribute client bob, role kra "; err != nil || tell(items) != want || !v.Issued(bound) {
		t.Fatalf("%q, %v; want %q\n%s", tell(items), err, want, bound)
	}
	for _, i := range items {
		if left := time.Until(i.Until); i.From.IsZero() || left < 50*time.Minute || left > 61*time.Minute || i.From.After(time.Now()) {
			t.Errorf("from %v until %v; want an hour from now", i.From, i.Until)
		}
	}
	if _, err := v.Verify(bound, certificate(t)); err == nil {
		t.Error("somebody else's token was accepted")
	}
	if _, err := v.Verify(o.token("eve", "a password for tests only", nil), bob); err == nil || !strings.Contains(err.Error(), "not bound") {
		t.Errorf("a bearer token: %v; want that it is not bound", err)
	}
}
