package hsmtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Box is the box whose token every custodian and daemon of this package keeps.
const Box = "box1"

// A pen is a throwaway domain that makes the statements of its boxes.
type pen struct {
	domain label.Domain
	root   *ecdsa.PrivateKey
	label  *ecdsa.PrivateKey
}

var domain = sync.OnceValues(newPen)

func newPen() (*pen, error) {
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.org"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, keys[0].Public(), keys[0])
	if err != nil {
		return nil, err
	}
	p := &pen{label.Domain{Name: "example.org", Root: der, Escrow: "age1" + strings.Repeat("q", 58)}, keys[0], keys[1]}
	if p.domain.Label, err = label.NewKey(&keys[1].PublicKey); err != nil {
		return nil, err
	}
	p.domain.Recovery, err = label.NewKey(&keys[2].PublicKey)
	return p, err
}

func penOf(t testing.TB) *pen {
	t.Helper()
	p, err := domain()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Domain is the domain of Box and of every box that Request speaks for.
func Domain(t testing.TB) label.Domain { return penOf(t).domain }

// Request is a box's signed request for copies of keys, to be sealed to a transport key.
func Request(t testing.TB, box string, transport []byte) []byte {
	t.Helper()
	return penOf(t).request(t, box, transport)
}

// Foreign is such a request that says it is of this domain and was signed in another.
func Foreign(t testing.TB, box string, transport []byte) []byte {
	t.Helper()
	other, err := newPen()
	if err != nil {
		t.Fatal(err)
	}
	root := other.domain.Root
	other.domain = penOf(t).domain
	other.domain.Root = root
	return other.request(t, box, transport)
}

func (p *pen) request(t testing.TB, box string, transport []byte) []byte {
	t.Helper()
	r := label.ReplicaRequest{Domain: penOf(t).domain.Hash(), Box: box, Transport: transport}
	_, _ = rand.Read(r.Nonce[:]) // never fails
	chain, by, err := p.certify(box, r.Digest())
	if err == nil {
		var text []byte
		if text, err = r.Sign(chain, by); err == nil {
			return text
		}
	}
	t.Fatal(err)
	return nil
}

// certify makes a key for one statement of a box, and its certificates: of the statement's key, and of the box's label key.
func (p *pen) certify(box string, statement label.Digest) (chain [][]byte, by *ecdsa.PrivateKey, err error) {
	root, err := p.domain.Certificate()
	if err != nil {
		return nil, nil, err
	}
	above, aboveBy, err := p.issue(&x509.Certificate{IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}, p.domain.LabelURI(label.KeyRelease, box), root, p.root)
	if err != nil {
		return nil, nil, err
	}
	leaf, by, err := p.issue(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature}, p.domain.ReplicaURI(box, statement), above, aboveBy)
	if err != nil {
		return nil, nil, err
	}
	return [][]byte{leaf.Raw, above.Raw}, by, nil
}

// issue makes a key and has an issuer certify it.
func (p *pen) issue(c *x509.Certificate, name string, issuer *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c.SerialNumber, c.URIs, c.NotAfter, c.BasicConstraintsValid = big.NewInt(2), []*url.URL{u}, time.Now().Add(time.Hour), true
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), by)
	if err != nil {
		return nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	return made, key, err
}

// backupKey is a backup key of a box, of two shares on paper.
func backupKey(t testing.TB, box string, transport []byte) label.BackupKey {
	t.Helper()
	k := label.BackupKey{Domain: penOf(t).domain.Hash(), Box: box, Transport: transport, Threshold: 2, Shares: make([]label.Digest, 2), Recipients: []string{}}
	_, _ = rand.Read(k.Nonce[:]) // never fails
	return k
}

// BackupKey is a box's signed request for a backup key, which is nobody's approval.
func BackupKey(t testing.TB, box string, transport []byte) []byte {
	t.Helper()
	k := backupKey(t, box, transport)
	chain, by, err := penOf(t).certify(box, k.Digest())
	if err == nil {
		var text []byte
		if text, err = k.Sign(chain, by); err == nil {
			return text
		}
	}
	t.Fatal(err)
	return nil
}

// BackupApproval is the domain's approval of a transport key as a box's backup key.
func BackupApproval(t testing.TB, box string, transport []byte, number uint64) []byte {
	t.Helper()
	text, err := (label.BackupApproval{Number: number, Key: backupKey(t, box, transport)}).Sign(penOf(t).label)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ForeignApproval is such an approval that says it is of this domain and was signed in another.
func ForeignApproval(t testing.TB, box string, transport []byte, number uint64) []byte {
	t.Helper()
	other, err := newPen()
	if err != nil {
		t.Fatal(err)
	}
	text, err := (label.BackupApproval{Number: number, Key: backupKey(t, box, transport)}).Sign(other.label)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
