package hsm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestWeakModuleIsRefused takes NSS, another module by configuration, which keeps its own files. It computes rightly, as
// the probe finds, but makes extractable copies of keys that are not: no key is entrusted to it, and none stays.
func TestWeakModuleIsRefused(t *testing.T) {
	c, i := newNSS(t)
	for _, check := range i.Report.Checks {
		if missing := strings.HasPrefix(check.Name, "trusted wrap") || strings.HasPrefix(check.Name, "aes-gcm"); missing != (check.Failure != "") {
			t.Errorf("%s: %q", check.Name, check.Failure)
		}
	}
	for name, try := range map[string]func() error{
		"bound P-256":        func() error { _, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident); return err },
		"bound P-384":        func() error { _, _, err := c.Generate(wire.P384, wire.Bound, wire.Resident); return err },
		"bound RSA-4096":     func() error { _, _, err := c.Generate(wire.RSA4096, wire.Bound, wire.Resident); return err },
		"bound RSA-3072":     func() error { _, _, err := c.Generate(wire.RSA3072, wire.Bound, wire.Resident); return err },
		"replicable P-256":   func() error { _, _, err := c.Generate(wire.P256, wire.Replicable, wire.Resident); return err },
		"imported RSA-2048":  func() error { _, _, err := c.Import(rsaKey(t), wire.Bound, wire.Resident); return err },
		"replicable, import": func() error { _, _, err := c.Import(rsaKey(t), wire.Replicable, wire.Resident); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "attack key") {
			t.Errorf("%s: %v, want that the attack succeeded", name, err)
		}
	}
	if _, _, err := c.Generate(wire.Hybrid, wire.Bound, wire.Resident); !errors.As(err, new(wire.Refused)) {
		t.Errorf("hybrid: %v, want a refusal: the module does not do AES-GCM as it is asked to", err)
	}
	for _, s := range labelSuites {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			if _, _, err := c.Generate(s, custody, wire.Vault); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "no trusted wrapping") {
				t.Errorf("%v, %v in the vault: %v, want a refusal: nothing there is trusted to wrap it", s, custody, err)
			}
		}
		if _, _, err := c.Enclose(s, "attended", make([]byte, wire.LabelSecret)); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "no trusted wrapping") {
			t.Errorf("%v, bound to a label: %v, want a refusal: nothing there is trusted to wrap it", s, err)
		}
	}
	if _, err := c.Load(c.Enclosed(wire.Parcel{SPKI: must(newECSPKI(t)), Wrapped: make([]byte, 144)}, "attended", make([]byte, wire.LabelSecret)), make([]byte, wire.LabelSecret)); err == nil {
		t.Error("a key that is bound to a label was loaded")
	}
	if _, _, err := c.Import(rsaKey(t), wire.Bound, wire.Vault); !errors.As(err, new(wire.Refused)) {
		t.Errorf("imported into the vault: %v, want a refusal", err)
	}
	if keys := must(c.List()); len(keys) != 0 || c.PrivateObjects() != 0 {
		t.Errorf("%d keys and %d objects stayed", len(keys), c.PrivateObjects())
	}
}

const nssPIN = "a long enough PIN"

// nss makes a new token of NSS and says where it is.
func nss(t *testing.T) hsm.Config {
	t.Helper()
	c := hsm.Config{
		Module:     "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
		Parameters: "configdir='sql:" + t.TempDir() + "' certPrefix='' keyPrefix='' secmod='' flags=",
		Label:      "NSS Certificate DB",
	}
	if err := hsm.SetPIN(c, nssPIN); err != nil {
		t.Fatalf("set PIN (apt-get install libnss3): %v", err)
	}
	return c
}

// newNSS returns a custodian of a new token of NSS.
func newNSS(t *testing.T) (*hsm.Custodian, wire.Instance) {
	t.Helper()
	c := must(hsm.New(nss(t), [32]byte{1}))
	i, err := c.Open(wire.Token{PIN: []byte(nssPIN)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, i
}

// TestInsideByOtherModule: NSS has OAEP with SHA-256 too, and tells how long a key is.
func TestInsideByOtherModule(t *testing.T) {
	c, _ := newNSS(t)
	k, reader := newRSA(t, 2048), newRSA(t, 2048)
	to := must(wire.NewRecipient(&reader.PublicKey))
	left := c.SessionObjects()
	for _, by := range []block.Suite{block.SuiteOAEP, block.SuiteOAEPSHA1} {
		for _, size := range []int{16, 20, 24, 32, 40, 48, 64} {
			want := bytes.Repeat([]byte{7}, size)
			body := must(rsa.EncryptOAEP(by.OAEPHash().New(), rand.Reader, &k.PublicKey, want, nil))
			sealed, err := c.Carry(k, by, body, to)
			if !slices.Contains(by.KeySizes(), size) {
				if !errors.Is(err, hsm.ErrLength) || sealed != nil {
					t.Errorf("%v, %d bytes: %v, want %v", by, size, err, hsm.ErrLength)
				}
				continue
			}
			got, failed := rsa.DecryptOAEP(by.OAEPHash().New(), nil, reader, sealed, nil)
			if err != nil || failed != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, %d bytes: recipient reads %x, %v", by, size, got, errors.Join(err, failed))
			}
		}
	}
	if now := c.SessionObjects(); now != left {
		t.Errorf("%d objects are left in sessions, want %d", now, left)
	}
}
