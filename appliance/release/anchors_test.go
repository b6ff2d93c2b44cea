package release

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// who identifies the holder of a certificate.
func who(t *testing.T, c tls.Certificate, anchors ...Anchor) string {
	t.Helper()
	a, err := NewAnchors(anchors)
	if err != nil {
		t.Fatal(err)
	}
	var sent []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, cert)
	}
	id, err := a.identify(sent, time.Now())
	if err != nil {
		return ""
	}
	return id.who.String()
}

// under makes an authority below a.
func (a authority) under(t *testing.T, name string) authority {
	t.Helper()
	key := newECDSA(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(0, 0, 1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func TestSameNameUnderTwoAnchors(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	anchors := []Anchor{{"a", kra.WholeName, a.cert}, {"b", kra.CommonName, b.cert}}
	for want, c := range map[string]tls.Certificate{
		"a:CN=alice,O=Example": a.person(t, "alice", "Example"),
		"b:CN=alice":           b.person(t, "alice", "Example"),
		"":                     newAuthority(t).person(t, "alice", "Example"),
	} {
		if got := who(t, c, anchors...); got != want {
			t.Errorf("identify = %q; want %q", got, want)
		}
	}
}

func TestIntermediateAuthorities(t *testing.T) {
	root := newAuthority(t)
	mid := root.under(t, "mid")
	c := mid.person(t, "alice", "Example")
	if got := who(t, c, Anchor{"root", kra.WholeName, root.cert}); got != "" {
		t.Errorf("without the certificate between: %q", got)
	}
	c.Certificate = append(c.Certificate, mid.cert.Raw)
	if got := who(t, c, Anchor{"root", kra.WholeName, root.cert}); got != "root:CN=alice,O=Example" {
		t.Errorf("with it: %q", got)
	}
	both := []Anchor{{"root", kra.WholeName, root.cert}, {"mid", kra.WholeName, mid.cert}}
	if got := who(t, c, both...); got != "mid:CN=alice,O=Example" { // whatever the client sends along, the nearest anchor names
		t.Errorf("of two anchors: %q", got)
	}
	for len(c.Certificate) <= maxChain {
		c.Certificate = append(c.Certificate, mid.cert.Raw)
	}
	if got := who(t, c, both...); got != "" {
		t.Errorf("with too many certificates: %q", got)
	}
	leaf := root.person(t, "alice", "Example") // no authority
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sub := authority{cert, leaf.PrivateKey.(*ecdsa.PrivateKey)}
	forged := sub.person(t, "bob", "Example")
	forged.Certificate = append(forged.Certificate, cert.Raw)
	if got := who(t, forged, both...); got != "" {
		t.Errorf("issued by a person: %q", got)
	}
}

func TestAnchorsRefused(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	leaf, err := x509.ParseCertificate(a.person(t, "alice", "Example").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, anchors := range map[string][]Anchor{
		"alias":        {{"Corp", kra.WholeName, a.cert}},
		"no alias":     {{"", kra.WholeName, a.cert}},
		"no naming":    {{"a", 0, a.cert}},
		"no authority": {{"a", kra.WholeName, leaf}},
		"nothing":      {{"a", kra.WholeName, nil}},
		"two aliases":  {{"a", kra.WholeName, a.cert}, {"b", kra.WholeName, a.cert}},
		"two namings":  {{"a", kra.WholeName, a.cert}, {"a", kra.CommonName, b.cert}},
	} {
		if _, err := NewAnchors(anchors); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewAnchors([]Anchor{{"a", kra.WholeName, a.cert}, {"a", kra.WholeName, b.cert}}); err != nil {
		t.Errorf("an authority with a new certificate: %v", err)
	}
}

func TestAnchorRemovedOnOpenConnection(t *testing.T) { // a change counts for the next request, not the next connection
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	if code, _ := w.ask(c, "", h); code != http.StatusOK {
		t.Fatal(code)
	}
	snap := *w.snap.Load()
	snap.Anchors, _ = NewAnchors([]Anchor{{"corp", kra.WholeName, w.stranger.cert}})
	w.snap.Store(&snap)
	if code, body := w.post(c, request(t, h.Bytes())); code != http.StatusUnauthorized {
		t.Errorf("after the anchor was removed: %d %s", code, body)
	}
	w.publish()
	if code, _ := w.ask(c, "", h); code != http.StatusOK {
		t.Errorf("after it came back: %d", code)
	}
}

func TestCertificateExpiresOnOpenConnection(t *testing.T) {
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	if code, _ := w.ask(c, "", h); code != http.StatusOK {
		t.Fatal(code)
	}
	for _, years := range []int{2, -1} { // expired; not yet valid
		old := w.clock.Swap(&moment{time.Now().AddDate(years, 0, 0), true})
		if code, _ := w.post(c, request(t, h.Bytes())); code != http.StatusUnauthorized {
			t.Errorf("%d years on: %d", years, code)
		}
		w.clock.Store(old)
	}
}
