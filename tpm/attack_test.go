package tpm

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// approval is the stored one of a kind and version.
func (b *bench) approval(k label.Kind) label.Approval {
	b.t.Helper()
	for _, a := range b.approvals {
		if a.Kind == k {
			return a
		}
	}
	b.t.Fatal("no approval")
	return label.Approval{}
}

// forced asks the TPM itself, past every check of ours.
func (b *bench) forcedUnseal(a label.Approval) error {
	b.t.Helper()
	_, s, err := b.folder.readBlob(sealedFile)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.device.unseal(*b.srk, b.under(label.Seal), granted{Approval: a}, s)
	return err
}

func (b *bench) forcedSign(a label.Approval) error {
	b.t.Helper()
	_, k, err := b.folder.readBlob(labelFile(label.KeyRelease))
	if err != nil {
		b.t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("anything"))
	of, _ := b.enrolment.Of(label.KeyRelease)
	_, err = b.device.sign(*b.srk, b.plan, granted{Approval: a}, k, of.Key, digest[:])
	return err
}

func (b *bench) forcedHalf(a label.Approval) error {
	_, err := b.device.readHalf(*b.srk, b.plan, granted{Approval: a})
	return err
}

func (b *bench) forcedRecord(a label.Approval) error {
	return b.device.write(*b.srk, b.record(), written, granted{Approval: a}, record(9).Bytes())
}

func wantRC(t *testing.T, what string, err error, code tpm2.TPMRC) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("%s: got %v; want the TPM's %v", what, err, code)
	}
}

// Nothing unseals twice in a boot: after the stage has advanced the TPM itself refuses, also after a suspend and when
// the boot is measured once more on top.
func TestUnsealOncePerBoot(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	b.serves()
	_, _, err := b.Unseal(t.Context())
	wantRefused(t, err, "PCR 14 (stage)", `expected stage "open"`, `found stage "running"`)
	a := b.approval(label.Seal)
	wantRC(t, "unseal at running", b.forcedUnseal(a), tpm2.TPMRCValue)
	wantRC(t, "half at running", b.forcedHalf(a), tpm2.TPMRCValue)
	b.down()
	b.tpm.Resume(t)
	b.open()
	wantRC(t, "unseal after a suspend", b.forcedUnseal(a), tpm2.TPMRCValue)
	b.measure(v1)
	wantRC(t, "unseal after measuring again", b.forcedUnseal(a), tpm2.TPMRCValue)
	b.boot(v1)
	b.serves()
}

// An approval for one reference serves no other, whatever the stage.
func TestApprovalsSwapped(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	b.stage(label.Open)
	seal, sign := b.approval(label.Seal), b.approval(label.Sign)
	if err := b.forcedUnseal(seal); err != nil {
		t.Fatalf("control: seal approval at open: %v", err)
	}
	wantRC(t, "sign approval unseals at open", b.forcedUnseal(sign), tpm2.TPMRCValue)
	wantRC(t, "seal approval signs at open", b.forcedSign(seal), tpm2.TPMRCValue)
	wantRC(t, "seal approval writes the record at open", b.forcedRecord(seal), tpm2.TPMRCValue)
	wantRC(t, "sign approval writes the record at open", b.forcedRecord(sign), tpm2.TPMRCValue)
	wantRC(t, "seal approval writes the half at open", b.device.write(*b.srk, b.half(), written, granted{Approval: seal}, make([]byte, 32)), tpm2.TPMRCValue)
	swapped := seal
	swapped.Kind = label.Sign // the signature is over the other reference
	wantRC(t, "seal approval renamed to sign", b.forcedSign(swapped), tpm2.TPMRCSignature)
	b.stage(label.Running)
	wantRC(t, "sign approval unseals at running", b.forcedUnseal(sign), tpm2.TPMRCValue)
	wantRC(t, "sign approval reads the half at running", b.forcedHalf(sign), tpm2.TPMRCValue)
	x := b.half()
	n, err := x.name(written)
	if err != nil {
		t.Fatal(err)
	}
	err = b.device.authorize(*b.srk, granted{Approval: sign}, use{policy: x.policy, command: tpm2.TPMCCNVWrite, do: func(s tpm2.Session) error {
		_, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: s},
			NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Size: x.size}.Execute(b.device)
		return err
	}})
	wantRC(t, "the half's write branch reads", err, tpm2.TPMRCPolicyCC)
	if err := b.forcedSign(sign); err != nil {
		t.Errorf("sign approval at running: %v", err)
	}
	b.boot(v1)
	b.serves()
}

// The label key signs only in a state that the domain approved: it is the TPM that refuses, not our software.
func TestLabelSignsOnlyApproved(t *testing.T) {
	b := enrolled(t)
	spki, _ := tlsKey(t)
	if _, err := b.LeafTLS(t.Context(), spki); err != nil {
		t.Fatal(err)
	}
	b.boot(v2)
	b.stage(label.Running)
	_, err := b.LeafTLS(t.Context(), spki)
	wantRefused(t, err, "PCR 4 (boot loader)", `"release v1"`)
	wantRC(t, "label signature of a modified image", b.forcedSign(b.approval(label.Sign)), tpm2.TPMRCValue)
	b.boot(v1)
	b.stage(label.Open)
	wantRC(t, "label signature before running", b.forcedSign(b.approval(label.Sign)), tpm2.TPMRCValue)
	b.stage(label.Running)
	b.tpm.Extend(t, 12, sha256.Sum256([]byte("credential file on the ESP")))
	wantRC(t, "label signature after an extend", b.forcedSign(b.approval(label.Sign)), tpm2.TPMRCValue)
	b.boot(v1)
	b.serves()
	if _, err := b.LeafTLS(t.Context(), spki); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// Every approved register counts: after one more extend the TPM does not unseal, and the register is named.
func TestUnsealNeedsEachRegister(t *testing.T) {
	b := enrolled(t)
	for _, c := range []struct {
		pcr  int
		word string
	}{{0, "PCR 0 (firmware)"}, {2, "PCR 2 (option ROMs)"}, {4, "PCR 4 (boot loader)"}, {7, "PCR 7 (Secure Boot)"},
		{11, "PCR 11 (kernel, initramfs and command line)"}, {12, "PCR 12 (credentials and overrides on the ESP)"}, {13, "PCR 13 (system extensions)"}} {
		b.boot(v1)
		b.tpm.Extend(t, c.pcr, sha256.Sum256([]byte("change")))
		b.stage(label.Open)
		_, _, err := b.Unseal(t.Context())
		wantRefused(t, err, c.word, `expected `, `by approval "release v1" (version 1), found `)
		wantRC(t, c.word, b.forcedUnseal(b.approval(label.Seal)), tpm2.TPMRCValue)
		wantRC(t, c.word, b.forcedHalf(b.approval(label.Seal)), tpm2.TPMRCValue)
	}
	b.boot(v1)
	b.serves()
}

// A blob whose public part was weakened does not load: the TPM names the cause.
func TestWeakenedBlob(t *testing.T) {
	b := enrolled(t)
	spki, _ := tlsKey(t)
	for _, file := range []string{sealedFile, labelFile(label.KeyRelease)} {
		s, whole, err := b.folder.readBlob(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := whole.public.Contents()
		if err != nil {
			t.Fatal(err)
		}
		weak := *p
		weak.AuthPolicy, weak.ObjectAttributes.UserWithAuth, weak.ObjectAttributes.AdminWithPolicy = tpm2.TPM2BDigest{}, true, false
		w := s
		w.Public = tpm2.Marshal(weak)
		if err := b.folder.writeBlob(file, w); err != nil {
			t.Fatal(err)
		}
		b.boot(v1)
		if file == sealedFile {
			_, err = b.serve()
		} else {
			b.serves()
			_, err = b.LeafTLS(t.Context(), spki)
		}
		wantRefused(t, err, "RC_INTEGRITY", "altered")
		o, err := b.device.load(*b.srk, whole)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.Unseal{ItemHandle: o.auth(tpm2.PasswordAuth(nil))}.Execute(b.device)
		if file == sealedFile {
			wantRC(t, "empty password on the state secret", err, tpm2.TPMRCAuthUnavailable)
		}
		b.device.flush(o.handle)
		if err := b.folder.writeBlob(file, s); err != nil {
			t.Fatal(err)
		}
		b.boot(v1)
		b.serves()
	}
}

// A label key that someone else made under this SRK loads, but is not the certified one.
func TestLabelKeyExchanged(t *testing.T) {
	b := enrolled(t)
	template := signingKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true, UserWithAuth: true, NoDA: true}, nil)
	r, err := tpm2.Create{ParentHandle: b.srk.auth(tpm2.PasswordAuth(nil)), InPublic: tpm2.New2B(template)}.Execute(b.device)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.folder.writeBlob(labelFile(label.KeyRelease), blob{r.OutPublic, r.OutPrivate}.stored()); err != nil {
		t.Fatal(err)
	}
	spki, _ := tlsKey(t)
	_, err = b.LeafTLS(t.Context(), spki)
	wantText(t, err, "not the one that the domain certified")
}

// A blob with the right policy says nothing of who made it: it opens, but to other keys than the state's.
func TestForeignBlobOpensNothing(t *testing.T) {
	b := enrolled(t)
	before := b.bootedSecrets(v1)
	s, err := b.device.seal(*b.srk, b.under(label.Seal), make([]byte, wire.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.folder.writeBlob(sealedFile, s.stored()); err != nil {
		t.Fatal(err)
	}
	forged, _ := wire.Derive(b.bootedSecrets(v1))
	if genuine, _ := wire.Derive(before); forged == genuine {
		t.Error("a foreign secret gives the state's key")
	}
}

// The disk in another TPM, and the TPM with another disk.
func TestDiskOfAnotherBox(t *testing.T) {
	b := enrolled(t)
	c := newBench(t, b.of)
	own := c.dir
	c.enrol()
	c.dir = b.dir
	c.boot(v1)
	_, err := c.serve()
	wantRefused(t, err, "enrolled with another TPM")
	c.dir = t.TempDir()
	c.boot(v1)
	s, err := c.Status(t.Context())
	if err != nil || s.State != wire.Inconsistent {
		t.Errorf("Status() = %+v, %v; want inconsistent", s, err)
	}
	_, err = c.serve()
	wantRefused(t, err, "record without state")
	fresh := newBench(t, b.of)
	fresh.dir = b.dir
	fresh.boot(v1)
	_, err = fresh.serve()
	wantRefused(t, err, "state without record")
	_, err = fresh.EnrolRequest(t.Context())
	wantRefused(t, err, "state without record")
	c.dir = own
	c.boot(v1)
	c.serves()
	b.boot(v1)
	b.serves()
}

// Damaged files of the disk are refusals with a name, and never make a factory box of an enrolled one.
func TestDamagedFolder(t *testing.T) {
	b, keyFile := enrolled(t), labelFile(label.KeyRelease)
	for _, file := range []string{sealedFile, keyFile, bundleFile} {
		path := filepath.Join(b.dir, file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{{}, whole[:len(whole)/2], []byte("{}"), append([]byte("x"), whole...)} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			b.down()
			b.tpm.Restart(t)
			b.measure(v1)
			b.open()
			s, err := b.Status(t.Context())
			if err != nil || s.State == wire.Factory {
				t.Errorf("%s damaged: Status() = %+v, %v", file, s, err)
			}
			_, err = b.serve()
			if err == nil && file == keyFile {
				spki, _ := tlsKey(t)
				_, err = b.LeafTLS(t.Context(), spki)
			}
			if file == bundleFile && string(bad) != "{}" && len(bad) > len(whole) {
				continue // text around a bundle is ignored
			}
			wantRefused(t, err, map[string]string{sealedFile: sealedFile, keyFile: keyFile, bundleFile: "the enrolment on the disk is damaged"}[file])
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		b.boot(v1)
		b.serves()
	}
}

// Approvals of another domain do not count, wherever they come from.
func TestForeignDomain(t *testing.T) {
	b, foreign := enrolled(t), newAuthority(t, "example")
	b.boot(v1)
	b.serves()
	text, err := label.Bundle{Domain: foreign.domain.Hash(), Sequence: 1, Approvals: approvals(t, foreign.desk(), v2)}.Sign(foreign.label)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.EnrolInstall(t.Context(), text)
	wantRefused(t, err, "it is of domain")
	text, err = label.Bundle{Domain: b.of.domain.Hash(), Sequence: 1, Approvals: approvals(t, b.of.desk(), v2)}.Sign(foreign.label)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.EnrolInstall(t.Context(), text)
	wantRefused(t, err, "not signed by the label key")
	b.boot(v2)
	for _, a := range approvals(t, foreign.desk(), v2) { // put on the disk by hand
		if err := b.folder.write(filepath.Join(approvalsDir, "evil-"+a.Kind.String()+".json"), a.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	_, err = b.serve()
	wantRefused(t, err, `by approval "release v1"`)
	evil := approvals(t, foreign.desk(), v2)[0]
	wantRC(t, "the TPM is shown a foreign approval", b.forcedUnseal(evil), tpm2.TPMRCSignature)
	p := b.plan
	p.domain.Label = foreign.domain.Label // and its key
	_, s, err := b.folder.readBlob(sealedFile)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.device.unseal(*b.srk, p.under(label.Seal), granted{Approval: evil}, s)
	wantRC(t, "the TPM is shown a foreign key", err, tpm2.TPMRCValue)
	b.boot(v1) // with the foreign approvals on the disk still
	b.serves()
}

// Changed in any field that its signature covers, an approval is not the domain's; changed in another, its policy does
// not follow.
func TestApprovalChanged(t *testing.T) {
	of := newAuthority(t, "example")
	whole := approvals(t, of.desk(), v1)[0]
	p := plan{of.domain, label.KeyRelease}
	if err := p.check(whole); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*label.Approval){
		"version":   func(a *label.Approval) { a.Version++ },
		"registers": func(a *label.Approval) { a.PCRs = with(a.PCRs, 4, label.Digest{1}) },
		"policy":    func(a *label.Approval) { a.Policy[0] ^= 1 },
		"signatory": func(a *label.Approval) { a.By = label.ByRecovery },
		"kind": func(a *label.Approval) {
			a.Kind, a.PCRs = label.Sign, with(a.PCRs, label.StagePCR, label.StageValue(label.Sign))
		},
		"label":     func(a *label.Approval) { a.Label = "maintenance" },
		"signature": func(a *label.Approval) { a.Signature = append([]byte{a.Signature[0] ^ 1}, a.Signature[1:]...) },
	} {
		a := whole
		change(&a)
		if p.check(a) == nil {
			t.Errorf("%s changed: accepted", name)
		}
	}
}

// Once the epoch is at 2, a genuine approval of version 1 neither unseals nor signs nor writes.
func TestEpoch(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v2)
	b.stage(label.Running)
	if _, err := b.EnrolInstall(t.Context(), b.signed(b.bundle(b.request(), v2))); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRecord(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	old := approvals(t, b.of.desk(), v1)
	b.give(old)
	b.boot(v1)
	b.stage(label.Open)
	_, _, err := b.Unseal(t.Context())
	wantRefused(t, err, `approval "release v1" is for version 1, but the domain has moved the epoch to 2`)
	wantRC(t, "old release unseals", b.forcedUnseal(old[0]), tpm2.TPMRCPolicy)
	wantRC(t, "old release reads the half", b.forcedHalf(old[0]), tpm2.TPMRCPolicy)
	b.stage(label.Running)
	wantRC(t, "old release signs", b.forcedSign(old[1]), tpm2.TPMRCPolicy)
	wantRC(t, "old release writes the record", b.forcedRecord(old[1]), tpm2.TPMRCPolicy)
	for _, v := range []version{v1, v2} { // the first write cannot be replayed
		first, err := b.of.desk().FirstEpoch(v.release())
		if err != nil {
			t.Fatal(err)
		}
		if err := b.device.write(*b.srk, b.epoch(), written, granted{Approval: first}, u64(v.epoch)); err == nil {
			t.Errorf("first write of epoch %d again: done", v.epoch)
		}
	}
	b.boot(v2)
	b.serves()
}
