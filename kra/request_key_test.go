package kra

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// TestLongKeysAreRefused is about what a stranger could have verified: at the door, whichever of the certificates has it.
func TestLongKeysAreRefused(t *testing.T) {
	with := func(bits uint, e int) []byte {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{},
			&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}, ecKey(t, elliptic.P256()))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	const form = `{"headers":["AA=="],"certificates":[%q,%q]}`
	for name, x := range map[string]struct {
		der  []byte
		want string
	}{
		"4096 bits":             {with(4096, 65537), ""},
		"long":                  {with(100_000, 65537), "RSA key is longer"},
		"large exponent":        {with(4096, 1<<31-1), "RSA key has an exponent"},
		"long with a large one": {with(100_000, 1<<31-1), "RSA key"},
	} {
		first, second := base64.StdEncoding.EncodeToString(testCert.Raw), base64.StdEncoding.EncodeToString(x.der)
		for _, body := range []string{fmt.Sprintf(form, first, second), fmt.Sprintf(form, second, first)} {
			_, err := ParseRequest([]byte(body))
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%s: %v; want %q", name, err, x.want)
			}
		}
	}
}
