package tpm

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// The one secret of a platform is its TPM's storage seed: everything else hangs below it. Two platforms of one domain share no
// key, and what hangs below one does not load in the other.
func TestPlatformsDiffer(t *testing.T) {
	of := newAuthority(t, "example")
	b, c := newBench(t, of), newBench(t, of)
	for _, x := range []*bench{b, c} {
		x.enrol()
	}
	if b.enrolment.SRK == c.enrolment.SRK || b.enrolment.Labels[0].Key == c.enrolment.Labels[0].Key {
		t.Error("two platforms share a key")
	}
	for _, file := range []string{labelFile(label.KeyRelease), labelFile(label.Root), akFile, sealedFile} {
		_, theirs, err := b.folder.readBlob(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.device.load(*c.srk, theirs)
		wantRC(t, file+" of another platform", err, tpm2.TPMRCIntegrity)
	}
	b.boot(v1)
	c.boot(v1)
	one, _ := wire.Derive(b.serves())
	if other, _ := wire.Derive(c.serves()); one == other {
		t.Error("two platforms share a store key")
	}
	b.open() // the indexes have the same Names on both: they are the domain's
	for _, x := range b.indexes() {
		if cond, err := c.device.condition(x); err != nil || cond == foreign {
			t.Errorf("%s: condition %d, %v", x.what, cond, err)
		}
	}
}

// The label key obeys no password, and the attestation key signs nothing that the TPM did not say.
func TestKeysAsAgreed(t *testing.T) {
	b := enrolled(t)
	digest := sha256.Sum256([]byte("anything"))
	for file, codes := range map[string][]tpm2.TPMRC{
		labelFile(label.KeyRelease): {tpm2.TPMRCAuthUnavailable},
		akFile:                      {tpm2.TPMRCTicket, tpm2.TPMRCAttributes},
	} {
		_, k, err := b.folder.readBlob(file)
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.device.load(*b.srk, k)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.Sign{KeyHandle: o.auth(tpm2.PasswordAuth(nil)), Digest: tpm2.TPM2BDigest{Buffer: digest[:]}, InScheme: ecdsaSHA256,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(b.device)
		b.device.flush(o.handle)
		refused := false
		for _, code := range codes {
			refused = refused || errors.Is(err, code)
		}
		if !refused {
			t.Errorf("%s signs for an empty password: %v", file, err)
		}
	}
}

// The box says which software states its label stands for, and which of them runs.
func TestStatusListsStates(t *testing.T) {
	b := enrolled(t)
	b.give(approvals(t, b.of.desk(), v2))
	b.boot(v2)
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	matches := map[string]bool{}
	for _, v := range s.Versions {
		matches[v.Kind+" "+v.Description] = v.Matches
	}
	want := map[string]bool{"seal release v1": false, "sign release v1": false, "seal release v2": true, "sign release v2": true}
	for k, m := range want {
		if got, ok := matches[k]; !ok || got != m {
			t.Errorf("%s: listed %v, matches %v; want %v", k, ok, got, m)
		}
	}
	if len(matches) != len(want) || s.PCRs[4] != v2.release().PCRs[4] || s.PCRs[label.StagePCR] != (label.Digest{}) || s.Firmware == "" {
		t.Errorf("Status() = %+v", s)
	}
}
