package boxtest_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/label"
)

// Two boxes of one configuration have one label and one value of it, and nothing else in common: each key is its own TPM's.
func TestOneLabelTwoBoxes(t *testing.T) {
	one := boxtest.Start(t)
	two := one.Another("box2")
	show := func(b *boxtest.Box) label.Confirmation {
		c := newChallenger(t, b)
		nonce := newNonce()
		status, answer, channel := c.ask(nonce, label.KeyRelease)
		if status != http.StatusOK {
			t.Fatalf("challenge: %d", status)
		}
		if err := c.verify(answer, nonce, channel); err != nil {
			t.Fatal(err)
		}
		all, err := label.ParseConfirmations(answer)
		if err != nil {
			t.Fatal(err)
		}
		return all.Confirmations[0]
	}
	a, b := show(one), show(two)
	if a.Statement.Label != b.Statement.Label || !maps.Equal(a.PCRs, b.PCRs) || a.Value.Value.Release != b.Value.Value.Release {
		t.Errorf("two boxes alike are %s of %s and %s of %s", a.Statement.Label, a.Value.Value.Release, b.Statement.Label, b.Value.Value.Release)
	}
	if a.Statement.Box == b.Statement.Box || bytes.Equal(keyOf(t, a.Chain[0]), keyOf(t, b.Chain[0])) || bytes.Equal(keyOf(t, a.Platform), keyOf(t, b.Platform)) {
		t.Error("two boxes have one identity")
	}
}

func keyOf(t *testing.T, der []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c.RawSubjectPublicKeyInfo
}

// What the console says of the box is what anybody can have it prove over the port: name, domain, release and registers; and what is nobody
// else's business it says besides: TPM, approvals, state, log, services, since when.
func TestSystemInformation(t *testing.T) {
	b := boxtest.Start(t)
	id, err := b.Agent(nil).Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown := b.Do("status")
	for _, want := range []string{`box +box1`, `domain +` + id.Domain, `version +\S`, `mode +enrolled`, `health +good`, `agent up +\S`, `TPM +.*; enrolled; stage running; epoch 1`,
		`approval +sign, version 1 by label, what runs`, `state +generation`, `log +[0-9]+ records`} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("status does not say %s:\n%s", want, shown)
		}
	}
	joined := strings.Join(strings.Fields(shown), "")
	for i, d := range id.PCRs {
		if !strings.Contains(joined, fmt.Sprintf("PCR%d%s", i, hex.EncodeToString(d[:]))) {
			t.Errorf("status does not say what PCR %d is", i)
		}
	}
}
