package tpm

import (
	"crypto/sha256"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// flashed is v1 on a machine whose firmware was exchanged.
func (b *bench) flashed() {
	b.t.Helper()
	b.boot(v1)
	b.tpm.Extend(b.t, 0, sha256.Sum256([]byte("new firmware")))
}

func (b *bench) status() wire.Status {
	b.t.Helper()
	s, err := b.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// TestRecoveryAfterNewFirmware: a box whose firmware is new says so before it opens anything. In maintenance it opens nothing and its release
// key signs nothing, but it reports what runs; the domain approves that, and the next boot opens the same secrets.
func TestRecoveryAfterNewFirmware(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	if s := b.status(); s.Unapproved != "" {
		t.Errorf("what is approved is said not to be: %s", s.Unapproved)
	}
	before := b.serves()
	b.flashed()
	if s := b.status(); s.State != wire.Enrolled {
		t.Errorf("state %s", s.State)
	} else {
		wantText(t, wire.Refused{Reason: s.Unapproved}, "PCR 0 (firmware): expected", "found")
	}
	b.stage(label.Maintenance)
	b.closed()
	v, err := VerifyRequest(b.request(), b.of.domain)
	if err != nil {
		t.Fatal(err)
	}
	r := v1.release()
	r.PCRs[0] = v.Request.PCRs[0]
	var fleet []label.Approval
	for _, kind := range []label.Kind{label.Seal, label.Sign} {
		a, err := b.of.desk().Approve(label.KeyRelease, kind, r)
		if err != nil {
			t.Fatal(err)
		}
		fleet = append(fleet, a)
	}
	b.give(fleet)
	if s := b.status(); s.Unapproved != "" {
		t.Errorf("approved, and still: %s", s.Unapproved)
	}
	b.closed() // in this boot nothing opens any more
	b.flashed()
	after := b.serves()
	if wantSame, _ := wire.Derive(before); wantSame != first(wire.Derive(after)) {
		t.Error("the box came back with other secrets")
	}
	b.boot(v1) // the firmware before is approved as well
	b.serves()
}

func first[A, B any](a A, _ B) A { return a }

// closed asserts that the box can neither open its state nor get a certificate for its release port.
func (b *bench) closed() {
	b.t.Helper()
	_, _, err := b.Unseal(b.t.Context())
	wantRefused(b.t, err, `found stage "maintenance"`)
	spki := spkiOf(b.t, &newKey(b.t).PublicKey)
	_, err = b.LeafTLS(b.t.Context(), spki)
	wantRefused(b.t, err, `found stage "maintenance"`)
	if err := b.Extend(b.t.Context(), label.Open); err == nil {
		b.t.Error("from maintenance there is a way to open")
	}
}
