package qemu_test

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	pb "github.com/google/go-tpm-tools/proto/attest"
	tpmpb "github.com/google/go-tpm-tools/proto/tpm"
	tpmserver "github.com/google/go-tpm-tools/server"
	"github.com/google/go-tpm/tpm2"

	"github.com/keyrelease/krabox/kra/label"
)

// Others' verifiers believe the request of a machine that was measured from its firmware on: Google's that its event log explains the registers
// that its TPM quotes, and the tools of the TPM software stack that this key quoted them for this request. Neither believes a changed one.
func TestBoxSecondOpinion(t *testing.T) {
	s, err := enrolled()
	if err != nil {
		t.Fatal(err)
	}
	r, err := label.ParseRequest(s.request)
	if err != nil {
		t.Fatal(err)
	}
	log, err := r.UnpackLog()
	if err != nil {
		t.Fatal(err)
	}
	ak, spki := attestationKey(t, r)
	google := func(change func(a *pb.Attestation, o *tpmserver.VerifyOpts)) (*pb.MachineState, error) {
		statement := r.Statement()
		bank := &tpmpb.PCRs{Hash: tpmpb.HashAlgo_SHA256, Pcrs: map[uint32][]byte{}}
		for i, d := range r.PCRs {
			bank.Pcrs[uint32(i)] = d[:]
		}
		a := &pb.Attestation{AkPub: r.AK, EventLog: slices.Clone(log),
			Quotes: []*tpmpb.Quote{{Quote: slices.Clone(r.Quote.Attest), RawSig: slices.Clone(r.Quote.Signature), Pcrs: bank}}}
		o := tpmserver.VerifyOpts{Nonce: statement[:], TrustedAKs: []crypto.PublicKey{ak}, Loader: tpmserver.UnsupportedLoader}
		change(a, &o)
		return tpmserver.VerifyAttestation(a, o)
	}
	state, err := google(func(*pb.Attestation, *tpmserver.VerifyOpts) {})
	if err != nil {
		t.Fatalf("second opinion: %v", err)
	}
	if len(state.GetRawEvents()) == 0 {
		t.Error("second opinion: the log has no events")
	}
	for what, change := range map[string]func(a *pb.Attestation, o *tpmserver.VerifyOpts){
		"another nonce":     func(_ *pb.Attestation, o *tpmserver.VerifyOpts) { o.Nonce[0] ^= 1 },
		"flipped quote":     func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.Quotes[0].Quote[40] ^= 1 },
		"another image":     func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.Quotes[0].Pcrs.Pcrs[4][0] ^= 1 },
		"half an event log": func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.EventLog = a.EventLog[:len(a.EventLog)/2] },
	} {
		if _, err := google(change); err == nil {
			t.Errorf("%s: the second opinion agrees", what)
		}
	}
	tools := func(nonce [32]byte) ([]byte, error) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"ak": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
			"attest": r.Quote.Attest, "signature": r.Quote.Signature} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.Command("tpm2_checkquote", "-u", "ak", "-m", "attest", "-s", "signature", "-g", "sha256", "-q", hex.EncodeToString(nonce[:]))
		c.Dir = dir
		return c.CombinedOutput()
	}
	nonce := r.Statement()
	if out, err := tools(nonce); err != nil {
		t.Errorf("tpm2_checkquote: %v\n%s", err, out)
	}
	nonce[0] ^= 1
	if out, err := tools(nonce); err == nil {
		t.Errorf("another nonce: tpm2_checkquote agrees: %s", out)
	}
}

// attestationKey is the key of the request, as it stands there.
func attestationKey(t *testing.T, r label.EnrolRequest) (crypto.PublicKey, []byte) {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.AK)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm2.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, spki
}
