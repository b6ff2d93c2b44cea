package desk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/hsm/hsmtest"
)

// Root and label key in a token: a box is enrolled, and no file can sign. With a wrong PIN, another token's key or a helper that
// lies, nothing is signed.
func TestKeysInToken(t *testing.T) {
	hsmtest.Initialized(t, "domain", "1234-user")
	bin := filepath.Join(t.TempDir(), "hsmd")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/keyrelease/krabox/hsm/cmd/hsmd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pin := func(p string) Hands {
		return Hands{Helper: bin, PIN: func(string) ([]byte, error) { return []byte(p), nil }}
	}
	dir := made(t, Custody{Files: SealedFiles, To: quick(t, keyPassphrase), Token: &HSM{Module: hsmtest.Module, Label: "domain"}, Hands: pin("1234-user"),
		Recovery: Quorum{Need: 2, Of: 3, Dir: filepath.Join(t.TempDir(), "shares")}})
	holdsNoSecret(t, dir)
	for _, name := range []string{rootKey, labelKey} {
		if f, err := form(dir, name); err != nil || f != tokenEnding {
			t.Errorf("%s key: %s, %v", name, f, err)
		}
	}
	h := pin("1234-user")
	h.Passphrase = func(string) ([]byte, error) { return []byte(keyPassphrase), nil }
	d := opened(t, dir, h)
	enrolled(t, d)
	_, err := opened(t, dir, pin("4321-user")).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "the token refuses the PIN")
	_, err = opened(t, dir, Hands{Helper: bin}).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "say -pin-file")
	_, err = opened(t, dir, Hands{Helper: filepath.Join(t.TempDir(), "none"), PIN: h.PIN}).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "use token domain", "none")

	// what the helper says is verified, however it came about
	liar := filepath.Join(t.TempDir(), "hsmd")
	if err := os.WriteFile(liar, []byte("#!/bin/sh\necho 3006020101020101\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = opened(t, dir, Hands{Helper: liar, PIN: h.PIN}).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "what came back is no signature by the domain's key")

	// the key of another purpose in the same token is not taken for it
	root, err := os.ReadFile(filepath.Join(dir, rootKey+tokenEnding))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, labelKey+tokenEnding), root, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = opened(t, dir, h).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "another key than the domain's")
}
