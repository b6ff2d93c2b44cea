package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// labelled is an enrolled box with every built-in label and its approvals for the versions.
func labelled(t testing.TB, vs ...version) *bench {
	t.Helper()
	b := newBench(t, newAuthority(t, "example"))
	b.labelled(vs...)
	return b
}

func (b *bench) labelled(vs ...version) {
	b.t.Helper()
	b.boot(v1)
	b.stage(label.Running)
	x := b.bundle(b.request(), v1)
	for _, v := range vs {
		as, values := b.of.ofLabels(b.t, v)
		if v != v1 {
			x.Approvals = append(x.Approvals, approvals(b.t, b.of.desk(), v)...)
		}
		x.Approvals, x.Values = append(x.Approvals, as...), append(x.Values, values...)
	}
	if _, err := b.EnrolInstall(b.t.Context(), b.signed(x)); err != nil {
		b.t.Fatal(err)
	}
	if err := b.WriteRecord(b.t.Context(), record(1)); err != nil {
		b.t.Fatal(err)
	}
}

// can are the labels that the box confirms when it is asked for all that it can be, each verified.
func (b *bench) can() []label.ID {
	b.t.Helper()
	all, err := b.Confirm(b.t.Context(), label.Challenge{Nonce: testNonce}, testChannel)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []label.ID
	for _, c := range all.Confirmations {
		if v, err := c.Verify(b.asked()); err != nil || v.Value().Label != c.Statement.Label {
			b.t.Errorf("label %q: %v", c.Statement.Label, err)
		}
		out = append(out, c.Statement.Label)
	}
	return out
}

func (b *bench) wantCan(want ...label.ID) {
	b.t.Helper()
	if got := b.can(); !slices.Equal(got, want) {
		b.t.Errorf("the box confirms %q; want %q", got, want)
	}
	for _, l := range label.Builtin() {
		_, err := b.confirm(l.Label)
		if slices.Contains(want, l.Label) {
			if err != nil {
				b.t.Errorf("label %q: %v", l.Label, err)
			}
			continue
		}
		var refused wire.Refused
		if !errors.As(err, &refused) {
			b.t.Errorf("label %q: %v; want a refusal", l.Label, err)
		}
	}
}

// forcedAs asks the TPM itself for a signature of a label's key, past every check of ours.
func (b *bench) forcedAs(l label.ID, g granted) error {
	b.t.Helper()
	_, k, err := b.folder.readBlob(labelFile(l))
	if err != nil {
		b.t.Fatal(err)
	}
	of, ok := b.enrolment.Of(l)
	if !ok {
		b.t.Fatalf("no label %q", l)
	}
	digest := sha256.Sum256([]byte("anything"))
	_, err = b.device.sign(*b.srk, b.of.plan(l), g, k, of.Key, digest[:])
	return err
}

func (a *authority) plan(l label.ID) plan { return plan{a.domain, l} }

// held is the stored sign approval of a label for a stage of v1.
func (b *bench) held(l label.ID, s label.Stage) label.Approval {
	b.t.Helper()
	for _, a := range b.approvals {
		if a.Label == l && a.Kind == label.Sign && a.PCRs[label.StagePCR] == s.Value() && a.PCRs[4] == v1.release().PCRs[4] {
			return a
		}
	}
	b.t.Fatalf("no approval of label %q", l)
	return label.Approval{}
}

func (b *bench) passphrase() []byte {
	b.t.Helper()
	text, err := b.folder.read(presenceFile)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(text), b.of.escrow)
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// Each label is confirmed at its stages and nowhere else; under maintenance nothing is certified and nothing opens.
func TestLabelsAtTheirStages(t *testing.T) {
	b := labelled(t, v1)
	spki, _ := tlsKey(t)
	b.wantCan(label.KeyRelease, label.Root)
	b.boot(v1)
	b.stage(label.Maintenance)
	b.wantCan(label.Root, label.InMaintenance)
	for what, leaf := range map[string]func() error{
		"TLS":         func() error { _, err := b.LeafTLS(t.Context(), spki); return err },
		"key-release": func() error { _, err := b.LeafKeyRelease(t.Context(), spki, "legal", wire.Agreement); return err },
		"replica":     func() error { _, err := b.LeafReplica(t.Context(), spki, label.Digest{1}); return err },
	} {
		wantRefused(t, leaf(), `expected stage "running"`, `found stage "maintenance"`)
		_ = what
	}
	_, _, err := b.Unseal(t.Context())
	wantRefused(t, err, `found stage "maintenance"`)
	wantRC(t, "state secret under maintenance", b.forcedUnseal(b.approval(label.Seal)), tpm2.TPMRCValue)
	wantRC(t, "key-release under maintenance", b.forcedAs(label.KeyRelease, granted{Approval: b.held(label.KeyRelease, label.Running)}), tpm2.TPMRCValue)
	b.stage(label.Locked)
	if _, err := b.Confirm(t.Context(), label.Challenge{Nonce: testNonce}, testChannel); err == nil {
		t.Error("a locked box confirms a label")
	}
	wantRC(t, "root after a refusal", b.forcedAs(label.Root, granted{Approval: b.held(label.Root, label.Maintenance)}), tpm2.TPMRCValue)
	b.boot(v1)
	b.serves()
	b.wantCan(label.KeyRelease, label.Root)
	if _, err := b.LeafTLS(t.Context(), spki); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// A genuine approval of one label serves no other, wrong registers serve none, and another domain's approval serves nobody.
func TestApprovalOfAnotherLabel(t *testing.T) {
	b := labelled(t, v1)
	as := func(l label.ID, a label.Approval) error { return b.forcedAs(l, granted{Approval: a}) }
	root, home := b.held(label.Root, label.Running), b.held(label.KeyRelease, label.Running)
	for what, err := range map[string]error{"root's own": as(label.Root, root), "key-release's own": as(label.KeyRelease, home)} {
		if err != nil {
			t.Fatalf("control: %s: %v", what, err)
		}
	}
	// as it is, the signature is over the other label's reference
	wantRC(t, "key-release's approval for root", as(label.Root, home), tpm2.TPMRCValue)
	wantRC(t, "root's approval for key-release", as(label.KeyRelease, root), tpm2.TPMRCValue)
	renamed := home
	renamed.Label = label.Root
	wantRC(t, "key-release's approval, renamed", as(label.Root, renamed), tpm2.TPMRCSignature)
	if err := b.check(renamed); err == nil {
		t.Error("a renamed approval is taken")
	}
	stranger, _ := newAuthority(t, "example").ofLabels(t, v1)
	wantRC(t, "another domain's approval", as(label.KeyRelease, stranger[0]), tpm2.TPMRCSignature)
	b.tpm.Extend(t, 4, sha256.Sum256([]byte("something else")))
	for _, l := range []label.ID{label.Root, label.KeyRelease} {
		wantRC(t, string(l)+" with another PCR 4", as(l, b.held(l, label.Running)), tpm2.TPMRCValue)
		_, err := b.confirm(l)
		wantRefused(t, err, "no signed value")
	}
	b.boot(v1)
	b.serves()
	b.wantCan(label.KeyRelease, label.Root)
}

// An approved older version that claims to be a newer one, or the newer one's approval, does not sign.
func TestOlderClaimsToBeNewer(t *testing.T) {
	b := labelled(t, v1, v2)
	b.wantCan(label.KeyRelease, label.Root)
	claim := b.held(label.KeyRelease, label.Running)
	claim.Version = 2
	wantRC(t, "a higher version in an approval", b.forcedAs(label.KeyRelease, granted{Approval: claim}), tpm2.TPMRCValue)
	if err := b.check(claim); err == nil {
		t.Error("an approval whose version was raised is taken")
	}
	wantRC(t, "the newer one's approval", b.forcedAs(label.KeyRelease, granted{Approval: approvals(t, b.of.desk(), v2)[1]}), tpm2.TPMRCValue)
	c, err := b.confirm(label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	_, values := b.of.ofLabels(t, v2)
	c.Value = values[0]
	_, err = c.Verify(b.asked())
	wantText(t, err, "PCR 4 is", "the box runs something else")
	b.wantCan(label.KeyRelease, label.Root)
}

// The domain moves the epoch on: from then on no older release opens or signs, the epoch is never lowered, and the write is done once.
func TestAdvance(t *testing.T) {
	b := labelled(t, v1, v2)
	b.wantCan(label.KeyRelease, label.Root)
	newer := v2
	k := b.of.desk()
	as := approvals(t, k, newer)
	forward, err := k.Advance(newer.release())
	if err != nil {
		t.Fatal(err)
	}
	bundle := b.signed(label.Bundle{Domain: b.of.domain.Hash(), Sequence: 9, Approvals: append(as, forward)})
	i, err := b.EnrolInstall(t.Context(), bundle)
	if err != nil || !bytes.Contains([]byte(i.Epoch), []byte("the epoch stays: the epoch moves to 2 when that release runs: PCR 4 (boot loader)")) {
		t.Errorf("installed while v1 runs: %q, %v", i.Epoch, err)
	}
	_, err = b.Advance(t.Context())
	wantRefused(t, err, "when that release runs", "PCR 4 (boot loader)")
	wantRC(t, "the move while v1 runs", b.device.write(*b.srk, b.epoch(), written, granted{Approval: forward}, u64(2)), tpm2.TPMRCValue)
	b.boot(newer)
	wantRC(t, "the move at open", b.device.write(*b.srk, b.epoch(), written, granted{Approval: forward}, u64(2)), tpm2.TPMRCValue)
	b.serves()
	if err := b.device.write(*b.srk, b.epoch(), written, granted{Approval: forward}, u64(3)); err == nil {
		t.Error("another value was written than the approved one")
	}
	b.tpm.Bus()
	if n, err := b.Advance(t.Context()); err != nil || n != 2 {
		t.Fatalf("Advance() = %d, %v", n, err)
	}
	captured := commands(b.tpm.Bus(), tpm2.TPMCCNVWrite)
	if len(captured) != 1 {
		t.Fatalf("control: %d writes were seen", len(captured))
	}
	for range 2 {
		answer, err := b.device.Send(captured[0])
		if err != nil {
			t.Fatal(err)
		}
		wantRC(t, "the captured write again", tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])), tpm2.TPMRCReferenceS0)
	}
	wantRC(t, "the move again", b.device.write(*b.srk, b.epoch(), written, granted{Approval: forward}, u64(2)), tpm2.TPMRCPolicy)
	back, err := k.Advance(Release{Version: 1, Description: "back", PCRs: newer.release().PCRs})
	if err != nil {
		t.Fatal(err)
	}
	wantRC(t, "lowered by the domain itself", b.device.write(*b.srk, b.epoch(), written, granted{Approval: back}, u64(1)), tpm2.TPMRCPolicy)
	first, err := k.FirstEpoch(v1.release())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.device.write(*b.srk, b.epoch(), written, granted{Approval: first}, u64(1)); err == nil {
		t.Error("lowered by the first write")
	}
	if n, err := b.epochValue(); err != nil || n != 2 {
		t.Errorf("the epoch is %d, %v", n, err)
	}
	_, err = b.Advance(t.Context())
	wantRefused(t, err, "no approval to move the epoch beyond 2")
	b.boot(v1)
	b.stage(label.Open)
	_, _, err = b.Unseal(t.Context())
	wantRefused(t, err, "the domain has moved the epoch to 2: this release may no longer run")
	b.stage(label.Running)
	wantRC(t, "an old approval of root", b.forcedAs(label.Root, granted{Approval: b.held(label.Root, label.Running)}), tpm2.TPMRCPolicy)
	_, err = b.Confirm(t.Context(), label.Challenge{Nonce: testNonce}, testChannel)
	wantRefused(t, err, "the domain has moved the epoch to 2")
	b.boot(newer)
	b.serves()
	b.wantCan(label.KeyRelease, label.Root)
}

// A move that would lock the box at its next boot is not made.
func TestAdvanceWouldLock(t *testing.T) {
	b := labelled(t, v1)
	forward, err := b.of.desk().Advance(version{"v1", 5}.release())
	if err != nil {
		t.Fatal(err)
	}
	b.give([]label.Approval{forward})
	_, err = b.Advance(t.Context())
	wantRefused(t, err, "after epoch 5 this box would not open again")
	b.boot(v1)
	b.serves()
}

// commands are those with a code that crossed the bus.
func commands(bus []byte, code tpm2.TPMCC) (out [][]byte) {
	for i := 0; i+10 <= len(bus); i++ {
		if bus[i] != 0x80 || bus[i+1] != 2 || !bytes.Equal(bus[i+6:i+10], []byte{byte(code >> 24), byte(code >> 16), byte(code >> 8), byte(code)}) {
			continue
		}
		if n := int(bus[i+4])<<8 | int(bus[i+5]); bus[i+2] == 0 && bus[i+3] == 0 && i+n <= len(bus) {
			out = append(out, bus[i:i+n])
		}
	}
	return out
}

// A label that wants an operator signs after he gave the presence passphrase, until the TPM's time is over, he leaves, or the box restarts.
func TestOperatorByPassphrase(t *testing.T) {
	b := labelled(t, v1)
	ask := func() error { _, err := b.confirm(label.OperatorPresent); return err }
	attended := b.held(label.OperatorPresent, label.Running)
	wantRefused(t, ask(), `label "attended" wants an operator, and none is present`)
	wantRC(t, "without an operator", b.forcedAs(label.OperatorPresent, granted{Approval: attended}), tpm2.TPMRCValue)
	wantRefused(t, b.Present(t.Context(), label.OperatorPresent, []byte("guessed"), time.Minute), "not the box's presence passphrase")
	wantRefused(t, b.Present(t.Context(), label.OperatorPresent, b.passphrase(), label.MaxPresence+time.Second), "1 second to 10m0s")
	wantRefused(t, b.Present(t.Context(), label.KeyRelease, b.passphrase(), time.Minute), "no approval of label \"key-release\" wants an operator")
	wantRefused(t, ask(), "none is present")
	b.tpm.Bus()
	if err := b.Present(t.Context(), label.OperatorPresent, b.passphrase(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if auth := presenceAuth(b.passphrase(), b.srk.name.Buffer); bytes.Contains(b.tpm.Bus(), auth) {
		t.Error("the presence index's authorization crossed the bus in the clear")
	}
	b.wantCan(label.KeyRelease, label.Root, label.OperatorPresent)
	kept := granted{attended, b.words[label.OperatorPresent]}
	stolen := *kept.word
	stolen.ref = label.OperatorRef(label.Root)
	wantRC(t, "the operator's word for another label", b.forcedAs(label.OperatorPresent, granted{attended, &stolen}), tpm2.TPMRCTicket)
	if err := b.Present(t.Context(), label.OperatorPresent, b.passphrase(), time.Second); err != nil {
		t.Fatal(err)
	}
	kept = granted{attended, b.words[label.OperatorPresent]}
	time.Sleep(1500 * time.Millisecond)
	wantRefused(t, ask(), "RC_EXPIRED: the operator's presence has ended")
	wantRC(t, "after his time", b.forcedAs(label.OperatorPresent, kept), tpm2.TPMRCExpired)
	wantRefused(t, ask(), "none is present")
	b.wantCan(label.KeyRelease, label.Root)

	if err := b.Present(t.Context(), label.OperatorPresent, b.passphrase(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("present again: %v", err)
	}
	kept = granted{attended, b.words[label.OperatorPresent]}
	if err := b.Absent(t.Context(), label.OperatorPresent); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, ask(), "none is present")
	wantRC(t, "after he left", b.forcedAs(label.OperatorPresent, granted{Approval: attended}), tpm2.TPMRCValue)
	b.boot(v1)
	b.serves()
	if err := b.forcedAs(label.OperatorPresent, kept); !errors.Is(err, tpm2.TPMRCExpired) && !errors.Is(err, tpm2.TPMRCTicket) {
		t.Errorf("his word after a reset: %v; want the TPM's refusal", err)
	}
}

// An operator's token answers a challenge of the box: of this one, of this moment, and only if the domain approved the token.
func TestOperatorByToken(t *testing.T) {
	b := labelled(t, v1)
	token, stranger := newKey(t), newKey(t)
	a, err := b.of.desk().Attend(label.OperatorPresent, label.ByToken(domainKey(t, token)), v1.release())
	if err != nil {
		t.Fatal(err)
	}
	b.give([]label.Approval{a})
	ask := func() error { _, err := b.confirm(label.OperatorPresent); return err }
	challenge := func(d time.Duration) label.OperatorChallenge {
		t.Helper()
		text, err := b.OperatorChallenge(t.Context(), label.OperatorPresent, d)
		if err != nil {
			t.Fatal(err)
		}
		c, err := label.ParseOperatorChallenge(text)
		if err != nil || c.Box != "box1" || c.Domain != "example" {
			t.Fatalf("challenge %+v, %v", c, err)
		}
		return c
	}
	answer := func(c label.OperatorChallenge, by *ecdsa.PrivateKey) error {
		t.Helper()
		x, err := c.Sign(by)
		if err != nil {
			t.Fatal(err)
		}
		return b.OperatorAnswer(t.Context(), x.PEM())
	}
	wantRefused(t, b.OperatorAnswer(t.Context(), label.OperatorAnswer{Label: label.OperatorPresent, Signature: make([]byte, 64)}.PEM()), "make a challenge first")
	wantRefused(t, answer(challenge(time.Minute), stranger), "not signed by a token that is approved")
	old := challenge(time.Minute)
	challenge(time.Minute)
	wantRefused(t, answer(old, token), "or to another challenge")
	wantRefused(t, ask(), "none is present")
	c := challenge(5 * time.Second)
	if err := answer(c, token); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("after the answer: %v", err)
	}
	wantRefused(t, answer(c, token), "make a challenge first")
	time.Sleep(5500 * time.Millisecond)
	wantRefused(t, ask(), "RC_EXPIRED")
	long := c
	long.Seconds = 600 // the signature is over the time
	b.Agent.forget()
	challenge(2 * time.Second)
	b.Agent.asked.Seconds = 600
	x, err := long.Sign(token)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, b.OperatorAnswer(t.Context(), x.PEM()), "or to another challenge")
	wantRefused(t, ask(), "none is present")
	if err := answer(challenge(time.Minute), token); err != nil {
		t.Fatal(err)
	}
	b.wantCan(label.KeyRelease, label.Root, label.OperatorPresent)
}

// An authorization value with a zero in it is another one to the TPM than to the library that proves it.
func TestAuthorizationHasNoZero(t *testing.T) {
	for _, p := range []string{"passphrase 2", "passphrase 32"} { // Argon2id gives a zero at 12, and at 0
		if auth := presenceAuth([]byte(p), []byte("the Name of an SRK")); len(auth) != 32 || bytes.IndexByte(auth, 0) >= 0 {
			t.Errorf("presenceAuth(%q) = %x", p, auth)
		}
	}
	for range 64 {
		if auth := randomAuth(); len(auth) != 32 || bytes.IndexByte(auth, 0) >= 0 {
			t.Fatalf("randomAuth() = %x", auth)
		}
	}
}

// What is bound to a label comes out where the label may sign, of this box only.
func TestBoundToLabel(t *testing.T) {
	b := labelled(t, v1)
	ctx, secret := t.Context(), []byte("a wrapping key of thirty-two bytes")
	b.tpm.Bus()
	blobs := map[label.ID][]byte{}
	for _, l := range []label.ID{label.KeyRelease, label.InMaintenance, label.OperatorPresent} {
		x, err := b.BindSecret(ctx, l, secret)
		if err != nil || bytes.Contains(x, secret) {
			t.Fatalf("BindSecret(%q) = %q, %v", l, x, err)
		}
		blobs[l] = x
	}
	got, err := b.OpenSecret(ctx, label.KeyRelease, blobs[label.KeyRelease])
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("OpenSecret() = %q, %v", got, err)
	}
	if bytes.Contains(b.tpm.Bus(), secret) {
		t.Error("the secret crossed the bus in the clear")
	}
	_, err = b.OpenSecret(ctx, label.OperatorPresent, blobs[label.OperatorPresent])
	wantRefused(t, err, "none is present")
	if err := b.Present(ctx, label.OperatorPresent, b.passphrase(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err = b.OpenSecret(ctx, label.OperatorPresent, blobs[label.OperatorPresent]); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with an operator: %v", err)
	}
	_, err = b.OpenSecret(ctx, label.InMaintenance, blobs[label.InMaintenance])
	wantRefused(t, err, `found stage "running"`)
	_, err = b.OpenSecret(ctx, label.Root, blobs[label.KeyRelease])
	wantRefused(t, err, `it is not bound to label "root"`)
	_, err = b.OpenSecret(ctx, "other", blobs[label.KeyRelease])
	wantRefused(t, err, `it is not bound to label "other"`)
	_, err = b.BindSecret(ctx, "other", secret)
	wantRefused(t, err, `the box has no label "other"`)
	for _, bad := range [][]byte{nil, make([]byte, 129)} {
		_, err = b.BindSecret(ctx, label.Root, bad)
		wantRefused(t, err, "want 1 to 128")
	}
	for _, bad := range [][]byte{nil, []byte("{}"), make([]byte, maxBoundBlob+1)} {
		_, err = b.OpenSecret(ctx, label.Root, bad)
		wantRefused(t, err, "open secret")
	}
	var weak storedBlob
	if err := json.Unmarshal(blobs[label.KeyRelease], &weak); err != nil {
		t.Fatal(err)
	}
	weak.Private[40] ^= 1
	changed, err := json.Marshal(weak)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.OpenSecret(ctx, label.KeyRelease, changed)
	wantRefused(t, err, "RC_INTEGRITY")
	other := newBench(t, b.of)
	other.labelled(v1)
	_, err = other.OpenSecret(ctx, label.KeyRelease, blobs[label.KeyRelease])
	wantRefused(t, err, "RC_INTEGRITY")
	b.boot(v1)
	b.stage(label.Maintenance)
	_, err = b.OpenSecret(ctx, label.KeyRelease, blobs[label.KeyRelease])
	wantRefused(t, err, `found stage "maintenance"`)
	if got, err = b.OpenSecret(ctx, label.InMaintenance, blobs[label.InMaintenance]); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("under maintenance: %v", err)
	}
	b.boot(v2)
	b.stage(label.Running)
	_, err = b.OpenSecret(ctx, label.KeyRelease, blobs[label.KeyRelease])
	wantRefused(t, err, "PCR 4 (boot loader)")
	b.boot(v1)
	b.serves()
	if got, err = b.OpenSecret(ctx, label.KeyRelease, blobs[label.KeyRelease]); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("undone: %v", err)
	}
}

// Two boxes of equal configuration have equal labels, under other keys: when they are enrolled, and when they have started again.
func TestEqualLabelsOtherKeys(t *testing.T) {
	of := newAuthority(t, "example")
	boxes := []*bench{newBench(t, of), newBench(t, of)}
	var shown [][]label.Confirmation
	for _, b := range boxes {
		b.labelled(v1)
		b.boot(v1)
		b.serves()
		all, err := b.Confirm(t.Context(), label.Challenge{Nonce: testNonce}, testChannel)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, all.Confirmations)
	}
	if len(shown[0]) != 2 || len(shown[1]) != 2 {
		t.Fatalf("%d and %d labels are confirmed; want 2 of each box", len(shown[0]), len(shown[1]))
	}
	keys := map[label.Name]bool{}
	for i, c := range shown[0] {
		d := shown[1][i]
		if !reflect.DeepEqual(c.Value.Value, d.Value.Value) || !reflect.DeepEqual(c.PCRs, d.PCRs) {
			t.Errorf("label %q has two values on two equal boxes", c.Statement.Label)
		}
		if bytes.Equal(c.Chain[0], d.Chain[0]) || bytes.Equal(c.Platform, d.Platform) || bytes.Equal(c.Signature, d.Signature) {
			t.Errorf("label %q: two boxes show one identity", c.Statement.Label)
		}
	}
	for _, b := range boxes {
		for _, l := range b.enrolment.Labels {
			keys[l.Key] = true
		}
	}
	if want := 2 * len(label.Builtin()); len(keys) != want {
		t.Errorf("%d label keys on two boxes; want %d", len(keys), want)
	}
}

// A label that the domain defines later gets its key by a new request; the keys that were there stay.
func TestDefinedLabel(t *testing.T) {
	b := labelled(t, v1)
	d, err := label.Definition{Domain: "example", Label: "backup", Part: label.Server, Stages: []label.Stage{label.Running}, Description: "keeps copies"}.Sign(b.of.label)
	if err != nil {
		t.Fatal(err)
	}
	before := b.request()
	text, err := label.Bundle{Domain: b.of.domain.Hash(), Sequence: 2, Approvals: approvals(t, b.of.desk(), v1), Labels: []label.SignedDefinition{d}}.Sign(b.of.label)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	after := b.request()
	if _, ok := before.Of("backup"); ok || len(after.Keys) != len(before.Keys)+1 || after.Keys[len(before.Keys)].Label != "backup" {
		t.Fatalf("keys of %d labels, then of %d", len(before.Keys), len(after.Keys))
	}
	for i, k := range before.Keys {
		if !bytes.Equal(k.Public, after.Keys[i].Public) {
			t.Errorf("label %q has another key", k.Label)
		}
	}
	_, err = b.confirm("backup")
	wantRefused(t, err, `the box has no label "backup"`)
	x := b.bundle(after, v1)
	as, values := b.of.ofLabels(t, v1)
	own, err := b.of.desk().Approve("backup", label.Sign, v1.release())
	if err != nil {
		t.Fatal(err)
	}
	v, err := (label.Value{Domain: "example", Label: "backup", Version: 1, Release: "v1", Commit: "abc", PCRs: own.PCRs}).Sign(b.of.label)
	if err != nil {
		t.Fatal(err)
	}
	x.Approvals, x.Values, x.Labels = append(append(x.Approvals, as...), own), append(values, v), []label.SignedDefinition{d}
	if _, err := b.EnrolInstall(t.Context(), b.signed(x)); err != nil {
		t.Fatal(err)
	}
	if got := b.can(); !slices.Equal(got, []label.ID{label.KeyRelease, label.Root, "backup"}) {
		t.Errorf("the box confirms %q", got)
	}
	at, err := b.of.desk().Approve("backup", label.Sign, Release{Version: 1, Description: "x", PCRs: with(v1.release().PCRs, label.StagePCR, label.Maintenance.Value())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.EnrolInstall(t.Context(), b.signed(label.Bundle{Domain: b.of.domain.Hash(), Sequence: 4, Approvals: []label.Approval{at}}))
	wantRefused(t, err, `approval of label "backup": its stage in PCR 14 is not one of the label's`)
	nobody, err := b.of.desk().Approve(label.OperatorPresent, label.Sign, v1.release())
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.EnrolInstall(t.Context(), b.signed(label.Bundle{Domain: b.of.domain.Hash(), Sequence: 4, Approvals: []label.Approval{nobody}}))
	wantRefused(t, err, "it wants no operator, the label does")
}

// An older bundle does not replace a newer one on an enrolled box; the same one may be given again.
func TestOlderBundle(t *testing.T) {
	b := enrolled(t)
	r := b.request()
	older, newer := b.bundle(r, v1), b.bundle(r, v1)
	older.Enrolment.Box.DNS = []string{"old.example"}
	text := b.signed(newer)
	for range 2 {
		if _, err := b.EnrolInstall(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.EnrolInstall(t.Context(), b.signed(older))
	wantRefused(t, err, "the bundle is number 2 of its domain, this box has number 3")
	same := older
	same.Sequence = 3
	_, err = b.EnrolInstall(t.Context(), b.signed(same))
	wantRefused(t, err, "the bundle is number 3 of its domain, this box has number 3")
	b.open()
	_, err = b.EnrolInstall(t.Context(), b.signed(older))
	wantRefused(t, err, "this box has number 3")
	if s, err := b.Status(t.Context()); err != nil || s.Box.DNS[0] != "box1.example" {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	if files, err := filepath.Glob(filepath.Join(b.dir, bundleFile)); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

// A label certificate that ran out certifies nothing more, and who is shown it believes nothing; the TPM's own time is not asked.
func TestLabelCertificateExpired(t *testing.T) {
	b := labelled(t, v1)
	spki, _ := tlsKey(t)
	today := b.now
	b.wantCan(label.KeyRelease, label.Root)
	b.now = today.AddDate(6, 0, 0)
	_, err := b.LeafTLS(t.Context(), spki)
	wantRefused(t, err, "the clock says", "the label certificate is valid from")
	c, err := b.confirm(label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Verify(b.asked())
	wantText(t, err, "label certificate", "expired")
	b.now = today
	if _, err := c.Verify(b.asked()); err != nil {
		t.Errorf("undone: %v", err)
	}
	if _, err := b.LeafTLS(t.Context(), spki); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// An attestation key that is put in the place of the one that was enrolled, after the activation, speaks for nobody: no quote of it
// is believed, and no bundle opens.
func TestAttestationKeyExchanged(t *testing.T) {
	b := labelled(t, v1)
	whole, _, err := b.folder.readBlob(akFile)
	if err != nil {
		t.Fatal(err)
	}
	sealed := b.signed(b.bundle(b.request(), v1))
	b.swapKey(akFile, akTemplate())
	c, err := b.confirm(label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Verify(b.asked())
	wantText(t, err, "quote: not signed by the key of the platform certificate")
	_, err = b.EnrolInstall(t.Context(), sealed)
	wantRefused(t, err, "activate credential", "to another attestation key than")
	if err := b.folder.writeBlob(akFile, whole); err != nil {
		t.Fatal(err)
	}
	if c, err = b.confirm(label.KeyRelease); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Verify(b.asked()); err != nil {
		t.Errorf("undone: %v", err)
	}
	if _, err := b.EnrolInstall(t.Context(), sealed); err != nil {
		t.Errorf("undone: %v", err)
	}
}
