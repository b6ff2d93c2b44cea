package hsm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/wire"
)

// TestWeakModuleIsRefused takes NSS, another module by configuration, which keeps its own files. It computes rightly, as
// the probe finds, but makes extractable copies of keys that are not: no key is entrusted to it, and none stays.
func TestWeakModuleIsRefused(t *testing.T) {
	config := hsm.Config{
		Module:     "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
		Parameters: "configdir='sql:" + t.TempDir() + "' certPrefix='' keyPrefix='' secmod='' flags=",
		Label:      "NSS Certificate DB",
	}
	if err := hsm.SetPIN(config, "a long enough PIN"); err != nil {
		t.Fatalf("set PIN (apt-get install libnss3): %v", err)
	}
	c := must(hsm.New(config, [32]byte{1}))
	i, err := c.Open(wire.Token{PIN: []byte("a long enough PIN")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, check := range i.Report.Checks {
		if missing := strings.HasPrefix(check.Name, "trusted wrap") || strings.HasPrefix(check.Name, "aes-gcm"); missing != (check.Failure != "") {
			t.Errorf("%s: %q", check.Name, check.Failure)
		}
	}
	for name, try := range map[string]func() error{
		"bound P-256":        func() error { _, _, err := c.Generate(wire.P256, wire.Bound); return err },
		"bound RSA-3072":     func() error { _, _, err := c.Generate(wire.RSA3072, wire.Bound); return err },
		"replicable P-256":   func() error { _, _, err := c.Generate(wire.P256, wire.Replicable); return err },
		"imported RSA-2048":  func() error { _, _, err := c.Import(rsaKey(t), wire.Bound); return err },
		"replicable, import": func() error { _, _, err := c.Import(rsaKey(t), wire.Replicable); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "attack key") {
			t.Errorf("%s: %v, want that the attack succeeded", name, err)
		}
	}
	if _, _, err := c.Generate(wire.Hybrid, wire.Bound); !errors.As(err, new(wire.Refused)) {
		t.Errorf("hybrid: %v, want a refusal: the module does not do AES-GCM as it is asked to", err)
	}
	if keys := must(c.List()); len(keys) != 0 || c.PrivateObjects() != 0 {
		t.Errorf("%d keys and %d objects stayed", len(keys), c.PrivateObjects())
	}
}
