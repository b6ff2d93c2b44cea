package admin

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestPlatformTrust: domains of platforms and authorities of persons are two pools, whichever is there first, and what a foreign label means
// has to be said.
func TestPlatformTrust(t *testing.T) {
	w := enrolled(t)
	means := strings.Repeat("0123456789abcdef", 4)
	w.has("platform list", "No platform is a decryptor")
	w.do("platform trust fleet own")
	w.has("platform list", "fleet", "example (own)", "none")
	w.fail("platform trust fleet own", nil, "taken")
	w.fail("platform trust again own", nil, "trusted already")
	w.fail("trust add fleet", []string{people(t, "Fleet")}, "taken")
	w.do("platform label fleet analysis")
	w.do("platform label fleet build as compile")
	w.has("platform list", "analysis", "build", "compile", "certificate")

	partner, partner2 := newAuthority(t), newAuthority(t)
	root := armored(partner.cert.Raw)
	own := armored(w.desk.Domain().Root)
	w.fail("platform trust partner domain partner.example", []string{own}, "own domain")
	w.fail("platform trust partner domain example", []string{root}, "own domain")
	w.fail("platform trust partner domain partner.example", []string{"."}, "not one certificate")
	if out := w.do("platform trust partner domain partner.example", root); !strings.Contains(out, "SHA-256") {
		t.Errorf("platform trust: %s", out)
	}
	w.fail("platform label partner compute", nil, "has to be said")
	w.do("platform label partner compute as analysis means " + means)
	w.has("platform list", "compute", means[:13])
	w.fail("trust add people", []string{root}, "certifies labels")
	w.fail("trust add people", []string{partner.authority(t, "")}, "certifies labels")
	w.fail("trust add people", []string{partner2.authority(t, "kra://other.example/label/analysis/x")}, "certifies labels")
	w.do("platform unlabel partner compute", "yes")
	w.fail("platform unlabel partner compute", []string{"yes"}, "counts as nothing")
	w.do("platform distrust partner", "yes")
	w.fail("platform distrust partner", nil, "no domain")

	ca := people(t, "Example People")
	w.do("trust add corp", ca)
	w.fail("platform trust persons domain persons.example", []string{ca}, "authority of persons")
	w.fail("platform trust corp domain partner.example", []string{root}, "taken")
	w.do("trust add staff", partner.authority(t, ""))
	w.fail("platform trust partner domain partner.example", []string{root}, "authority of persons")
}

func armored(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// A signer is a root whose key is at hand.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := signer{key: k}
	s.cert = s.sign(t, k, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}}, nil)
	return s
}

func (s signer) sign(t *testing.T, key *ecdsa.PrivateKey, c, by *x509.Certificate) *x509.Certificate {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(7), time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, c, cmp.Or(by, c), key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// authority is one that the root issued, with a URI or without.
func (s signer) authority(t *testing.T, uri string) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "below"}}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	return armored(s.sign(t, k, c, s.cert).Raw)
}

// TestAccessTestWithPlatform: an officer can try what a platform would get.
func TestAccessTestWithPlatform(t *testing.T) {
	w := enrolled(t)
	w.do("platform trust fleet own")
	w.do("platform label fleet analysis")
	w.do("access add legal-team")
	w.do("rule add analysts is platform.label == \"analysis\" && platform.measured && platform.version >= 3 && platform.age <= 60")
	w.do("rule add any platform analysis")
	w.do("access lists legal-team is analysts")
	who := `access test legal-team as "fleet:CN=build7,OU=label analysis,O=example" `
	w.has(who, "error", "no platform asks", "Refused")
	w.has(who+"with platform:label=analysis", "confirmed nothing", "Refused")
	w.has(who+"with platform:label=analysis platform:version=3 platform:age=5", "Allowed")
	w.has(who+"with platform:label=analysis platform:version=3 platform:age=61", "Refused")
	w.has(who+"with platform:label=analysis platform:version=2 platform:age=5", "Refused")
	w.has(who+"with platform:label=other platform:version=3 platform:age=5", "Refused")
	w.has(who+"with platform:label=analysis platform:measured=no", "false", "Refused")
	w.do("access lists legal-team is any")
	w.has(who+"with platform:label=analysis", "Allowed")
	w.fail(who+"with platform:colour=red", nil, "want label=")
}
