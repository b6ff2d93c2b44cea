// Package desk is the domain's signing desk: it makes the domain's keys, checks what boxes ask for, and approves releases.
//
// The keys of a domain lie in plain files, for evaluation, or in files that a passphrase or somebody's key opens, or in a
// PKCS#11 token; the recovery key also in shares. Each is opened when it first signs, and not before.
package desk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
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
	boxesDir      = "boxes"         // NAME.pem: the last bundle of each enrolled box
)

// Warning is what Init's caller must tell: the keys are only files.
const Warning = "these keys are plain files: anyone who can read them can approve software for your boxes.\n" +
	"Keep such a domain for evaluation; a real one keeps root, label and recovery key offline."

const rootLife = 20 // years

// A Desk is a domain's folder, with its keys.
type Desk struct {
	dir       string
	hands     Hands
	known     *age.ScryptIdentity // the passphrase that has opened a file
	domain    label.Domain
	root      *x509.Certificate
	authority []byte        // certificate of key, DER
	issuer    crypto.Signer // key of root
	key       crypto.Signer // K_label
	acting    bool          // see alone
}

// Init makes a domain whose keys are plain files.
func Init(dir, name string) error { return Make(dir, name, Custody{Files: PlainFiles}) }

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

func selfSigned(name string, key crypto.Signer) ([]byte, error) {
	now := time.Now()
	t := &x509.Certificate{Subject: pkix.Name{Organization: []string{name}, CommonName: name + " root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(rootLife, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// Open opens the desk of a domain whose keys are plain files.
func Open(dir string) (*Desk, error) { return OpenWith(dir, Hands{}) }

// OpenWith opens the desk of a domain. What its keys take is asked for when they are used.
func OpenWith(dir string, h Hands) (*Desk, error) {
	b, err := os.ReadFile(filepath.Join(dir, DomainFile))
	if err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	d := &Desk{dir: dir, hands: h}
	if d.domain, err = label.ParseDomain(b); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	if d.root, err = d.domain.Certificate(); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	root, ok := d.root.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("open desk: the root key is not an ECDSA key")
	}
	key, err := d.domain.Label.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	d.issuer, d.key = d.hold(rootKey, root), d.hold(labelKey, key)
	if err := d.unambiguous(); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	if d.authority, err = readAuthority(dir, d.domain, d.issuer); err != nil {
		return nil, fmt.Errorf("open desk: %w", err)
	}
	return d, nil
}

// unambiguous refuses a folder in which a key lies in two forms. One that is not there is missed when it is used.
func (d *Desk) unambiguous() error {
	for _, name := range []string{rootKey, labelKey, recoveryKey, escrowKey, peopleKey} {
		if _, err := form(d.dir, name); err != nil && !errors.Is(err, errAbsent) {
			return err
		}
	}
	return nil
}

// Domain is the public part.
func (d *Desk) Domain() label.Domain { return d.domain }
