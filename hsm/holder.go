package hsm

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/kra/label"
)

// A platform's label key may be in a token instead of a TPM. Nothing measures the machine then, and its certificate says so; what the token
// gives is that the key stays in it. Two commands, beside make:
//
//	hsmd token request -module FILE -token LABEL -id ID                      in: PIN   out: request for the desk, PKCS #10, PEM
//	hsmd token leaf -module FILE -token LABEL -id ID -certificate FILE       in: PIN   out: a TLS client's key and certificates, PEM
//
// The second takes the desk's answer (domain platform certify). Its certificate is good for a day, for the one name in that answer.
const (
	holderLife     = 24 * time.Hour
	holderBackdate = 5 * time.Minute
	maxHolder      = 16 << 10 // bytes of a label certificate's file
)

// key is the public key.
func (s *signer) key() (*ecdsa.PublicKey, error) {
	h, err := s.one(p11.CKO_PUBLIC_KEY)
	if err != nil {
		return nil, err
	}
	point, err := s.point(h)
	if err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// A holder signs with the token's key. It never leaves this file.
type holder struct {
	signer *signer
	public *ecdsa.PublicKey
}

// Public is the token's key.
func (h holder) Public() crypto.PublicKey { return h.public }

// Sign has the token sign a digest of SHA-256.
func (h holder) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("sign: want SHA-256")
	}
	return h.signer.signDigest(digest)
}

func (s *signer) request(_ *bufio.Scanner, out io.Writer) error {
	pub, err := s.key()
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA256}, holder{s, pub})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return pem.Encode(out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func (s *signer) leaf(_ *bufio.Scanner, out io.Writer) error {
	pub, err := s.key()
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	issuer, h, err := s.certified(pub)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	uri, err := url.Parse(h.URI())
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	from := time.Now().Add(-holderBackdate)
	t := &x509.Certificate{SerialNumber: number, Subject: h.Subject(), NotBefore: from, NotAfter: from.Add(holderLife), URIs: []*url.URL{uri}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, SignatureAlgorithm: x509.ECDSAWithSHA256}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, &key.PublicKey, holder{s, pub})
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	defer clear(private)
	for _, b := range []pem.Block{{Type: "PRIVATE KEY", Bytes: private}, {Type: "CERTIFICATE", Bytes: der}, {Type: "CERTIFICATE", Bytes: issuer.Raw}} {
		if err := pem.Encode(out, &b); err != nil {
			return fmt.Errorf("leaf: %w", err)
		}
	}
	return nil
}

// certified reads the label certificate, which must be for this key, and for one that nothing measures.
func (s *signer) certified(pub *ecdsa.PublicKey) (*x509.Certificate, label.Holder, error) {
	f, err := os.Open(s.certificate)
	if err != nil {
		return nil, label.Holder{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHolder))
	if err != nil {
		return nil, label.Holder{}, err
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, label.Holder{}, errors.New("want a label certificate in PEM")
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, label.Holder{}, err
	}
	h, err := label.HolderOf(c, x509.ExtKeyUsageClientAuth)
	switch {
	case err != nil:
		return nil, label.Holder{}, err
	case !h.Unmeasured:
		return nil, label.Holder{}, errors.New("the label certificate says that a TPM measures its holder")
	case !pub.Equal(c.PublicKey):
		return nil, label.Holder{}, errors.New("the label certificate is for another key")
	}
	return c, h, nil
}
