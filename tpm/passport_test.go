package tpm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// A passport is of one TPM and one attestation key: a box takes no other, before anything changes.
func TestPassportOfAnotherPlatform(t *testing.T) {
	of := newAuthority(t, "example")
	b, other := newBench(t, of), newBench(t, of)
	for _, x := range []*bench{b, other} {
		x.boot(v1)
		x.stage(label.Running)
	}
	request := b.request()
	theirs := mustVerify(t, other.request(), of)
	own := b.bundle(request, v1)
	for name, c := range map[string]struct {
		change func(*label.Enrolment)
		words  []string
	}{
		"endorsement key": {func(e *label.Enrolment) {
			e.Passport.EK = theirs.EK
			e.Platform = of.platform(t, mustVerify(t, request, of).Attester, theirs.EK, "box1")
		}, []string{"the passport is of another platform: it names endorsement key " + theirs.EK.Short()}},
		"attestation key": {func(e *label.Enrolment) { e.Passport.AK = theirs.AK },
			[]string{"the passport is of another platform", "attestation key " + theirs.AK.Short()}},
		"certificate": {func(e *label.Enrolment) { e.Platform = of.platform(t, theirs.Attester, e.Passport.EK, "box1") },
			[]string{"the platform certificate is for another attestation key"}},
	} {
		x := own
		x.Enrolment = new(*own.Enrolment)
		c.change(x.Enrolment)
		_, err := b.EnrolInstall(t.Context(), b.signed(x))
		t.Run(name, func(t *testing.T) { wantRefused(t, err, c.words...) })
	}
	if s, err := b.Status(t.Context()); err != nil || s.State != wire.Factory || len(s.Versions) != 0 || s.Epoch != 0 {
		t.Errorf("after the refusals: %+v, %v", s, err)
	}
	if _, err := b.EnrolInstall(t.Context(), b.signed(own)); err != nil {
		t.Errorf("its own bundle afterwards: %v", err)
	}
}

func mustVerify(t *testing.T, r label.EnrolRequest, of *authority) Verified {
	t.Helper()
	v, err := VerifyRequest(r, of.domain)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Someone between box and TPM who offers a storage root key of his own, for which he holds the private part, is told nothing: no
// session is salted to a key that the passport does not name, and the box is locked with that reason.
func TestInterposedSRK(t *testing.T) {
	b := enrolled(t)
	other := newBench(t, newAuthority(t, "interposer"))
	other.boot(v1)
	other.stage(label.Running)
	other.request()
	own := readPublicAnswer(t, other, srkHandle)
	asked := 0
	b.tpm.Interpose(func(command, answer []byte) []byte {
		if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCReadPublic && binary.BigEndian.Uint32(command[10:]) == srkHandle {
			asked++
			return own
		}
		return answer
	})
	b.tpm.Bus()
	b.boot(v1)
	s, err := b.Status(t.Context())
	if err != nil || s.State != wire.Inconsistent || !strings.Contains(s.Reason, "the disk was enrolled with another TPM: its passport names storage root key") {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	_, err = b.serve()
	wantRefused(t, err, "enrolled with another TPM")
	_, err = b.EnrolRequest(t.Context())
	wantRefused(t, err, "enrolled with another TPM")
	wantRefused(t, b.WriteRecord(t.Context(), record(2)), "enrolled with another TPM")
	if n := sessions(b.tpm.Bus()); n != 0 || asked == 0 {
		t.Errorf("%d sessions were begun, the key was asked for %d times", n, asked)
	}
	b.tpm.Interpose(nil)
	b.boot(v1)
	b.serves()
	if sessions(b.tpm.Bus()) == 0 {
		t.Error("control: no session was begun without him")
	}
}

// readPublicAnswer is what a TPM answers to TPM2_ReadPublic.
func readPublicAnswer(t *testing.T, b *bench, handle uint32) []byte {
	t.Helper()
	command := binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x73}, handle)
	answer, err := b.device.Send(command)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// sessions counts TPM2_StartAuthSession commands on the bus: tag, size, code.
func sessions(bus []byte) (n int) {
	for i := 6; i+4 <= len(bus); i++ {
		if bytes.Equal(bus[i:i+4], []byte{0, 0, 0x01, 0x76}) && bytes.Equal(bus[i-6:i-3], []byte{0x80, 0x01, 0}) {
			n++
		}
	}
	return n
}
