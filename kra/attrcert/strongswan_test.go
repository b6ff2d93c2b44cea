package attrcert_test

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/attrcert"
)

// acert has strongSwan's pki issue a certificate for holder under the authority, which has an RSA key: its Debian
// package has no other without more plugins.
func acert(t *testing.T, by, holder *keyPair, more ...string) []byte {
	t.Helper()
	key := write(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(by.key.(*rsa.PrivateKey)))
	args := []string{"--acert", "--in", write(t, "CERTIFICATE", holder.cert.Raw), "--issuercert", write(t, "CERTIFICATE", by.cert.Raw), "--issuerkey", key,
		"--group", "legal", "--group", "board"}
	return run(t, "pki", append(args, more...)...)
}

// between gives strongSwan a validity around now.
func between(from, until time.Time) []string {
	const form = "%Y-%m-%d %H:%M:%S"
	return []string{"--dateform", form, "--not-before", from.Format(time.DateTime), "--not-after", until.Format(time.DateTime)}
}

func TestStrongSwan(t *testing.T) {
	c := newCorp(t, rsaKey(t, 2048))
	other := newCorp(t, rsaKey(t, 2048))
	valid := between(now.Add(-time.Hour), now.Add(time.Hour))
	raw := acert(t, c.aa, c.alice, valid...)

	v := verify(t, raw, c.check())
	if !slices.Equal(v.Groups(), []string{"legal", "board"}) || v.ValidAt(now) != nil {
		t.Errorf("valid: groups %q, %v; want legal and board", v.Groups(), v.ValidAt(now))
	}
	if !v.From().Equal(now.Add(-time.Hour)) || !v.Until().Equal(now.Add(time.Hour)) {
		t.Errorf("valid from %v until %v", v.From(), v.Until())
	}
	for _, digest := range []string{"sha256", "sha384", "sha512"} {
		for _, padding := range []string{"pkcs1", "pss"} {
			verify(t, acert(t, c.aa, c.alice, append(valid, "--digest", digest, "--rsa-padding", padding)...), c.check())
		}
	}

	expired := verify(t, acert(t, c.aa, c.alice, between(now.Add(-2*time.Hour), now.Add(-time.Hour))...), c.check())
	if err := expired.ValidAt(now); !errors.Is(err, attrcert.ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	early := verify(t, acert(t, c.aa, c.alice, between(now.Add(time.Hour), now.Add(2*time.Hour))...), c.check())
	if err := early.ValidAt(now); !errors.Is(err, attrcert.ErrNotYetValid) {
		t.Errorf("not yet valid: %v", err)
	}
	if _, err := parse(t, acert(t, c.aa, c.person(t, "mallory"), valid...)).Verify(c.check()); !errors.Is(err, attrcert.ErrHolder) {
		t.Errorf("wrong holder: %v", err)
	}
	// The other authority has the same name and another key; then one with another name.
	if _, err := parse(t, acert(t, other.aa, c.alice, valid...)).Verify(c.check()); err == nil {
		t.Error("wrong issuer: verified")
	}
	if _, err := parse(t, acert(t, &keyPair{c.alice.cert, c.aa.key}, c.alice, valid...)).Verify(c.check()); !errors.Is(err, attrcert.ErrIssuer) {
		t.Errorf("wrong issuer: %v", err)
	}
	if _, err := attrcert.Parse(acert(t, c.aa, c.alice, append(valid, "--digest", "sha1")...)); err == nil || !strings.Contains(err.Error(), "signature algorithm") {
		t.Errorf("SHA-1: %v", err)
	}
}

// Each bit of a certificate counts.
func TestStrongSwanTampered(t *testing.T) {
	c := newCorp(t, rsaKey(t, 2048))
	raw := acert(t, c.aa, c.alice, between(now.Add(-time.Hour), now.Add(time.Hour))...)
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		if a, err := attrcert.Parse(bad); err == nil {
			if _, err := a.Verify(c.check()); err == nil {
				t.Fatalf("byte %d changed, and it verifies", i)
			}
		}
	}
}
