package tpm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// asking is a factory box at running.
func asking(t *testing.T, of *authority) *bench {
	t.Helper()
	b := newBench(t, of)
	b.boot(v1)
	b.stage(label.Running)
	return b
}

// install tries a sealed bundle, and looks whether a refusal left anything behind.
func (b *bench) install(text []byte) error {
	b.t.Helper()
	_, err := b.EnrolInstall(b.t.Context(), text)
	if s, serr := b.Status(b.t.Context()); err != nil && (serr != nil || s.State != wire.Factory || len(s.Versions) != 0 || s.Epoch != 0) {
		b.t.Errorf("after a refusal: %+v, %v", s, serr)
	}
	return err
}

// swapKey makes another key in this TPM and puts it in the place of the one in the file.
func (b *bench) swapKey(file string, template tpm2.TPMTPublic) {
	b.t.Helper()
	r, err := tpm2.Create{ParentHandle: b.srk.auth(tpm2.PasswordAuth(nil)), InPublic: tpm2.New2B(template)}.Execute(b.device)
	if err != nil {
		b.t.Fatal(err)
	}
	s := blob{r.OutPublic, r.OutPrivate}.stored()
	s.Creation, s.Hash, s.Ticket = r.CreationData.Bytes(), r.CreationHash.Buffer, tpm2.Marshal(r.CreationTicket)
	if err := b.folder.writeBlob(file, s); err != nil {
		b.t.Fatal(err)
	}
}

// claiming is a request in which the TPM, asked past every check of ours, vouches for what change has put there.
func (b *bench) claiming(change func(*label.EnrolRequest)) label.EnrolRequest {
	b.t.Helper()
	r, err := b.compose()
	if err != nil {
		b.t.Fatal(err)
	}
	change(&r)
	_, ak, err := b.folder.readBlob(akFile)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.quote(ak, &r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// A bundle for one box opens in its TPM, with the attestation key that asked for it, and nowhere else.
func TestSealedBundle(t *testing.T) {
	of := newAuthority(t, "example")
	b, other := asking(t, of), asking(t, of)
	x := b.bundle(b.request(), v1)
	other.request()
	sealed := b.signed(x)
	wantRefused(t, other.install(sealed), "sealed to another TPM")
	plain, err := x.Sign(of.label)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, b.install(plain), "comes sealed to its TPM")
	s, err := label.ParseSealed(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(s.Data, []byte("KRA BUNDLE")) {
		t.Error("the bundle lies in the clear")
	}
	for name, change := range map[string]func(*label.SealedBundle){
		"data":       func(s *label.SealedBundle) { s.Data = flipped(s.Data) },
		"credential": func(s *label.SealedBundle) { s.Credential = flipped(s.Credential) },
		"secret":     func(s *label.SealedBundle) { s.Secret = flipped(s.Secret) },
	} {
		bad := s
		change(&bad)
		if err := b.install(bad.PEM()); err == nil || !strings.Contains(err.Error(), "altered") && !strings.Contains(err.Error(), "sealed to another TPM") {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if err := b.install(sealed); err != nil {
		t.Errorf("its own bundle: %v", err)
	}
}

func flipped(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)-1] ^= 1
	return c
}

// An attestation key that took the place of the one that asked opens nothing, although it is of the same TPM.
func TestAttestationKeySwapped(t *testing.T) {
	b := asking(t, newAuthority(t, "example"))
	sealed := b.signed(b.bundle(b.request(), v1))
	whole, _, err := b.folder.readBlob(akFile)
	if err != nil {
		t.Fatal(err)
	}
	b.swapKey(akFile, akTemplate())
	wantRefused(t, b.install(sealed), "activate credential", "to another attestation key than")
	if err := b.folder.writeBlob(akFile, whole); err != nil {
		t.Fatal(err)
	}
	if err := b.install(sealed); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// A TPM that claims the endorsement key of another gets a bundle that neither of the two can open.
func TestEndorsementKeyOfAnother(t *testing.T) {
	of := newAuthority(t, "example")
	b, other := asking(t, of), asking(t, of)
	genuine := other.request()
	b.request()
	sealed := b.signed(b.bundle(b.claiming(func(r *label.EnrolRequest) { r.EK = genuine.EK }), v1))
	wantRefused(t, b.install(sealed), "activate credential", "sealed to another TPM")
	wantRefused(t, other.install(sealed), "activate credential", "sealed to another TPM")
	if err := b.install(b.signed(b.bundle(b.request(), v1))); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// A bundle from before the TPM was cleared is of no use after it, although the endorsement key is still the same.
func TestBundleReplayedAfterClear(t *testing.T) {
	b := asking(t, newAuthority(t, "example"))
	before := b.request()
	sealed := b.signed(b.bundle(before, v1))
	auth := tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(b.escrowedAuth(lockoutFile))}
	if _, err := (tpm2.Clear{AuthHandle: auth}).Execute(b.device); err != nil {
		t.Fatal(err)
	}
	b.boot(v1)
	b.stage(label.Running)
	wantRefused(t, b.install(sealed), "no enrolment request yet")
	if again := b.request(); !bytes.Equal(again.EK.Public, before.EK.Public) || bytes.Equal(again.AK, before.AK) {
		t.Error("control: want the same endorsement key and another attestation key")
	}
	wantRefused(t, b.install(sealed), "activate credential", "to another attestation key than")
	if err := b.install(b.signed(b.bundle(b.request(), v1))); err != nil {
		t.Errorf("enrolled anew: %v", err)
	}
}

// A label key that obeys a password, can leave the TPM or was not made in it is not certified, although attestation key and TPM
// vouch for it.
func TestWeakLabelKey(t *testing.T) {
	b := asking(t, newAuthority(t, "example"))
	b.request()
	good, err := b.labelTemplate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyRequest(b.claiming(func(*label.EnrolRequest) {}), b.of.domain); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, change := range map[string]func(*tpm2.TPMTPublic){
		"obeys a password": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true },
		"can be moved":     func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM, p.ObjectAttributes.FixedParent = false, false },
		"administered by a password": func(p *tpm2.TPMTPublic) {
			p.ObjectAttributes.AdminWithPolicy = false
		},
		"another policy": func(p *tpm2.TPMTPublic) { p.AuthPolicy = tpm2.TPM2BDigest{Buffer: make([]byte, 32)} },
	} {
		weak := good
		change(&weak)
		b.swapKey(labelFile(label.KeyRelease), weak)
		_, err := VerifyRequest(b.claiming(func(*label.EnrolRequest) {}), b.of.domain)
		t.Run(name, func(t *testing.T) {
			wantText(t, err, `key of label "key-release": its attributes, policy or scheme are not what the domain requires`)
		})
	}
	b.swapKey(labelFile(label.KeyRelease), good)
	if _, err := VerifyRequest(b.claiming(func(*label.EnrolRequest) {}), b.of.domain); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// What the TPM gives out at an activation does not show on the bus.
func TestActivationOnTheBus(t *testing.T) {
	b := asking(t, newAuthority(t, "example"))
	s, err := label.ParseSealed(b.signed(b.bundle(b.request(), v1)))
	if err != nil {
		t.Fatal(err)
	}
	_, ak, err := b.folder.readBlob(akFile)
	if err != nil {
		t.Fatal(err)
	}
	b.tpm.Bus()
	credential, err := b.activate(ak, s)
	if err != nil || len(credential) != label.CredentialSize {
		t.Fatalf("activate() = %d bytes, %v", len(credential), err)
	}
	bus := b.tpm.Bus()
	if bytes.Contains(bus, credential) || !bytes.Contains(bus, s.Credential) {
		t.Error("the credential crossed the bus in the clear, or the bus was not seen")
	}
}
