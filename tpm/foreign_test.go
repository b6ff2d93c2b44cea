package tpm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	"github.com/keyrelease/krabox/tpm/wire"
)

// foreign is a program that has the TPM to itself on a machine that measured something else.
func (b *bench) foreign(f func(*Device)) {
	b.t.Helper()
	b.down()
	b.tpm.Restart(b.t)
	b.measure(version{"usb stick", 1})
	d, err := OpenDevice(b.tpm.Device())
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	f(d)
}

func undefine(t transport.TPM, x index, n tpm2.TPM2BName, by tpm2.AuthHandle) error {
	_, err := tpm2.NVUndefineSpace{AuthHandle: by, NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}}.Execute(t)
	return err
}

// What a foreign program cannot do to the indexes, the SRK and the owner.
func TestIndexesWithstandStrangers(t *testing.T) {
	b := enrolled(t)
	srk, p, sign, seal := *b.srk, b.plan, granted{Approval: b.approval(label.Sign)}, granted{Approval: b.approval(label.Seal)}
	b.foreign(func(d *Device) {
		wantRC(t, "record under other registers", d.write(srk, p.record(), written, sign, record(9).Bytes()), tpm2.TPMRCValue)
		wantRC(t, "half written under other registers", d.write(srk, p.half(), written, sign, make([]byte, 32)), tpm2.TPMRCValue)
		_, err := d.readHalf(srk, p, seal)
		wantRC(t, "half read under other registers", err, tpm2.TPMRCValue)
		for _, x := range []index{p.epoch(), p.record(), p.half()} {
			n, err := x.name(written)
			if err != nil {
				t.Fatal(err)
			}
			for what, auth := range map[string]tpm2.AuthHandle{
				"an empty password": {Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(nil)},
				"the owner":         owner(tpm2.PasswordAuth(nil)),
				"ownerAuth":         owner(tpm2.PasswordAuth(b.escrowedAuth(ownerFile))),
			} {
				_, err := tpm2.NVWrite{AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, x.size)}}.Execute(d)
				if err == nil {
					t.Errorf("%s written by %s", x.what, what)
				}
			}
			if _, err := (tpm2.NVReadLock{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(nil)}, NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}}).Execute(d); err == nil {
				t.Errorf("%s locked against reading", x.what)
			}
			wantRC(t, "undefine "+x.what, undefine(d, x, n, owner(tpm2.PasswordAuth(nil))), tpm2.TPMRCBadAuth)
		}
		_, err = tpm2.EvictControl{Auth: owner(tpm2.PasswordAuth(nil)), ObjectHandle: &tpm2.NamedHandle{Handle: srk.handle, Name: srk.name}, PersistentHandle: srkHandle}.Execute(d)
		wantRC(t, "evict the SRK", err, tpm2.TPMRCBadAuth)
		if _, err := (tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}).Execute(d); err == nil {
			t.Error("TPM cleared with an empty lockoutAuth")
		}
	})
	b.boot(v1)
	b.serves()
}

// The platform hierarchy that the firmware left open is closed before anything else is done.
func TestPlatformHierarchyClosed(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	x := b.record()
	n, err := x.name(written)
	if err != nil {
		t.Fatal(err)
	}
	platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
	b.tpm.Do(t, func(d transport.TPM) error {
		wantRC(t, "undefine the record by platform", undefine(d, x, n, platform), tpm2.TPMRCBadAuth)
		_, err := tpm2.Clear{AuthHandle: platform}.Execute(d)
		wantRC(t, "clear by platform", err, tpm2.TPMRCBadAuth)
		return nil
	})
	b.serves()
}

// An index under the record's handle that anyone may write is not believed, although it holds what a record holds.
func TestForgedIndex(t *testing.T) {
	b := enrolled(t)
	x := b.record()
	b.foreign(func(d *Device) { // while the firmware's platform hierarchy is open
		platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
		n, err := x.name(written)
		if err != nil {
			t.Fatal(err)
		}
		if err := undefine(d, x, n, platform); err != nil {
			t.Fatal(err)
		}
		forged := x
		forged.attrs.PlatformCreate, forged.attrs.AuthWrite = true, true
		pub, err := forged.public()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.NVDefineSpace{AuthHandle: platform, PublicInfo: tpm2.New2B(pub)}).Execute(d); err != nil {
			t.Fatal(err)
		}
		if n, err = forged.name(unwritten); err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.NVWrite{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: record(1).Bytes()}}).Execute(d); err != nil {
			t.Fatal(err)
		}
	})
	b.boot(v1)
	_, err := b.Record(t.Context())
	wantRefused(t, err, "read record index", "RC_BAD_AUTH")
	_, err = b.serve()
	wantRefused(t, err, "the record index (0x1800010) bears another Name")
	s, err := b.Status(t.Context())
	if err != nil || s.State != wire.Inconsistent {
		t.Errorf("Status() = %+v, %v; want inconsistent", s, err)
	}
}

// Neither enrolment nor boot shows a secret to who listens on the bus.
func TestBusShowsNoSecret(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.tpm.Bus()
	b.enrol()
	bus := b.tpm.Bus()
	var secrets [][]byte
	if err := b.bootedSecrets(v1).Use(func(sealed, half []byte) error {
		secrets = append(secrets, bytes.Clone(sealed), bytes.Clone(half))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	bus = append(bus, b.tpm.Bus()...)
	secrets = append(secrets, b.escrowedAuth(ownerFile), b.escrowedAuth(lockoutFile), presenceAuth(b.escrowed(presenceFile), b.srk.name.Buffer))
	for i, s := range secrets {
		if bytes.Contains(bus, s) {
			t.Errorf("secret %d crossed the bus in the clear", i)
		}
	}
	if r := record(1).Bytes(); !bytes.Contains(bus, r) {
		t.Error("control: the record, which is no secret, was not seen")
	}
}

// A stranger who drives the TPM into dictionary-attack lockout stops neither boot nor record.
func TestBootInLockout(t *testing.T) {
	b := enrolled(t)
	srk := *b.srk
	b.foreign(func(d *Device) {
		p := signingKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true, UserWithAuth: true}, nil)
		r, err := tpm2.Create{ParentHandle: srk.auth(tpm2.PasswordAuth(nil)), InPublic: tpm2.New2B(p),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")}}}}.Execute(d)
		if err != nil {
			t.Fatal(err)
		}
		o, err := d.load(srk, blob{r.OutPublic, r.OutPrivate})
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			_, err = tpm2.Sign{KeyHandle: o.auth(tpm2.PasswordAuth([]byte("wrong"))), Digest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)}, InScheme: ecdsaSHA256,
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(d)
			if errors.Is(err, tpm2.TPMRCLockout) {
				return
			}
		}
		t.Fatalf("no lockout: %v", err)
	})
	b.boot(v1)
	b.serves()
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Error(err)
	}
}

// Objects and sessions that a killed predecessor left are flushed at start: there are three slots of each.
func TestStaleHandles(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	_, ak, err := b.folder.readBlob(akFile)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, err := b.device.load(*b.srk, ak); err != nil {
			if n == 0 {
				t.Fatal(err)
			}
			break
		}
	}
	for range 3 {
		if _, _, err := b.srk.policySession(b.device); err != nil {
			t.Fatal(err)
		}
	}
	b.stage(label.Open)
	if _, _, err := b.Unseal(t.Context()); err == nil {
		t.Error("control: the slots were not full")
	}
	b.open()
	b.serves()
}

// One foreign object may be resident beside ours, as the kernel's own key is.
func TestOneSlotIsEnough(t *testing.T) {
	b := enrolled(t)
	_, ak, err := b.folder.readBlob(akFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.device.load(*b.srk, ak); err != nil {
		t.Fatal(err)
	}
	spki, _ := tlsKey(t)
	if _, err := b.LeafTLS(t.Context(), spki); err != nil {
		t.Error(err)
	}
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Error(err)
	}
}

// Another key in the SRK's place is refused: nothing would be salted to it.
func TestSRKExchanged(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.foreign(func(d *Device) {
		template := tpm2.ECCSRKTemplate
		template.ObjectAttributes.NoDA = false
		r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.EvictControl{Auth: owner(tpm2.PasswordAuth(nil)), ObjectHandle: &tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}, PersistentHandle: srkHandle}).Execute(d); err != nil {
			t.Fatal(err)
		}
	})
	b.open()
	s, err := b.Status(t.Context())
	if err != nil || s.State != wire.Inconsistent {
		t.Errorf("Status() = %+v, %v; want inconsistent", s, err)
	}
	_, err = b.EnrolRequest(t.Context())
	wantRefused(t, err, "the TPM holds another key at 0x81000001", "clear the TPM")
	wantRefused(t, b.WriteRecord(t.Context(), record(1)), "the TPM holds another key")
}

// A busy TPM is asked again; every command of an enrolment and a boot can meet that.
func TestBusyTPM(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.tpm.Busy(3)
	b.open()
	b.tpm.Busy(0)
	b.boot(v1)
	b.tpm.Busy(2)
	b.stage(label.Running)
	if _, err := b.EnrolInstall(t.Context(), b.signed(b.bundle(b.request(), v1))); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRecord(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	b.tpm.Busy(0)
	b.boot(v1)
	b.tpm.Busy(2)
	b.serves()
	b.tpm.Busy(0)
}

// After a transport error nothing is asked any more: the next answer could be another command's.
func TestBrokenDevice(t *testing.T) {
	b := enrolled(t)
	b.tpm.CutAfter(3, tpmtest.After)
	if err := b.WriteRecord(t.Context(), record(2)); err == nil {
		t.Fatal("written without power")
	}
	select {
	case <-b.Broken():
	default:
		t.Error("not broken")
	}
	n := b.tpm.Commands()
	if _, err := b.Record(t.Context()); !errors.Is(err, errBroken) || b.tpm.Commands() != n {
		t.Errorf("Record() = %v after %d more commands", err, b.tpm.Commands()-n)
	}
	b.boot(v1)
	b.serves()
}

// A request that was given up before its turn is not begun.
func TestContextEnded(t *testing.T) {
	b := enrolled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.WriteRecord(ctx, record(7)); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteRecord() = %v; want canceled", err)
	}
	if r, err := b.Record(t.Context()); err != nil || r != record(1) {
		t.Errorf("Record() = %+v, %v", r, err)
	}
}

func TestRandom(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.open()
	x, err := b.Agent.Random(t.Context(), 64)
	if err != nil || len(x) != 64 || strings.Count(string(x), "\x00") > 16 {
		t.Errorf("Random(64) = %x, %v", x, err)
	}
	_, err = b.Agent.Random(t.Context(), 65)
	wantRefused(t, err)
}
