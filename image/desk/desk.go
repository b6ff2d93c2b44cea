// Package desk is the domain's signing desk: it makes the domain's keys, checks what boxes ask for, and approves releases.
//
// The keys of a domain made by Init lie in files that whoever reads them can use: that is for evaluation. The verbs stay
// the same when they move into tokens.
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
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/keyrelease/krabox/kra/label"
)

// Files of a domain's folder.
const (
	DomainFile    = "domain.json"   // public: goes into images
	RootFile      = "root.pem"      // public: goes to everyone who verifies
	AuthorityFile = "authority.pem" // public: certificate of the label key
	rootKeyFile   = "root.key"
	labelKeyFile  = "label.key"
	recoveryFile  = "recovery.key"
	escrowFile    = "escrow.key"
	boxesDir      = "boxes" // NAME.pem: the last bundle of each enrolled box
)

// Warning is what Init's caller must tell: the keys are only files.
const Warning = "these keys are plain files: anyone who can read them can approve software for your boxes.\n" +
	"Keep such a domain for evaluation; a real one keeps root, label and recovery key offline."

const rootLife = 20 // years

// A Desk is a domain's folder, with its keys.
type Desk struct {
	dir       string
	domain    label.Domain
	root      *x509.Certificate
	authority []byte        // certificate of key, DER
	issuer    crypto.Signer // key of root
	key       crypto.Signer // K_label
	escrow    *age.X25519Identity
}

// Init makes a domain in a folder that holds none yet.
func Init(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, DomainFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make domain: %s holds a domain already", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, boxesDir), 0o700); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	keys := map[string]*ecdsa.PrivateKey{}
	for _, f := range []string{rootKeyFile, labelKeyFile, recoveryFile} {
		k, err := newKey(filepath.Join(dir, f))
		if err != nil {
			return fmt.Errorf("make domain: %w", err)
		}
		keys[f] = k
	}
	escrow, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, escrowFile), []byte(escrow.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	der, err := selfSigned(name, keys[rootKeyFile])
	if err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	d := label.Domain{Name: name, Root: der, Escrow: escrow.Recipient().String()}
	for f, k := range map[string]*label.Key{labelKeyFile: &d.Label, recoveryFile: &d.Recovery} {
		if *k, err = label.NewKey(&keys[f].PublicKey); err != nil {
			return fmt.Errorf("make domain: %w", err)
		}
	}
	if err := certifyAuthority(dir, d, keys[rootKeyFile]); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	if err := publish(dir, d); err != nil {
		return err
	}
	k, err := Open(dir)
	if err != nil {
		return err
	}
	return k.note(actInit, name, map[string]string{"domain": d.Hash().String()})
}

// publish writes the public part; domain.json last, because it says that the domain is there.
func publish(dir string, d label.Domain) error {
	if _, err := label.ParseDomain(d.Bytes()); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{RootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Root})}, {DomainFile, d.Bytes()}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return fmt.Errorf("make domain: %w", err)
		}
	}
	return nil
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	return k, errors.Join(err, f.Sync(), f.Close())
}

func selfSigned(name string, key crypto.Signer) ([]byte, error) {
	now := time.Now()
	t := &x509.Certificate{Subject: pkix.Name{Organization: []string{name}, CommonName: name + " root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(rootLife, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// Open opens the desk of a domain.
func Open(dir string) (*Desk, error) {
	b, err := os.ReadFile(filepath.Join(dir, DomainFile))
	if err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	d := &Desk{dir: dir}
	if d.domain, err = label.ParseDomain(b); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	if d.root, err = d.domain.Certificate(); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	for f, k := range map[string]*crypto.Signer{rootKeyFile: &d.issuer, labelKeyFile: &d.key} {
		if *k, err = readKey(filepath.Join(dir, f)); err != nil {
			return nil, fmt.Errorf("open desk: %w", err)
		}
	}
	if d.authority, err = readAuthority(dir, d.domain, d.issuer); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	if d.escrow, err = readEscrow(filepath.Join(dir, escrowFile)); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	return d, nil
}

// Domain is the public part.
func (d *Desk) Domain() label.Domain { return d.domain }

func readKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, fmt.Errorf("%s holds no key", path)
	}
	defer clear(b.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a PKCS #8 key", path)
	}
	s, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return s, nil
}
