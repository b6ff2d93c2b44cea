package tpm

import (
	"testing"

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
