package kra_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/keyrelease/krabox/kra"
)

func TestCheckCertificateKey(t *testing.T) {
	of := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}
	}
	for name, x := range map[string]struct {
		key any
		ok  bool
	}{
		"2048 bits":           {of(2048, 65537), true},
		"8192 bits":           {of(8192, 65537), true},
		"exponent 3":          {of(3072, 3), true},
		"P-256":               {&ecdsa.PublicKey{Curve: elliptic.P256()}, true},
		"8193 bits":           {of(8193, 65537), false},
		"16384 bits":          {of(16384, 3), false},
		"exponent over 65537": {of(2048, 65539), false},
		"exponent over 2^30":  {of(2048, 1<<30+1), false},
		"no modulus":          {&rsa.PublicKey{E: 3}, false},
	} {
		if err := kra.CheckCertificateKey(&x509.Certificate{PublicKey: x.key}); (err == nil) != x.ok {
			t.Errorf("%s: %v; want passes: %v", name, err, x.ok)
		}
	}
}
