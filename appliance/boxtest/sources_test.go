package boxtest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/repository"
)

const teller = "urn:example:role:teller"

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// attributeAuthority is one of its own: nothing but its certificate makes the box believe it.
func attributeAuthority(t testing.TB) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Attribute authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// revoked is the list of the box's people's authority.
func revoked(t testing.TB, b *boxtest.Box, number int64, who ...*x509.Certificate) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(b.Domain, desk.PeopleFile), filepath.Join(b.Domain, "people.key"))
	if err != nil {
		t.Fatal(err)
	}
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range who {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, pair.Leaf, pair.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return pemText("X509 CRL", der)
}

// A whole box has sources, from the console to the port and the log.
func TestSourcesOfABox(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	aa, aaKey := attributeAuthority(t)
	b.Do("source add attribute corp-aa may role of corp", pemText("CERTIFICATE", aa.Raw))
	b.Do(`rule add tellers is roles.has("` + teller + `", "corp-aa")`)
	b.Do("access lists legal-team is tellers")
	bob, carol := b.Person("bob"), b.Person("carol")
	attest := func(who tls.Certificate) []byte {
		raw, err := attrcert.Issue(attrcert.Template{Holder: who.Leaf, From: time.Now().Add(-time.Minute), Until: time.Now().Add(time.Hour), Roles: []string{teller}}, aa, aaKey)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	root, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := client.ParseTrust(root)
	if err != nil {
		t.Fatal(err)
	}
	as := func(who tls.Certificate, attributes ...[]byte) *client.Agent {
		a, err := client.NewAgent(client.Config{URL: "https://" + b.Up().Release.String(), Trust: trust, Certificate: &who, Delivery: client.Delivery{Attributes: attributes}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		return a
	}
	h, _ := header(t, as(bob), "for tellers")
	expect := func(when string, a *client.Agent, released bool) {
		t.Helper()
		answers, err := a.Release(t.Context(), []block.Header{h})
		if err == nil {
			err = answers[0].Err
		}
		if released && err != nil || !released && !errors.Is(err, client.ErrRefused) {
			t.Errorf("%s: %v; want released: %v", when, err, released)
		}
	}
	expect("bob, who shows nothing", as(bob), false)
	// The host's clock is not the agent's to vouch for: what has a lifetime counts for nothing here, and other rules go on.
	expect("bob, a teller, while nobody vouches for the clock", as(bob, attest(bob)), false)
	entries := keysAndEntries(t, attest(bob))
	b.Do("source add repository keys", entries...)
	expect("bob, by the repository, while nobody vouches for the clock", as(bob), false)
	b.Do("source remove keys", "yes")

	b.Do("time set "+time.Now().UTC().Format(time.RFC3339), "yes")
	expect("bob, a teller", as(bob, attest(bob)), true)
	expect("bob, who shows nothing, after he did", as(bob), false)
	expect("carol with bob's certificate", as(carol, attest(bob)), false)
	expect("carol with her own", as(carol, attest(carol)), true)
	expect("bob with carol's certificate", as(bob, attest(carol)), false)
	expect("bob with one of his own making", as(bob, func() []byte {
		raw, err := attrcert.Issue(attrcert.Template{Holder: bob.Leaf, From: time.Now().Add(-time.Minute), Until: time.Now().Add(time.Hour), Roles: []string{teller}}, bob.Leaf, bob.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}()), false)
	b.Do("source add repository keys", entries...)
	expect("bob, by the repository", as(bob), true)
	expect("carol, who is not in it", as(carol), false)
	b.Do("source remove keys", "yes")
	expect("bob, without the repository", as(bob), false)

	b.Do("access lists legal-team is tellers;counsel")
	open := as(bob)
	expect("bob, by another rule", open, true)

	// A revocation list, and then one that has bob: his connection is open, and he is refused until the list goes.
	b.Do("source add crl people of corp", revoked(t, b, 1))
	expect("bob, not revoked", open, true)
	b.Do("source renew people", revoked(t, b, 2, bob.Leaf))
	expect("bob, revoked", open, false)
	b.Do("source remove people", "yes")
	expect("bob, without a list", open, true)
	verifyLog(t, b)
}

// keysAndEntries are what the console asks for: the repository's public key and its entries.
func keysAndEntries(t testing.TB, attributes []byte) []string {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := repository.ParseSigner([]byte(pemText("PRIVATE KEY", p8)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := attrcert.Parse(attributes)
	if err != nil {
		t.Fatal(err)
	}
	e, err := repository.Attributes(c)
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.Publish([]repository.Entry{e}, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return []string{pemText("PUBLIC KEY", spki), string(files[repository.AllFile])}
}
