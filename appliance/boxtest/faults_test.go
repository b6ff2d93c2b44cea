package boxtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// TestFaults: what MANUAL.md says under "When something fails" of the HSM's process, its token and the TPM.
func TestFaults(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	h, _ := header(t, b.Agent(&bob), "x")
	release := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		a, err := b.Agent(&bob).Release(ctx, []block.Header{h})
		if err != nil {
			return err
		}
		return a[0].Err
	}
	again := func(when string) {
		t.Helper()
		err := release()
		for deadline := time.Now().Add(2 * time.Minute); err != nil; err = release() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v\n%s", when, err, b.Output())
			}
			time.Sleep(20 * time.Millisecond)
		}
		if shown := words(b.Do("status")); !strings.Contains(shown, "health good") {
			t.Errorf("%s, status says %s", when, shown)
		}
	}
	again("in service")

	// the token folder is removed, and what is in nobody's memory any more comes from the sealed state
	if err := os.RemoveAll(filepath.Join(filepath.Dir(b.Socket("hsm")), "tokens")); err != nil {
		t.Fatal(err)
	}
	_, refused := b.Try("key generate p256 for legal-team")
	kill(t, b)
	again("without a token folder, after the end of hsmd")
	if shown := words(b.Do("status")); !strings.Contains(shown, "hsmd ready, 1 restart;") {
		t.Errorf("status says %s", shown)
	}
	if refused == "" { // it was acknowledged: then it is there
		h, _ = header(t, b.Agent(&bob), "y")
		again("with the key that was made without a token folder")
	}
	b.Do("key generate p256 for legal-team")
	h, _ = header(t, b.Agent(&bob), "z")
	again("with a new key")

	// the TPM is gone: what is written needs it, and nothing is released once something was not
	b.TPM.Cut()
	if _, failure := b.Try("access title legal-team Others"); !strings.Contains(failure, "the store is closed") && !strings.Contains(failure, "does not answer") {
		t.Errorf("a change without a TPM: %q", failure)
	}
	for range 3 {
		if err := release(); err == nil {
			t.Fatal("a key was released after a change that the TPM did not take")
		}
	}
	b.Reset()
	if b.Up().Mode != "enrolled" {
		t.Fatalf("with its TPM again the box is %s: %s", b.Up().Mode, b.Up().Reason)
	}
	b.Login()
	again("with its TPM again")
	verifyLog(t, b)
}
