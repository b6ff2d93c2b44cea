package desk

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

	"filippo.io/age"
)

// Validity of what the person CA issues.
const (
	personCAYears = 10
	personDays    = 365
	maxPersonDays = 3 * 365
	listDays      = 30 // until the next list of what was revoked
	minRSA        = 2048
)

// Files of the person CA under a domain folder. It is a CA of its own: no box and no label is ever under it.
const (
	PeopleFile = "people.pem" // public: what a box is told to trust
	ListFile   = "people.crl" // public: what was revoked of it (RFC 5280)
	peopleDir  = "people"
)

// A Person is somebody to issue a client certificate to.
type Person struct {
	Subject pkix.Name
	Request []byte // PKCS #10, PEM or DER, whose key is certified; nil: a key is made here
	Days    int    // zero: a year
}

func (p Person) check() error {
	if n := p.Subject.CommonName; n == "" || filepath.Base(n) != n || n[0] == '.' || !plain(n) {
		return fmt.Errorf("issue person: %.80q is not a usable common name", n)
	}
	if p.Days < 0 || p.Days > maxPersonDays {
		return fmt.Errorf("issue person: want at most %d days", maxPersonDays)
	}
	return nil
}

// IssuePerson issues a client certificate for subject from a domain whose keys are plain files: see Desk.IssuePerson.
func IssuePerson(dir string, subject pkix.Name) (cert, key string, err error) {
	d, err := Open(dir)
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	return d.IssuePerson(Person{Subject: subject})
}

// IssuePerson issues a client certificate and writes people/FILE.pem and, if it made the key, FILE.key (0600), where FILE is the
// common name. The person CA is made when it is not there. It returns the paths; the second is empty if the key is elsewhere.
func (d *Desk) IssuePerson(p Person) (cert, key string, err error) {
	if err := p.check(); err != nil {
		return "", "", err
	}
	public, made, err := p.key()
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	ca, caKey, err := d.personCA()
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	days := p.Days
	if days == 0 {
		days = personDays
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: p.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, days),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, public, caKey)
	if err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	if err := d.note(actPerson, p.Subject.CommonName, map[string]string{factSerial: t.SerialNumber.Text(16), factUntil: t.NotAfter.UTC().Format(time.DateOnly)}); err != nil {
		return "", "", err
	}
	return d.handOver(p.Subject.CommonName, der, made)
}

// key is that of the request, whose holder has shown that he has it, or a new one.
func (p Person) key() (crypto.PublicKey, *ecdsa.PrivateKey, error) {
	if p.Request == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		return k.Public(), k, nil
	}
	der := p.Request
	if b, _ := pem.Decode(p.Request); b != nil {
		der = b.Bytes
	}
	q, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, nil, errors.New("not a PKCS #10 request")
	}
	if err := q.CheckSignature(); err != nil {
		return nil, nil, errors.New("the request is not signed by its own key")
	}
	switch k := q.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return nil, nil, fmt.Errorf("an RSA key of %d bits is too short: want %d", k.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, nil, fmt.Errorf("keys of type %T are not certified", k)
	}
	return q.PublicKey, nil, nil
}

// handOver writes the key first: a certificate never lies there without its key.
func (d *Desk) handOver(name string, der []byte, made *ecdsa.PrivateKey) (cert, key string, err error) {
	dir := filepath.Join(d.dir, peopleDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("issue person: %w", err)
	}
	base := filepath.Join(dir, name)
	if made != nil {
		text, err := keyText(made)
		if err != nil {
			return "", "", fmt.Errorf("issue person: %w", err)
		}
		defer clear(text)
		key = base + ".key"
		if err := writeWhole(key, text, 0o600); err != nil {
			return "", "", fmt.Errorf("issue person: %w", err)
		}
	}
	return base + ".pem", key, writeWhole(base+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// personCA reads the person CA, or makes it.
func (d *Desk) personCA() (*x509.Certificate, crypto.Signer, error) {
	text, err := os.ReadFile(filepath.Join(d.dir, PeopleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d.newPersonCA()
	}
	if err != nil {
		return nil, nil, err
	}
	der := firstBlock(text, "CERTIFICATE")
	if der == nil {
		return nil, nil, fmt.Errorf("%s holds no certificate", PeopleFile)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", PeopleFile, err)
	}
	public, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s is of no ECDSA key", PeopleFile)
	}
	return c, d.hold(peopleKey, public), nil
}

func (d *Desk) newPersonCA() (*x509.Certificate, crypto.Signer, error) {
	to, err := d.recipients()
	if err != nil {
		return nil, nil, err
	}
	key, err := d.openKey(peopleKey) // of who was stopped before the certificate
	if errors.Is(err, errAbsent) {
		key, err = d.newPersonKey(to)
	}
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "People"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(personCAYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return c, key, writeWhole(filepath.Join(d.dir, PeopleFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (d *Desk) newPersonKey(to []age.Recipient) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := keyText(key)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return key, writeKey(d.dir, peopleKey, text, to)
}

// recipients are whom a key file that is made later is encrypted to: as the escrow key is.
func (d *Desk) recipients() ([]age.Recipient, error) {
	f, err := form(d.dir, escrowKey)
	if err != nil || f == keyEnding {
		return nil, err
	}
	if to, err := d.people(); err != nil || to != nil {
		return to, err
	}
	if d.hands.Passphrase == nil {
		return nil, errNotAsked
	}
	text, err := d.hands.Passphrase("the domain's keys")
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if err := d.opens(text); err != nil { // else a slip of the finger would be the new file's passphrase
		return nil, err
	}
	r, err := age.NewScryptRecipient(string(text))
	return []age.Recipient{r}, err
}

// people are the recipients that the domain was made for; nil: it is a passphrase. Who has put another list there would have the next key
// encrypted to himself.
func (d *Desk) people() ([]age.Recipient, error) {
	all, _, err := d.Journal()
	if err != nil {
		return nil, err
	}
	text, err := readFile(filepath.Join(d.dir, recipientsFile), maxKeyFile)
	noted := all[0].Facts[factRecipients]
	switch {
	case errors.Is(err, fs.ErrNotExist) && noted == "":
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("whom keys are encrypted to: %w", err)
	case digest(text) != noted:
		return nil, fmt.Errorf("%s is not the list that the domain was made with: put that back, or take it away if the keys are under a passphrase", filepath.Join(d.dir, recipientsFile))
	}
	return age.ParseRecipients(bytes.NewReader(text))
}

// opens says that a passphrase is that of the domain's keys, and remembers it.
func (d *Desk) opens(passphrase []byte) error {
	with := &Desk{dir: d.dir, domain: d.domain, hands: Hands{Passphrase: func(string) ([]byte, error) { return bytes.Clone(passphrase), nil }}}
	_, err := with.opener()
	d.known = with.known
	return err
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

// firstBlock returns the bytes of the first PEM block of b if it has that type.
func firstBlock(b []byte, typ string) []byte {
	if p, _ := pem.Decode(b); p != nil && p.Type == typ {
		return p.Bytes
	}
	return nil
}
