package desk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/keyrelease/krabox/image/desk/shares"
	"github.com/keyrelease/krabox/kra/label"
)

// Files says in which form key files lie in a new domain's folder.
type Files uint8

const (
	PlainFiles  Files = iota + 1 // whoever reads them can use them: for evaluation
	SealedFiles                  // encrypted with age
)

// Custody is where the keys of a new domain will be.
type Custody struct {
	Files Files
	// To are whom SealedFiles are encrypted to: a passphrase, or keys, any one of which opens them.
	To []age.Recipient
	// Keys are To as text, when they are keys: what is made later is encrypted to the same.
	Keys string
	// Token makes root and label key in a PKCS#11 token, where they stay. Nil: they are files.
	Token *HSM
	// Recovery splits the recovery key among people; the zero one keeps it as the others are.
	Recovery Quorum
	Hands    Hands
}

// A Quorum is Need of Of shares, written to a folder, one file each.
type Quorum struct {
	Need, Of int
	Dir      string
}

const (
	recipientsFile = "recipients.txt" // whom key files are encrypted to; not there: to a passphrase
	factRecipients = "recipients"     // its digest, in the first act of the journal
)

func (c Custody) check() error {
	switch {
	case c.Files != PlainFiles && c.Files != SealedFiles:
		return errors.New("say how its keys are kept")
	case c.Files == SealedFiles && len(c.To) == 0:
		return errors.New("nobody could open its keys: there is no passphrase and no recipient")
	case c.Files == PlainFiles && len(c.To) > 0:
		return errors.New("plain files are encrypted to nobody")
	case c.Recovery.Of != 0 && c.Recovery.Dir == "":
		return errors.New("say where the shares of the recovery key go")
	}
	return nil
}

// path is where a share goes.
func (q Quorum) path(domain string, index int) string {
	return filepath.Join(q.Dir, fmt.Sprintf("%s-share-%d-of-%d.pem", domain, index, q.Of))
}

// check refuses what would fail only when keys are made: how many it takes, and shares that are there already.
func (q Quorum) check(domain string) error {
	if q == (Quorum{}) {
		return nil
	}
	if err := shares.Check(q.Need, q.Of); err != nil {
		return err
	}
	for i := range q.Of {
		if _, err := os.Lstat(q.path(domain, i+1)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is there already: say another folder for the shares", q.path(domain, i+1)), err)
		}
	}
	return nil
}

// A keyMaker makes the keys of one domain.
type keyMaker struct {
	dir, name string
	Custody
}

// newKey makes a signing key, in the token or in a file.
func (m keyMaker) newKey(name string) (crypto.Signer, error) {
	if m.Token != nil {
		return m.newTokenKey(name)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return k, m.write(name, k)
}

func (m keyMaker) write(name string, k *ecdsa.PrivateKey) error {
	text, err := keyText(k)
	if err != nil {
		return err
	}
	defer clear(text)
	return writeKey(m.dir, name, text, m.To)
}

// newRecovery makes the recovery key, which is in no token: there may come a day without any.
func (m keyMaker) newRecovery() (*ecdsa.PublicKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if m.Recovery.Of == 0 {
		return &k.PublicKey, m.write(recoveryKey, k)
	}
	_, err = splitKey(k, m.name, m.Recovery)
	return &k.PublicKey, err
}

// newEscrow makes the key that boxes encrypt their owner's secrets to.
func (m keyMaker) newEscrow() (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	text := []byte(id.String() + "\n")
	defer clear(text)
	return id.Recipient().String(), writeKey(m.dir, escrowKey, text, m.To)
}

// Make makes a domain in a folder that holds none yet.
func Make(dir, name string, c Custody) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	if err := errors.Join(label.CheckName(name), c.Recovery.check(name), vacant(dir)); err != nil { // before there is any key
		return fmt.Errorf("make domain: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, boxesDir), 0o700); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	if c.Keys != "" {
		if err := writeNew(filepath.Join(dir, recipientsFile), []byte(c.Keys), 0o644); err != nil {
			return fmt.Errorf("make domain: %w", err)
		}
	}
	d, root, key, err := keyMaker{dir, name, c}.domain()
	if err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	if err := certifyAuthority(dir, d, root); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	// The journal begins before domain.json says that there is a domain: one without a journal has lost it.
	k := &Desk{dir: dir, domain: d, key: key}
	facts := map[string]string{"domain": d.Hash().String()}
	if c.Keys != "" {
		facts[factRecipients] = digest([]byte(c.Keys))
	}
	if err := k.begin(actInit, name, facts); err != nil {
		return err
	}
	return publish(dir, d)
}

// vacant refuses a folder in which a domain is, or was begun.
func vacant(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, DomainFile)); err == nil {
		return fmt.Errorf("%s holds a domain already", dir)
	}
	for _, name := range []string{rootKey, labelKey, recoveryKey, escrowKey} {
		if _, err := form(dir, name); !errors.Is(err, errAbsent) {
			return errors.Join(fmt.Errorf("%s holds a %s key already: a domain was begun there, take an empty folder", dir, name), err)
		}
	}
	return nil
}

func (m keyMaker) domain() (d label.Domain, root, key crypto.Signer, err error) {
	d.Name = m.name
	if root, err = m.newKey(rootKey); err != nil {
		return d, nil, nil, err
	}
	if d.Root, err = selfSigned(m.name, root); err != nil {
		return d, nil, nil, err
	}
	if key, err = m.newKey(labelKey); err != nil {
		return d, nil, nil, err
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return d, nil, nil, errors.New("the label key is not an ECDSA key")
	}
	if d.Label, err = label.NewKey(public); err != nil {
		return d, nil, nil, err
	}
	recovery, err := m.newRecovery()
	if err != nil {
		return d, nil, nil, err
	}
	if d.Recovery, err = label.NewKey(recovery); err != nil {
		return d, nil, nil, err
	}
	if d.Escrow, err = m.newEscrow(); err != nil {
		return d, nil, nil, err
	}
	_, err = label.ParseDomain(d.Bytes())
	return d, root, key, err
}

// splitKey writes the shares of a key, and reads them again before it believes that they give it.
func splitKey(k *ecdsa.PrivateKey, domain string, q Quorum) ([]string, error) {
	scalar, err := k.Bytes()
	if err != nil || len(scalar) != shares.Size {
		return nil, errors.Join(errors.New("the key is not of 32 bytes"), err)
	}
	defer clear(scalar)
	all, err := shares.Split([shares.Size]byte(scalar), q.Need, q.Of, domain)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(q.Dir, 0o700); err != nil {
		return nil, err
	}
	var files []string
	for i := range all {
		path := q.path(domain, all[i].Index)
		text := all[i].PEM()
		err := writeNew(path, text, 0o600)
		clear(text)
		all[i].Clear()
		if err != nil {
			return files, err
		}
		files = append(files, path)
	}
	again, err := combineKey(files)
	if err != nil {
		return files, err
	}
	if !again.PublicKey.Equal(&k.PublicKey) {
		return files, errors.New("the shares do not give the key")
	}
	return files, nil
}

// combineKey gives the key that shares in files make.
func combineKey(files []string) (*ecdsa.PrivateKey, error) {
	var all []shares.Share
	defer func() {
		for i := range all {
			all[i].Clear()
		}
	}()
	for _, path := range files {
		text, err := readFile(path, maxKeyFile)
		if err != nil {
			return nil, err
		}
		s, err := shares.Parse(text)
		clear(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, s)
	}
	scalar, err := shares.Combine(all)
	if err != nil {
		return nil, err
	}
	defer clear(scalar[:])
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		return nil, fmt.Errorf("%w: together they give no key", shares.ErrDamaged)
	}
	return k, nil
}
