package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	"github.com/keyrelease/krabox/tpm/wire"
)

// tryEnrolment tries to take the box into service from wherever it stands. It never fails the test: the power may go.
func (b *bench) tryEnrolment() error {
	a, err := Open(b.config())
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	ctx := b.t.Context()
	if err := a.Extend(ctx, label.Running); err != nil {
		return err
	}
	text, err := a.EnrolRequest(ctx)
	if err != nil {
		return err
	}
	r, err := label.ParseRequest(text)
	if err != nil {
		return err
	}
	if _, err := a.EnrolInstall(ctx, b.signed(b.bundle(r, v1))); err != nil {
		return err
	}
	return a.WriteRecord(ctx, record(1))
}

// lasting are the commands after which the TPM, or with their answer the disk, is not what it was. A cut between two of
// them is the same as one in front of the second.
var lasting = []tpm2.TPMCC{tpm2.TPMCCEvictControl, tpm2.TPMCCNVDefineSpace, tpm2.TPMCCCreate, tpm2.TPMCCHierarchyChanegAuth, tpm2.TPMCCNVWrite}

// Power is cut at every command of an enrolment that leaves a trace, in front of it and behind it. Each time the box is a
// factory box after the cut, the whole enrolment is repeated, the state opens, and the escrow holds what the TPM was given.
func TestEnrolmentCutAnywhere(t *testing.T) {
	of := newAuthority(t, "example")
	n := 0
	for cut := true; cut; {
		n++
		cut = cutEnrolment(t, of, n, tpmtest.Before)
		cutEnrolment(t, of, n, tpmtest.After)
	}
	if n < 14 {
		t.Errorf("only %d commands were cut", n)
	}
}

// cutEnrolment says whether there were n commands to cut.
func cutEnrolment(t *testing.T, of *authority, n int, where tpmtest.Where) bool {
	b := newBench(t, of)
	b.measure(v1)
	b.tpm.CutAfter(n, where, lasting...)
	cut := b.tryEnrolment() != nil
	b.tpm.Restart(t)
	b.measure(v1)
	b.open()
	s, err := b.Status(t.Context())
	switch done := s.State == wire.Enrolled; {
	case err != nil || s.State == wire.Inconsistent:
		t.Fatalf("cut %d: Status() = %+v, %v", n, s, err)
	case cut && !done: // the last command may be done, its answer lost
		b.down()
		if err := b.tryEnrolment(); err != nil {
			t.Fatalf("cut %d: enrolment repeated: %v", n, err)
		}
	}
	b.boot(v1)
	b.serves()
	b.checkEscrow()
	b.tpm.Cut()
	return cut
}

func (b *bench) escrowed(file string) []byte {
	b.t.Helper()
	text, err := folder(b.dir).read(file)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(text), b.of.escrow)
	if err != nil {
		b.t.Fatal(err)
	}
	secret, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return secret
}

func (b *bench) escrowedAuth(file string) []byte {
	b.t.Helper()
	auth, err := hex.DecodeString(string(b.escrowed(file)))
	if err != nil {
		b.t.Fatal(err)
	}
	return auth
}

// checkEscrow uses each escrowed secret on the TPM, and the empty one to no avail.
func (b *bench) checkEscrow() {
	b.t.Helper()
	for _, h := range []struct {
		handle tpm2.TPMHandle
		file   string
	}{{tpm2.TPMRHOwner, ownerFile}, {tpm2.TPMRHLockout, lockoutFile}} {
		auth := b.escrowedAuth(h.file)
		again := tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: h.handle, Auth: tpm2.PasswordAuth(auth)}, NewAuth: tpm2.TPM2BAuth{Buffer: auth}}
		if _, err := again.Execute(b.device); err != nil {
			b.t.Fatalf("escrowed authorization of %#x: %v", uint32(h.handle), err)
		}
	}
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: owner(tpm2.PasswordAuth(nil)), NewAuth: tpm2.TPM2BAuth{}}).Execute(b.device); !errors.Is(err, tpm2.TPMRCBadAuth) {
		b.t.Errorf("owner with an empty authorization: %v", err)
	}
	x := b.presence()
	n, err := x.name(unwritten)
	if err != nil {
		b.t.Fatal(err)
	}
	use := func(passphrase []byte) error {
		auth := presenceAuth(passphrase, b.srk.name.Buffer)
		s, done, err := b.srk.policySession(b.device)
		if err != nil {
			b.t.Fatal(err)
		}
		defer func() { _ = done() }()
		_, err = tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(auth)},
			PolicySession: s.Handle(), NonceTPM: s.NonceTPM()}.Execute(b.device)
		return err
	}
	if err := use(b.escrowed(presenceFile)); err != nil {
		b.t.Errorf("escrowed presence passphrase: %v", err)
	}
	if err := use([]byte("guess")); !errors.Is(err, tpm2.TPMRCBadAuth) {
		b.t.Errorf("wrong presence passphrase: %v", err)
	}
}

// A bundle for one box is refused by every other, before anything changes.
func TestBundleOfAnotherBox(t *testing.T) {
	of := newAuthority(t, "example")
	b, c := newBench(t, of), newBench(t, of)
	for _, x := range []*bench{b, c} {
		x.boot(v1)
		x.stage(label.Running)
	}
	_, err := c.EnrolInstall(t.Context(), b.signed(b.bundle(b.request(), v1)))
	wantRefused(t, err, "no enrolment request yet")
	own := c.signed(c.bundle(c.request(), v1))
	_, err = c.EnrolInstall(t.Context(), b.signed(b.bundle(b.request(), v1)))
	wantRefused(t, err, "sealed to another TPM")
	ours, theirs := c.answered, b.bundle(b.request(), v1)
	b.answered = ours // the desk seals the wrong one
	_, err = c.EnrolInstall(t.Context(), b.signed(theirs))
	wantRefused(t, err, "the bundle is for another box")
	if s, err := c.Status(t.Context()); err != nil || s.State != wire.Factory || len(s.Versions) != 0 || s.Epoch != 0 {
		t.Errorf("after the refusal: %+v, %v", s, err)
	}
	if _, err := c.EnrolInstall(t.Context(), own); err != nil {
		t.Errorf("its own bundle afterwards: %v", err)
	}
}

// A bundle that would lock the box at its next boot is refused, with the register that would do it.
func TestBundleWouldLock(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	b.stage(label.Running)
	_, err := b.EnrolInstall(t.Context(), b.signed(b.bundle(b.request(), v2)))
	wantRefused(t, err, "PCR 4 (boot loader)", `"release v2"`)
	onlySign := b.bundle(b.request(), v1)
	onlySign.Approvals = onlySign.Approvals[1:]
	_, err = b.EnrolInstall(t.Context(), b.signed(onlySign))
	wantRefused(t, err, "no seal approval")
	otherKey := b.bundle(b.request(), v1)
	otherKey.Enrolment.Labels[0].Chain = [][]byte{b.of.domain.Root}
	_, err = b.EnrolInstall(t.Context(), b.signed(otherKey))
	wantRefused(t, err, "label certificate is for another key")
	_, err = b.EnrolInstall(t.Context(), []byte("-----BEGIN KRA BUNDLE-----\nnonsense"))
	wantRefused(t, err, "no block")
	if s, err := b.Status(t.Context()); err != nil || s.State != wire.Factory || len(s.Versions) != 0 {
		t.Errorf("after the refusals: %+v, %v", s, err)
	}
}

// Installed again on an enrolled box, a bundle renews names and approvals and touches no secret.
func TestBundleAgain(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.enrol()
	before := b.bootedSecrets(v1)
	x := b.bundle(b.request(), v1)
	x.Enrolment.Box.DNS = []string{"other.example"}
	i, err := b.EnrolInstall(t.Context(), b.signed(x))
	if err != nil || i.NeedsStore || i.Box.DNS[0] != "other.example" {
		t.Fatalf("installed %+v, %v", i, err)
	}
	if _, err := i.StoreKey(); err == nil {
		t.Error("a store key was handed out again")
	}
	if !equal(t, before, b.bootedSecrets(v1)) {
		t.Error("the secrets changed")
	}
}

// A TPM that somebody else owns is left alone, with the way out in the text.
func TestForeignOwner(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: owner(tpm2.PasswordAuth(nil)), NewAuth: tpm2.TPM2BAuth{Buffer: []byte("theirs")}}).Execute(b.device); err != nil {
		t.Fatal(err)
	}
	b.stage(label.Running)
	_, err := b.EnrolRequest(t.Context())
	wantRefused(t, err, "another owner", "clear it in the firmware's set-up")
}

// A TPM in the service of another domain is not taken over.
func TestTPMOfAnotherDomain(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.enrol()
	b.of, b.dir = newAuthority(t, "other"), t.TempDir()
	b.boot(v1)
	s, err := b.Status(t.Context())
	if err != nil || s.State != wire.Inconsistent {
		t.Errorf("Status() = %+v, %v; want inconsistent", s, err)
	}
	_, err = b.EnrolRequest(t.Context())
	wantRefused(t, err, "another Name", "another domain")
}
