package client

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of what is read as certificates.
const (
	maxRoots = 16
	maxPath  = 8
)

const (
	scheme  = "kra://" // of the URIs in certificates of a domain
	pemCert = "CERTIFICATE"
)

// Trust is the domain's root: the one thing that a client must have been given by
// somebody it believes. The zero Trust believes nobody.
type Trust struct {
	roots *x509.CertPool
	certs []*x509.Certificate // of roots
}

// ParseTrust reads the PEM of one root certificate, or of a few while a root is replaced.
func ParseTrust(text []byte) (Trust, error) {
	certs, err := parsePEM(text, maxRoots)
	if err != nil {
		return Trust{}, fmt.Errorf("parse domain root: %w", err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !c.IsCA || !bytes.Equal(c.RawIssuer, c.RawSubject) {
			return Trust{}, fmt.Errorf("parse domain root: %s is not a root certificate", c.Subject)
		}
		pool.AddCert(c)
	}
	return Trust{pool, certs}, nil
}

// Valid reports whether t believes anybody.
func (t Trust) Valid() bool { return t.roots != nil }

// ID names the roots: the SHA-256 of their certificates, one after the other.
func (t Trust) ID() [32]byte {
	h := sha256.New()
	for _, c := range t.certs {
		h.Write(c.Raw)
	}
	return [32]byte(h.Sum(nil))
}

// Certificates are the roots.
func (t Trust) Certificates() []*x509.Certificate { return slices.Clone(t.certs) }

// Roots returns the pool for package receipt.
func (t Trust) Roots() *x509.CertPool {
	if t.roots == nil {
		return x509.NewCertPool()
	}
	return t.roots.Clone()
}

func parsePEM(text []byte, limit int) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil || b.Type != pemCert {
			return nil, errors.New("not a sequence of PEM certificates")
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		if certs = append(certs, c); len(certs) > limit {
			return nil, fmt.Errorf("more than %d certificates", limit)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return certs, nil
}

// path verifies leaf-first certificates up to the root and returns the verified path
// (leaf, label, …, root) and who issued the leaf.
func (t Trust) path(certs []*x509.Certificate, now time.Time) ([]*x509.Certificate, issuer, error) {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	paths, err := certs[0].Verify(x509.VerifyOptions{Roots: t.Roots(), Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, issuer{}, err
	}
	by, err := issuerOf(paths[0])
	return paths[0], by, err
}

// releaseKey verifies the certificate of a key-release key, leaf first, and returns
// what it certifies.
func (t Trust) releaseKey(text string, now time.Time) (certified, error) {
	certs, err := parsePEM([]byte(text), maxPath)
	if err != nil {
		return certified{}, fmt.Errorf("parse certificate: %w", err)
	}
	leaf := certs[0]
	if leaf.PublicKey == nil { // of a kind that crypto/x509 does not know
		if leaf.PublicKey, err = block.ParsePublicKey(leaf.RawSubjectPublicKeyInfo); err != nil {
			return certified{}, err
		}
	}
	c := certified{leaf: leaf, pub: leaf.PublicKey, until: leaf.NotAfter, id: block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo)}
	if c.domain, c.access, err = nameOf(leaf); err != nil {
		return certified{}, err
	}
	if c.suite, err = suiteOf(leaf); err != nil {
		return certified{}, err
	}
	_, by, err := t.path(certs, now)
	if err != nil {
		return certified{}, err
	}
	if by.domain != c.domain {
		return certified{}, fmt.Errorf("a key of domain %q is certified for domain %q", by.domain, c.domain)
	}
	c.by = by
	return c, nil
}

// certified is what a verified key-release certificate says.
type certified struct {
	domain string
	by     issuer
	access kra.AccessID
	id     block.KeyID
	suite  block.Suite
	pub    crypto.PublicKey
	until  time.Time
	leaf   *x509.Certificate
}

// nameOf reads CN and the URI kra://DOMAIN/ACCESS-ID, which must agree.
func nameOf(leaf *x509.Certificate) (domain string, access kra.AccessID, err error) {
	if leaf.IsCA || len(leaf.URIs) != 1 {
		return "", "", errors.New("certificate is a CA's, or has not one URI")
	}
	rest, ok := strings.CutPrefix(leaf.URIs[0].String(), scheme)
	domain, word, cut := strings.Cut(rest, "/")
	if !ok || !cut || domain == "" {
		return "", "", fmt.Errorf("%q does not name a key-release key", leaf.URIs[0])
	}
	if access, err = kra.ParseAccessID(word); err != nil {
		return "", "", err
	}
	if leaf.Subject.CommonName != word {
		return "", "", fmt.Errorf("certificate is for %q and for %q", leaf.Subject.CommonName, word)
	}
	return domain, access, nil
}

// suiteOf holds the key and its usage together: agreement for EC, encipherment for RSA and hybrid.
func suiteOf(leaf *x509.Certificate) (block.Suite, error) {
	s, err := block.SuiteOf(leaf.PublicKey)
	if err != nil {
		return 0, err
	}
	want := x509.KeyUsage(0)
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		want = x509.KeyUsageKeyAgreement
	case *rsa.PublicKey, *block.HybridKey:
		want = x509.KeyUsageKeyEncipherment
	}
	if leaf.KeyUsage != want {
		return 0, errors.New("certificate's key usage is not that of a key-release key")
	}
	return s, nil
}
