package hsm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/hsmtest"
)

// A key of the domain is made in a token, cannot leave it, and signs there by a program of its own; with a wrong PIN, or for
// what is no digest, it does not.
func TestTokenSigns(t *testing.T) {
	hsmtest.Initialized(t, "desk", "1234-user")
	bin := filepath.Join(t.TempDir(), "hsmd")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/keyrelease/krabox/hsm/cmd/hsmd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := func(in string, args ...string) (string, string) {
		c := exec.Command(bin, append([]string{"token"}, args...)...)
		var out, talk bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &talk
		if err := c.Run(); err != nil {
			return out.String(), talk.String() + err.Error()
		}
		return out.String(), ""
	}
	at := []string{"-module", hsmtest.Module, "-token", "desk"}
	made, failure := run("1234-user\n", append([]string{"make", "-name", "kra root"}, at...)...)
	id, point, ok := strings.Cut(strings.TrimSpace(made), " ")
	if failure != "" || !ok {
		t.Fatalf("make: %q, %s", made, failure)
	}
	raw, err := hex.DecodeString(point)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("text"))
	sign := append([]string{"sign", "-id", id}, at...)
	text, failure := run("1234-user\n"+hex.EncodeToString(digest[:])+"\n", sign...)
	sig, err := hex.DecodeString(strings.TrimSpace(text))
	if failure != "" || err != nil || !ecdsa.VerifyASN1(pub, digest[:], sig) {
		t.Fatalf("sign: %q, %s, %v", text, failure, err)
	}
	for name, c := range map[string]struct {
		in   string
		args []string
		want string
	}{
		"wrong PIN":    {"4321-user\n" + hex.EncodeToString(digest[:]) + "\n", sign, "the token refuses the PIN"},
		"no PIN":       {"\n" + hex.EncodeToString(digest[:]) + "\n", sign, "want a PIN"},
		"no digest":    {"1234-user\n", sign, "want a digest"},
		"short digest": {"1234-user\nabcd\n", sign, "digest of 32 bytes"},
		"another key":  {"1234-user\n" + hex.EncodeToString(digest[:]) + "\n", append([]string{"sign", "-id", strings.Repeat("0", len(id))}, at...), "holds 0 keys"},
		"no token":     {"1234-user\n", []string{"make", "-name", "x", "-module", hsmtest.Module, "-token", "none"}, "find token"},
		"no module":    {"1234-user\n", []string{"make", "-name", "x", "-module", "/none.so", "-token", "desk"}, "load module"},
		"no verb":      {"1234-user\n", []string{"destroy"}, "want make or sign"},
		"no name":      {"1234-user\n", append([]string{"make"}, at...), "say -name"},
	} {
		if out, failure := run(c.in, c.args...); out != "" || !strings.Contains(failure, c.want) {
			t.Errorf("%s: %q, %s; want %q", name, out, failure, c.want)
		}
	}
	stays(t, id)
}

// stays looks at the key's attributes from outside, and tries to read it.
func stays(t *testing.T, id string) {
	t.Helper()
	raw, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	lib := p11.New(hsmtest.Module)
	if err := lib.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer lib.Destroy()
	defer func() { _ = lib.Finalize() }()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	sh, err := lib.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.Login(sh, p11.CKU_USER, "1234-user"); err != nil {
		t.Fatal(err)
	}
	if err := lib.FindObjectsInit(sh, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_ID, raw)}); err != nil {
		t.Fatal(err)
	}
	found, _, err := lib.FindObjects(sh, 2)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %d, %v", len(found), err)
	}
	if a, err := lib.GetAttributeValue(sh, found[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); err == nil {
		t.Errorf("the token gives %d bytes of the key", len(a[0].Value))
	}
	for _, c := range []struct {
		attribute uint
		want      byte
	}{{p11.CKA_SENSITIVE, 1}, {p11.CKA_EXTRACTABLE, 0}, {p11.CKA_DERIVE, 0}, {p11.CKA_DECRYPT, 0}, {p11.CKA_UNWRAP, 0}, {p11.CKA_SIGN, 1}} {
		a, err := lib.GetAttributeValue(sh, found[0], []*p11.Attribute{p11.NewAttribute(c.attribute, nil)})
		if err != nil || len(a[0].Value) != 1 || a[0].Value[0] != c.want {
			t.Errorf("attribute %#x: %v, %v; want %d", c.attribute, a, err, c.want)
		}
	}
}
