package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	"github.com/keyrelease/krabox/tpm/wire"
)

func domain(t *testing.T) label.Domain {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, escrow := key(), must(age.GenerateX25519Identity())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, root.Public(), root))
	return label.Domain{Name: "example", Root: der, Label: must(label.NewKey(&key().PublicKey)),
		Recovery: must(label.NewKey(&key().PublicKey)), Escrow: escrow.Recipient().String()}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A killed tpmd leaves handles in the TPM and a client with a dead connection: neither may matter to the next one.
func TestDaemonIsReplaced(t *testing.T) {
	m, state, d := tpmtest.New(t), t.TempDir(), domain(t)
	for range 5 {
		p := tpmtest.StartDaemon(t, tpmtest.DaemonConfig{TPM: m, State: state, Domain: d})
		if err := p.Init.Extend(t.Context(), label.Running); err != nil {
			t.Fatal(err)
		}
		text, err := p.Client.EnrolRequest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := label.ParseRequest(text); err != nil {
			t.Error(err)
		}
		s, err := p.Client.Status(t.Context())
		if err != nil || s.State != wire.Factory || s.Stage != "running" {
			t.Errorf("Status() = %+v, %v", s, err)
		}
		p.Kill()
	}
}
