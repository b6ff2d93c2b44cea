package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra"
)

// TestLongKeysOfAuthorities: whoever is trusted to sign, be it decryptors' certificates, attribute certificates or lists, has
// a key by which a signature is verified in bounded time. The error says what is wrong.
func TestLongKeysOfAuthorities(t *testing.T) {
	with := func(bits uint, e int) []byte {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{}, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ca, _, _, _ := authority(t)
	before, err := Apply(Empty(), AnchorAdd{"corp", kra.WholeName, ca})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		der  []byte
		want string
	}{
		"8192 bits":      {with(8192, 65537), ""},
		"8193 bits":      {with(8193, 65537), "longer than 8192 bits"},
		"large exponent": {with(4096, 1<<31-1), "exponent over 65537"},
	} {
		for what, c := range map[string]Change{
			"anchor":              AnchorAdd{"other", kra.WholeName, x.der},
			"attribute authority": SourceSet{Source{Alias: "aa", May: []InformationKind{InformationKinds()[0]}, Attribute: &AttributeAuthority{Of: "corp", Certs: [][]byte{x.der}}}},
			"server of lists":     SourceSet{Source{Alias: "lists", Revocation: &Revocation{Of: "corp", URL: "https://ca.example.com/x.crl", CA: [][]byte{x.der}, Every: 60, MaxAge: 120}}},
		} {
			_, err := Apply(before, c)
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%s of %s: %v; want %q", what, name, err, x.want)
			}
		}
	}
}
