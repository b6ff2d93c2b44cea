package tpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

var (
	testNonce   = bytes.Repeat([]byte{1}, label.NonceSize)
	testChannel = bytes.Repeat([]byte{2}, label.NonceSize)
)

// value is the domain's signed word of what a version's registers stand for.
func (b *bench) value(v version) label.SignedValue {
	b.t.Helper()
	x := label.Value{Domain: b.of.domain.Name, Label: label.KeyRelease, Version: v.epoch, Release: v.name, Commit: "abc", PCRs: v.release().PCRs}
	x.PCRs[label.StagePCR] = label.StageValue(label.Sign)
	s, err := x.Sign(b.of.label)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// provable is an enrolled box whose label certificate names it, with the label values of some versions.
func provable(t testing.TB, values ...version) *bench {
	t.Helper()
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	b.stage(label.Running)
	x := b.bundle(b.request(), v1)
	for _, v := range values {
		x.Values = append(x.Values, b.value(v))
	}
	if _, err := b.EnrolInstall(t.Context(), b.signed(x)); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRecord(t.Context(), record(1)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) asked() label.Asked {
	pool := x509.NewCertPool()
	pool.AddCert(b.of.rootCertificate)
	return label.Asked{Roots: pool, Now: b.now, Nonce: testNonce, Channel: testChannel}
}

func (b *bench) confirm(l label.ID) (label.Confirmation, error) {
	all, err := b.Confirm(b.t.Context(), label.Challenge{Nonce: testNonce, Label: l}, testChannel)
	if err != nil {
		return label.Confirmation{}, err
	}
	if len(all.Confirmations) != 1 {
		b.t.Fatalf("%d confirmations", len(all.Confirmations))
	}
	p, err := label.ParseConfirmations(all.Bytes())
	if err != nil {
		b.t.Fatal(err)
	}
	return p.Confirmations[0], nil
}

// A real TPM's confirmation is believed by who knows the root alone, and says which of several approved releases runs.
func TestConfirm(t *testing.T) {
	b := provable(t, v2, v1)
	for _, l := range []label.ID{label.KeyRelease, ""} {
		c, err := b.confirm(l)
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Verify(b.asked())
		if err != nil {
			t.Fatal(err)
		}
		if v.Box() != "box1" || v.Value().Release != "v1" {
			t.Errorf("box %q shows release %q", v.Box(), v.Value().Release)
		}
		c.Value = b.value(v2)
		if _, err := c.Verify(b.asked()); err == nil || !strings.Contains(err.Error(), "runs something else") {
			t.Errorf("older release claims to be the newer one: %v", err)
		}
	}
}

// In any other state there is no signature, whatever the files of the box say.
func TestConfirmRefused(t *testing.T) {
	ask := func(b *bench) error { _, err := b.confirm(label.KeyRelease); return err }
	t.Run("another label", func(t *testing.T) {
		b := provable(t, v1)
		_, err := b.confirm("other")
		wantRefused(t, err, "no label")
	})
	t.Run("factory box", func(t *testing.T) {
		b := newBench(t, newAuthority(t, "example"))
		b.boot(v1)
		b.stage(label.Running)
		wantRefused(t, ask(b), "storage root key")
	})
	t.Run("locked", func(t *testing.T) {
		b := provable(t, v1)
		b.stage(label.Locked)
		wantRefused(t, ask(b), "no signed value")
	})
	t.Run("other software", func(t *testing.T) {
		b := provable(t, v1)
		b.boot(v2)
		b.stage(label.Running)
		wantRefused(t, ask(b), "no signed value")
	})
	t.Run("other software with its value, not approved", func(t *testing.T) {
		b := provable(t, v1, v2)
		b.boot(v2)
		b.stage(label.Running)
		wantRefused(t, ask(b), "PCR 4")
	})
	t.Run("value that the domain did not sign", func(t *testing.T) {
		b := provable(t)
		forged := b.value(v1)
		forged.Signature[5] ^= 1
		if err := os.WriteFile(filepath.Join(b.dir, valuesDir, "1-forged.json"), forged.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		b.open()
		wantRefused(t, ask(b), "no signed value")
	})
}

// What the label key signs for a confirmation is no certificate, and the quote is for this statement only: neither can be had for
// anything else through this door.
func TestConfirmSignsItsOwnStatement(t *testing.T) {
	b := provable(t, v1)
	c, err := b.confirm(label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.of.domain.Confirm("box1", label.KeyRelease, testNonce, testChannel)
	if err != nil || !bytes.Equal(s.Bytes(), c.Statement.Bytes()) {
		t.Errorf("the statement is not the one that a verifier makes: %v", err)
	}
	if q := s.Qualifying(); q == sha256.Sum256(s.Bytes()) {
		t.Error("label key and AK sign the same")
	}
	if _, err := b.Confirm(t.Context(), label.Challenge{Nonce: testNonce[:31]}, testChannel); err == nil {
		t.Error("a short nonce is signed")
	}
	if _, err := b.Confirm(t.Context(), label.Challenge{Nonce: testNonce}, nil); err == nil {
		t.Error("a confirmation is made for no channel")
	}
}
