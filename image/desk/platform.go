package desk

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// certifyAuthority has the root say which key signs for the domain: who knows the root alone can then verify approvals.
func certifyAuthority(dir string, d label.Domain, root crypto.Signer) error {
	issuer, err := d.Certificate()
	if err != nil {
		return err
	}
	key, err := d.Label.ECDSA()
	if err != nil {
		return err
	}
	der, err := signLeaf(issuer, root, key, d.AuthorityURI(), &x509.Certificate{
		Subject: pkix.Name{Organization: []string{d.Name}, CommonName: d.Name + " authority"}, NotAfter: issuer.NotAfter})
	if err != nil {
		return fmt.Errorf("certify authority: %w", err)
	}
	return writeWhole(filepath.Join(dir, AuthorityFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// readAuthority reads the certificate of K_label, and makes it for a domain that is older than such certificates.
func readAuthority(dir string, d label.Domain, root crypto.Signer) ([]byte, error) {
	path := filepath.Join(dir, AuthorityFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := certifyAuthority(dir, d, root); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	issuer, err := d.Certificate()
	if err != nil {
		return nil, err
	}
	if k, _, err := label.ReadAuthority(issuer, d.Name, b.Bytes); err != nil || k != d.Label {
		return nil, errors.Join(fmt.Errorf("%s is not the certificate of the domain's label key", path), err)
	}
	return b.Bytes, nil
}

// certifyPlatform makes the certificate of a box's attestation key: whose quotes speak for the platform of that name.
func (d *Desk) certifyPlatform(v tpm.Verified, box label.Box) ([]byte, error) {
	return d.certifyAttester(v, box.Name, v.EK.String())
}

// certifyAttester is certifyPlatform with the Name of the endorsement key, or with none: who has several identities need not show that they
// are of one TPM.
func (d *Desk) certifyAttester(v tpm.Verified, name, ek string) ([]byte, error) {
	der, err := signLeaf(d.root, d.issuer, v.Attester, d.domain.PlatformURI(name), &x509.Certificate{
		Subject:  pkix.Name{Organization: []string{d.domain.Name}, OrganizationalUnit: []string{"platform"}, CommonName: name, SerialNumber: ek},
		NotAfter: time.Now().AddDate(labelLife, 0, 0), UnknownExtKeyUsage: []asn1.ObjectIdentifier{label.AttestationKeyUsage}})
	if err != nil {
		return nil, fmt.Errorf("certify platform: %w", err)
	}
	return der, nil
}

// signLeaf completes a certificate for signatures only, under one name.
func signLeaf(issuer *x509.Certificate, by crypto.Signer, key crypto.PublicKey, uri string, t *x509.Certificate) ([]byte, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	t.URIs, t.KeyUsage, t.BasicConstraintsValid = []*url.URL{u}, x509.KeyUsageDigitalSignature, true
	t.NotBefore = time.Now().Add(-time.Hour)
	return x509.CreateCertificate(rand.Reader, t, issuer, key, by)
}
