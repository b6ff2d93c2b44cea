package desk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Validity of what the person CA issues.
const (
	personCAYears = 10
	personDays    = 365
)

// Files of the person CA under a domain folder. It is a CA of its own: no box and no label is ever under it.
const (
	PeopleFile  = "people.pem" // public: what a box is told to trust
	personCAKey = "people.key"
)

// IssuePerson issues a client certificate for subject and writes dir/people/FILE.pem and FILE.key (0600), where FILE
// is the common name. The person CA is made in dir when it is not there. It returns the two paths.
func IssuePerson(dir string, subject pkix.Name) (cert, key string, err error) {
	if subject.CommonName == "" || filepath.Base(subject.CommonName) != subject.CommonName {
		return "", "", fmt.Errorf("issue person: %q is not a usable common name", subject.CommonName)
	}
	ca, caKey, err := personCA(dir)
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, personDays),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, k.Public(), caKey)
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "people"), 0o700); err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	base := filepath.Join(dir, "people", subject.CommonName)
	return base + ".pem", base + ".key", writePair(base+".pem", base+".key", der, k)
}

// personCA reads the person CA in dir, or makes it.
func personCA(dir string) (*x509.Certificate, crypto.Signer, error) {
	certFile, keyFile := filepath.Join(dir, PeopleFile), filepath.Join(dir, personCAKey)
	c, k, err := readPair(certFile, keyFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, k, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "People"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(personCAYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	if err := writePair(certFile, keyFile, der, key); err != nil {
		return nil, nil, err
	}
	c, err = x509.ParseCertificate(der)
	return c, key, err
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

// writePair writes the key first: a certificate never lies there without its key.
func writePair(certFile, keyFile string, der []byte, k crypto.Signer) error {
	p8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	defer clear(p8)
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func readPair(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	cb, err := os.ReadFile(certFile)
	if err != nil {
		return nil, nil, err
	}
	kb, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, err
	}
	defer clear(kb)
	c, k := firstBlock(cb, "CERTIFICATE"), firstBlock(kb, "PRIVATE KEY")
	if c == nil || k == nil {
		return nil, nil, fmt.Errorf("%s or %s: not PEM", certFile, keyFile)
	}
	cert, err := x509.ParseCertificate(c)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certFile, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s: not a signing key", keyFile)
	}
	return cert, s, nil
}

// firstBlock returns the bytes of the first PEM block of b if it has that type.
func firstBlock(b []byte, typ string) []byte {
	if p, _ := pem.Decode(b); p != nil && p.Type == typ {
		return p.Bytes
	}
	return nil
}
