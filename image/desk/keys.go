package desk

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// How a key lies in a domain's folder: NAME.key as it is, NAME.key.age encrypted, or NAME.token in a PKCS#11 token.
const (
	keyEnding    = ".key"
	sealedEnding = ".key.age"
	tokenEnding  = ".token"
)

// Keys of a domain.
const (
	rootKey     = "root"
	labelKey    = "label"
	recoveryKey = "recovery"
	escrowKey   = "escrow"
	peopleKey   = "people"
)

const maxKeyFile = 64 << 10

// errAbsent says that a key is not in the folder.
var errAbsent = errors.New("its key is not in the folder")

// Hands are what opens the keys of a domain: what the officer knows, and where it is asked for. What is nil is not to be had.
type Hands struct {
	Passphrase func(of string) ([]byte, error) // of files that are encrypted to a passphrase
	Identities []age.Identity                  // for files that are encrypted to keys
	PIN        func(of string) ([]byte, error) // of a token
	Helper     string                          // path of hsmd, which opens tokens

	// LabelLost says that nobody can sign by the label key any more: what the recovery key signs then is in no journal.
	LabelLost bool
}

// A held key is known by its public half, and opened when it first signs.
type held struct {
	public *ecdsa.PublicKey
	open   func() (crypto.Signer, error)
}

// hold returns a key of the folder. A file that holds another key than the domain's is refused when it is opened.
func (d *Desk) hold(name string, public *ecdsa.PublicKey) *held {
	return &held{public, sync.OnceValues(func() (crypto.Signer, error) {
		k, err := d.openKey(name)
		if err == nil && !public.Equal(k.Public()) {
			err = errors.New("it is another key than the domain's")
		}
		if err != nil {
			return nil, fmt.Errorf("open %s key: %w", name, err)
		}
		return k, nil
	})}
}

// Public is the public half.
func (h *held) Public() crypto.PublicKey { return h.public }

// Sign opens the key if it is not open, and signs.
func (h *held) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	k, err := h.open()
	if err != nil {
		return nil, err
	}
	return k.Sign(rand, digest, o)
}

// form says how a key lies in the folder: by which ending. Two forms of one key are a doubt that the officer has to end.
func form(dir, name string) (string, error) {
	found := ""
	for _, ending := range []string{keyEnding, sealedEnding, tokenEnding} {
		_, err := os.Lstat(filepath.Join(dir, name+ending))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case found != "":
			return "", fmt.Errorf("%s holds %s%s and %s%s: remove the one that does not count", dir, name, found, name, ending)
		default:
			found = ending
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s has no %s%s, %s%s or %s%s", errAbsent, dir, name, keyEnding, name, sealedEnding, name, tokenEnding)
	}
	return found, nil
}

// openKey opens a signing key of the folder, in whatever form it is.
func (d *Desk) openKey(name string) (crypto.Signer, error) {
	f, err := form(d.dir, name)
	if err != nil {
		return nil, err
	}
	if f == tokenEnding {
		return d.openToken(name)
	}
	text, err := d.secret(name)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return parseKey(text)
}

// secret reads a key file, decrypted. The caller clears it.
func (d *Desk) secret(name string) ([]byte, error) {
	f, err := form(d.dir, name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.dir, name+f)
	text, err := readFile(path, maxKeyFile)
	if err != nil || f == keyEnding {
		return text, err
	}
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), d.identities(name+f)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, whyClosed(err))
	}
	b, err := io.ReadAll(io.LimitReader(plain, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	return b, nil
}

func whyClosed(err error) error {
	var none *age.NoIdentityMatchError
	if !errors.As(err, &none) {
		return err
	}
	for _, e := range none.Errors {
		for _, why := range []error{errPassphrase, errNotAsked} {
			if errors.Is(e, why) {
				return why
			}
		}
	}
	return errors.New("it is encrypted to none of the identities given (-identity)")
}

var (
	errPassphrase = errors.New("wrong passphrase")
	errNotAsked   = errors.New("it is encrypted to a passphrase, and there is no terminal to ask for it: say -key-passphrase-file")
)

// identities are those that were given, and the passphrase, which is asked for only by a file that needs it.
func (d *Desk) identities(of string) []age.Identity {
	return append([]age.Identity{unasked{d, of}}, d.hands.Identities...)
}

// unasked is a passphrase that nobody has been asked for yet. One that opened a file is remembered for the next.
type unasked struct {
	d  *Desk
	of string
}

// Unwrap is that of age.Identity.
func (a unasked) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, age.ErrIncorrectIdentity
	}
	if a.d.known != nil {
		if key, err := a.d.known.Unwrap(stanzas); err == nil {
			return key, nil
		}
	}
	if a.d.hands.Passphrase == nil {
		return nil, fmt.Errorf("%w: %w", age.ErrIncorrectIdentity, errNotAsked)
	}
	text, err := a.d.hands.Passphrase(a.of)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	id, err := age.NewScryptIdentity(string(text))
	if err != nil {
		return nil, err
	}
	key, err := id.Unwrap(stanzas)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", age.ErrIncorrectIdentity, errPassphrase)
	}
	a.d.known = id
	return key, nil
}

// parseKey reads a P-256 key in PKCS #8.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	der := firstBlock(text, "PRIVATE KEY")
	if der == nil {
		return nil, errors.New("the file holds no private key")
	}
	defer clear(der)
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the file holds no PKCS #8 key")
	}
	s, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the file holds no ECDSA key")
	}
	return s, nil
}

// keyText is PKCS #8 in PEM. The caller clears it.
func keyText(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writeKey writes a key file that was not there: encrypted, if there is anybody to encrypt to.
func writeKey(dir, name string, text []byte, to []age.Recipient) error {
	if len(to) == 0 {
		return writeNew(filepath.Join(dir, name+keyEnding), text, 0o600)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, name+sealedEnding), out.Bytes(), 0o600)
}

// writeNew writes a file that was not there, and returns when it is on the disk under its name. What fails leaves none.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		clear(b)
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, nil
}
