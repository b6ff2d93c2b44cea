package clienttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A pki is a domain: root, one label key, and an authority for persons.
type pki struct {
	root, label, persons authority
	tlsLabel             authority // of the TLS key, if another
	receiptKey           ed25519.PrivateKey
	receiptPath          receipt.Path
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newPKI(t testing.TB, tlsLabel string) *pki {
	t.Helper()
	p := &pki{}
	p.root = selfSigned(t, Domain)
	p.persons = selfSigned(t, "persons of "+Domain)
	key := ecKey(t)
	p.label = authority{p.root.issue(t, key.Public(), labelTemplate(Release, Box)), key}
	p.tlsLabel = authority{p.root.issue(t, key.Public(), labelTemplate(tlsLabel, Box)), key}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.receiptKey = priv
	leaf := p.label.issue(t, pub, &x509.Certificate{Subject: pkix.Name{CommonName: "receipt"}, URIs: uris("kra://" + Domain + "/receipt/" + Box),
		KeyUsage: x509.KeyUsageDigitalSignature})
	if p.receiptPath, err = receipt.NewPath([][]byte{leaf.Raw, p.label.cert.Raw}); err != nil {
		t.Fatal(err)
	}
	return p
}

// labelTemplate is the label certificate as the signing desk makes it.
func labelTemplate(label, box string) *x509.Certificate {
	one := &net.IPNet{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(32, 32)}
	return &x509.Certificate{Subject: pkix.Name{Organization: []string{Domain}, OrganizationalUnit: []string{"label " + label}, CommonName: box},
		URIs: uris("kra://" + Domain + "/label/" + label + "/" + box),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{one}, PermittedURIDomains: []string{Domain}, PermittedEmailAddresses: []string{"invalid"}}
}

func uris(s string) []*url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return []*url.URL{u}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func selfSigned(t testing.TB, name string) authority {
	t.Helper()
	a := authority{key: ecKey(t)}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = tmpl
	a.cert = a.issue(t, a.key.Public(), tmpl)
	return a
}

func (a authority) issue(t testing.TB, pub crypto.PublicKey, tmpl *x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = serial
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pki) server(t testing.TB, label authority) tls.Certificate {
	t.Helper()
	key := ecKey(t)
	leaf := label.issue(t, key.Public(), &x509.Certificate{Subject: pkix.Name{CommonName: Box}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, label.cert.Raw}, PrivateKey: key}
}

func (p *pki) clientPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.persons.cert)
	return pool
}

func (p *pki) releaseKey(t testing.TB, access kra.AccessID, title string, s block.Suite) key {
	t.Helper()
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: string(access)}, URIs: uris("kra://" + Domain + "/" + string(access))}
	k := key{}
	var pub crypto.PublicKey
	switch s {
	case block.SuiteRSAOAEP:
		r, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		k.private, pub, tmpl.KeyUsage = r, r.Public(), x509.KeyUsageKeyEncipherment
	default:
		e := ecKey(t)
		d, err := e.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		k.private, pub, tmpl.KeyUsage = d, e.Public(), x509.KeyUsageKeyAgreement
	}
	leaf := p.label.issue(t, pub, tmpl)
	k.id = block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo)
	refs, err := block.RefsOf(leaf.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	to, err := cms.ToCertificate(leaf)
	if err != nil {
		t.Fatal(err)
	}
	k.refs = append(refs, to.Refs()...)
	public, err := kra.NewPublicKey(access, title, pub, pemOf("CERTIFICATE", leaf.Raw)+pemOf("CERTIFICATE", p.label.cert.Raw))
	if err != nil {
		t.Fatal(err)
	}
	k.public = public
	return k
}

// A Forgery is how the certificate of a published key differs from what an agent's
// label key would certify.
type Forgery struct {
	Template *x509.Certificate // names and usage, to be changed
	By       string            // who signs: "label", "root", "persons" or another label
	Public   crypto.PublicKey  // nil: a new P-256 key
}

// Forge makes a directory entry for access with a certificate as f says.
func (a *Agent) Forge(t testing.TB, access kra.AccessID, edit func(*Forgery)) kra.PublicKey {
	t.Helper()
	f := Forgery{Template: &x509.Certificate{Subject: pkix.Name{CommonName: string(access)}, KeyUsage: x509.KeyUsageKeyAgreement,
		URIs: uris("kra://" + Domain + "/" + string(access))}, By: "label", Public: ecKey(t).Public()}
	edit(&f)
	by := authority{}
	switch f.By {
	case "label":
		by = a.pki.label
	case "root":
		by = a.pki.root
	case "persons":
		by = a.pki.persons
	default:
		k := ecKey(t)
		by = authority{a.pki.root.issue(t, k.Public(), labelTemplate(f.By, Box)), k}
	}
	leaf := by.issue(t, f.Public, f.Template)
	return kra.PublicKey{Access: access, Title: "Forged", KeyID: block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo).String(),
		Suite: block.SuiteP256.String(), Certificate: pemOf("CERTIFICATE", leaf.Raw) + pemOf("CERTIFICATE", by.cert.Raw)}
}

// URI makes the one name of a certificate.
func URI(s string) []*url.URL { return uris(s) }

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// RootPEM returns the domain's root certificate.
func (a *Agent) RootPEM() []byte { return []byte(pemOf("CERTIFICATE", a.pki.root.cert.Raw)) }

// Second issues a certificate of the person for encryption, with an EC or an RSA key; both results are PEM. Requests that
// only name the decryptor find it too.
func (a *Agent) Second(t testing.TB, name string, s block.Suite) (cert, key []byte) {
	t.Helper()
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageKeyAgreement, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	var k crypto.Signer = ecKey(t)
	if s == block.SuiteRSAOAEP {
		r, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		k, tmpl.KeyUsage = r, x509.KeyUsageKeyEncipherment
	}
	leaf := a.pki.persons.issue(t, k.Public(), tmpl)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.named == nil {
		a.named = map[string]*x509.Certificate{}
	}
	a.named["corp:CN="+name] = leaf
	return []byte(pemOf("CERTIFICATE", leaf.Raw)), []byte(pemOf("PRIVATE KEY", der))
}

// Person issues a client certificate with this common name; both results are PEM.
func (a *Agent) Person(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	k := ecKey(t)
	leaf := a.pki.persons.issue(t, k.Public(), &x509.Certificate{Subject: pkix.Name{CommonName: name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(pemOf("CERTIFICATE", leaf.Raw)), []byte(pemOf("PRIVATE KEY", der))
}
