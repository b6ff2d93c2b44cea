package boxtest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A certificate is one that the product made, and what OpenSSL should think of it.
type certificate struct {
	leaf    []byte
	between [][]byte // DER, its issuer first
	root    string   // PEM file
	for_    []string // arguments under which it is good
	not     []string // arguments under which it is not
}

// OpenSSL, which shares no code with ours, believes every kind of certificate that a domain and its boxes make, for what it is for and
// for nothing else, and no changed one; and none under another domain's root.
func TestCertificatesSecondOpinion(t *testing.T) {
	b := boxtest.Start(t)
	other := filepath.Join(t.TempDir(), "other")
	if err := desk.Init(other, "test"); err != nil {
		t.Fatal(err)
	}
	for name, c := range certificates(t, b) {
		t.Run(name, func(t *testing.T) {
			if out, err := opensslVerify(t, c, c.leaf, c.root, c.for_...); err != nil {
				t.Fatalf("openssl verify %v: %v\n%s", c.for_, err, out)
			}
			if out, err := opensslVerify(t, c, c.leaf, c.root, c.not...); err == nil {
				t.Errorf("openssl verify %v: %s", c.not, out)
			}
			if out, err := opensslVerify(t, c, c.leaf, c.root, "-attime", fmt.Sprint(time.Now().AddDate(30, 0, 0).Unix())); err == nil {
				t.Errorf("in 30 years: %s", out)
			}
			changed := slices.Clone(c.leaf)
			changed[len(changed)-1] ^= 1 // of its signature
			root := c.root
			if len(c.between) == 0 && bytes.Equal(derOf(t, c.root), c.leaf) {
				root = pemFile(t, changed)
			}
			if out, err := opensslVerify(t, c, changed, root, c.for_...); err == nil {
				t.Errorf("changed: %s", out)
			}
			if out, err := opensslVerify(t, c, c.leaf, filepath.Join(other, desk.RootFile), c.for_...); err == nil {
				t.Errorf("under another domain's root of the same name: %s", out)
			}
		})
	}
}

// certificates are one of each kind.
func certificates(t *testing.T, b *boxtest.Box) map[string]certificate {
	t.Helper()
	legalTeam(b)
	b.Do("access add board")
	b.Do("key generate mlkem768p256 for board")
	root, people := filepath.Join(b.Domain, desk.RootFile), filepath.Join(b.Domain, desk.PeopleFile)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	server := func(host string) []string { return []string{"-purpose", "sslserver", "-verify_hostname", host} }
	all := map[string]certificate{
		"root":      {derOf(t, root), nil, root, []string{"-purpose", "crlsign", "-check_ss_sig"}, []string{"-purpose", "sslclient"}},
		"authority": {derOf(t, filepath.Join(b.Domain, desk.AuthorityFile)), nil, root, nil, []string{"-purpose", "crlsign"}},
		"people":    {derOf(t, people), nil, people, []string{"-purpose", "crlsign", "-check_ss_sig"}, []string{"-purpose", "sslserver"}},
		"person":    {bob.Certificate[0], nil, people, []string{"-purpose", "sslclient"}, []string{"-purpose", "sslserver"}},
	}
	c := newChallenger(t, b)
	nonce := newNonce()
	status, answer, _ := c.ask(nonce, label.KeyRelease)
	confirmed, err := label.ParseConfirmations(answer)
	if status != http.StatusOK || err != nil {
		t.Fatalf("challenge: %d, %v", status, err)
	}
	one := confirmed.Confirmations[0]
	all["platform"] = certificate{one.Platform, nil, root, nil, []string{"-purpose", "sslserver"}}
	all["label"] = certificate{one.Chain[0], one.Chain[1:], root, []string{"-purpose", "sslserver", "-policy_check"}, []string{"-purpose", "sslclient"}}

	leaf := tlsChain(t, b)
	all["TLS leaf"] = certificate{leaf[0], leaf[1:], root, append(server("box1.test"), "-verify_ip", "127.0.0.1", "-policy_check"), server("box2.test")}
	all["TLS leaf, client"] = certificate{leaf[0], leaf[1:], root, server("box1.test"), []string{"-purpose", "sslclient"}}

	h, _ := header(t, agent, "x")
	answers, err := agent.Release(t.Context(), []block.Header{h})
	if err != nil || answers[0].Err != nil {
		t.Fatal(err, answers)
	}
	var evidence struct{ Chain string }
	if err := json.Unmarshal(answers[0].Release.Evidence.Encode(), &evidence); err != nil {
		t.Fatal(err)
	}
	if _, err := receipt.ParsePath(evidence.Chain); err != nil {
		t.Fatal(err)
	}
	chain := ders(t, []byte(evidence.Chain))
	all["receipt key"] = certificate{chain[0], chain[1:], root, []string{"-purpose", "any"}, server("box1.test")}

	request, _ := pem.Decode([]byte(text(t, b.Do("replica request"))))
	var signed struct{ Chain [][]byte }
	if err := json.Unmarshal(request.Bytes, &signed); err != nil {
		t.Fatal(err)
	}
	all["statement key"] = certificate{signed.Chain[0], signed.Chain[1:], root, []string{"-purpose", "any"}, server("box1.test")}

	var d struct {
		Keys []struct{ Access, Certificate string }
	}
	public, err := agent.Directory(context.Background())
	if err == nil {
		err = json.Unmarshal(public.Bytes(), &d)
	}
	if err != nil || len(d.Keys) != 2 {
		t.Fatalf("%d keys, %v", len(d.Keys), err)
	}
	for _, k := range d.Keys {
		chain := ders(t, []byte(k.Certificate))
		if k.Access == "board" { // a hybrid key, of which OpenSSL 3.0 knows nothing: see TestHybridSecondOpinion
			continue
		}
		all["key-release key of "+k.Access] = certificate{chain[0], chain[1:], root, []string{"-purpose", "any"}, server("box1.test")}
	}
	return all
}

// OpenSSL 3.0 reads no path that ends in a hybrid key. What the label key signed of it, it verifies all the same.
func TestHybridSecondOpinion(t *testing.T) {
	b := boxtest.Start(t)
	b.Do("access add board")
	b.Do("key generate mlkem768p256 for board")
	d, err := b.Agent(nil).Directory(t.Context())
	if err != nil || len(d.Keys()) != 1 {
		t.Fatal(err)
	}
	leaf := d.Keys()[0].Certificate()
	label, err := x509.ParseCertificate(tlsChain(t, b)[1])
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(label.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	verify := func(signature []byte) ([]byte, error) {
		return exec.Command("openssl", "dgst", "-sha256", "-verify", file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
			"-signature", file("signature", signature), file("tbs", leaf.RawTBSCertificate)).CombinedOutput()
	}
	if out, err := verify(leaf.Signature); err != nil {
		t.Errorf("openssl dgst -verify: %v\n%s", err, out)
	}
	leaf.RawTBSCertificate[len(leaf.RawTBSCertificate)/2] ^= 1
	if out, err := verify(leaf.Signature); err == nil {
		t.Errorf("changed: %s", out)
	}
}

// opensslVerify has OpenSSL verify a certificate, strictly, with nothing of the host's.
func opensslVerify(t *testing.T, c certificate, leaf []byte, root string, args ...string) (out []byte, err error) {
	t.Helper()
	args = append([]string{"verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-x509_strict", "-trusted", root}, args...)
	for _, der := range c.between {
		args = append(args, "-untrusted", pemFile(t, der))
	}
	return exec.Command("openssl", append(args, pemFile(t, leaf))...).CombinedOutput()
}

func pemFile(t *testing.T, der []byte) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(f, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// ders reads PEM certificates.
func ders(t *testing.T, text []byte) (all [][]byte) {
	t.Helper()
	for p, rest := pem.Decode(text); p != nil; p, rest = pem.Decode(rest) {
		all = append(all, p.Bytes)
	}
	if len(all) == 0 {
		t.Fatalf("no certificate in %q", text)
	}
	return all
}

func derOf(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return ders(t, text)[0]
}

// tlsChain is what a TLS client sees of a box.
func tlsChain(t *testing.T, b *boxtest.Box) (chain [][]byte) {
	t.Helper()
	c, err := tls.Dial("tcp", b.Up().Release.String(), &tls.Config{RootCAs: trust(t, b).Roots()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, one := range c.ConnectionState().PeerCertificates {
		chain = append(chain, one.Raw)
	}
	return chain
}
