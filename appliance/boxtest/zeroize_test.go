package boxtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// A zeroized box is locked, and so is it over a copy of its disk from before. When its TPM was cleared it is locked too, until the console
// empties the disk; then it is a factory box, which takes another enrolment and knows nothing of the first.
func TestZeroize(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "before")
	b.Stop()
	copied := filepath.Join(t.TempDir(), "copy")
	copyState(t, copied, b.State)
	b.TPM.Restart(t)
	b.Power()
	b.Login()
	agent = b.Agent(&bob)
	if answers, err := agent.Release(t.Context(), []block.Header{h}); err != nil || answers[0].Err != nil {
		t.Fatalf("control: %v", err)
	}

	for _, want := range []string{"Destroy all that box1 holds: 1 key, of which 0 exist nowhere else", "to legal-team opens here no more", "no copy of this disk"} {
		if _, asked := b.Try("zeroize"); !strings.Contains(asked, want) {
			t.Errorf("asked %q; want %q", asked, want)
		}
	}
	b.Do("zeroize", "yes")
	locked := func(when, reason string) {
		t.Helper()
		if up := b.Up(); up.Mode != "locked" || !strings.Contains(up.Reason, reason) {
			t.Errorf("%s: %s, %q; want locked, %q", when, up.Mode, up.Reason, reason)
		}
	}
	b.Wait()
	locked("zeroized", "it was zeroized")
	if left, err := os.ReadDir(filepath.Join(b.State, "krad")); err != nil || len(left) > 0 {
		t.Errorf("on the disk is %v, %v", left, err)
	}
	if _, failed := b.Try("zeroize", "yes"); !strings.Contains(failed, "clear the TPM in the firmware's set-up") {
		t.Errorf("zeroized twice: %s", failed)
	}

	b.Stop()
	putBack(t, b, copied)
	if b.Up().Mode == "enrolled" {
		b.Wait() // until krad has looked at its state
	}
	locked("over a copy", "")
	b.Stop()
	b.TPM.Restart(t)
	b.TPM.Do(t, func(d transport.TPM) error { // the firmware's set-up
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(d)
		return err
	})
	b.Power()
	locked("cleared", "the TPM was cleared")
	b.Do("zeroize", "yes")
	if up := b.Wait(); up.Mode != "factory" {
		t.Fatalf("emptied: %s, %q; want factory", up.Mode, up.Reason)
	}
	b.Enrol()
	b.Login()
	if shown := b.Do("access list"); strings.Contains(shown, "legal-team") {
		t.Errorf("enrolled anew, it knows: %s", shown)
	}
}

// putBack starts a stopped box over a copy of its disk.
func putBack(t *testing.T, b *boxtest.Box, copied string) {
	t.Helper()
	if err := os.RemoveAll(b.State); err != nil {
		t.Fatal(err)
	}
	copyState(t, b.State, copied)
	b.TPM.Restart(t)
	b.Power()
}

func copyState(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
