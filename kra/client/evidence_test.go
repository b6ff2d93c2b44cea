package client_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
)

// honest returns the evidence of one release.
func honest(t testing.TB) (client.Evidence, client.Trust) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	raw := encrypt(t, "x", to(t, alice, []kra.AccessID{"legal-team"})...)
	_, ans, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw)
	if err != nil {
		t.Fatal(err)
	}
	return ans.Release.Evidence, trust(t, a)
}

func TestEvidenceKeeps(t *testing.T) {
	e, tr := honest(t)
	again, err := client.ParseEvidence(e.Encode())
	if err != nil || !bytes.Equal(again.Encode(), e.Encode()) {
		t.Fatalf("ParseEvidence(Encode) = %v", err)
	}
	if _, err := again.Verify(tr); err != nil {
		t.Error(err)
	}
	if _, err := again.Verify(trust(t, newAgent(t))); err == nil {
		t.Error("evidence is good under the root of another domain")
	}
	if _, err := again.Verify(client.Trust{}); err == nil {
		t.Error("evidence is good without a root")
	}
}

// FuzzEvidence asserts the one encoding, and that nothing made up is believed.
func FuzzEvidence(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzEvidence/*")
	if err != nil || len(seeds) < 3 {
		f.Fatalf("%d seeds; want 3 or more", len(seeds))
	}
	if _, err := os.Stat(seeds[0]); err != nil {
		f.Fatal(err)
	}
	stranger := trust(f, newAgent(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := client.ParseEvidence(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Encode(), b) {
			t.Fatal("ParseEvidence accepts what Encode would not write")
		}
		if _, err := e.Verify(stranger); err == nil {
			t.Fatal("made-up evidence is believed")
		}
	})
}
