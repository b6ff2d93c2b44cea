package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/receipt"
)

// The file receipt.key holds the seeds of at most two receipt keys, so that after a cut at any point one of them is
// the key that the log's last key record names:
//
//	salt 32 | nonce 12 | ciphertext of 32 or 64 bytes | tag 16
//
// under HKDF-SHA256(store key, salt, "kra/receipt-key-file/v1").
const (
	keyFileName    = "receipt.key"
	keyFileContext = "kra/receipt-key-file/v1"
)

// rekey is what Rekey asks of the committer.
type rekey struct {
	signer *receipt.Signer
	old    ed25519.PrivateKey // nil only in an empty log
}

// Rekey makes key, which path certifies, the receipt key from here on. The key of the last boot signs it in; the
// log of a box never has a gap in its keys, so a lost receipt.key is an error. Call it at each start, before Append.
func (l *Log) Rekey(ctx context.Context, key ed25519.PrivateKey, path receipt.Path) (Committed, error) {
	signer, err := receipt.NewSigner(l.box, key, path)
	if err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	old, err := l.keys.find(l.receiptKey())
	if err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	if err := l.keys.save(old, key); err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	q := &request{rekey: &rekey{signer, old}, essential: true, done: make(chan struct{})}
	if err := l.submit(ctx, q); err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	if err := l.receipts(q); err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	if err := l.keys.save(nil, key); err != nil {
		return Committed{}, fmt.Errorf("change receipt key: %w", err)
	}
	return q.result, nil
}

// introduce runs in the committer: it makes the record, whose signature covers its place in the log.
func (l *Log) introduce(q *request) error {
	link := q.rekey.signer.NewLink(q.rekey.old, l.tree.size())
	p := receipt.Public{Kind: receipt.ReceiptKey, Time: receipt.NewStamp(l.now()), Key: &link}
	r, err := newRecord(p, nil)
	if err != nil {
		return err
	}
	q.records, q.size = []record{r}, r.bytes()
	l.signer = q.rekey.signer
	return l.setReceiptKey(link.Path)
}

func (l *Log) setReceiptKey(p receipt.Path) error {
	k, err := p.Key()
	if err != nil {
		return err
	}
	l.lastKey.Store(&k)
	return nil
}

// receiptKey returns the public key of the log's last key record, nil in an empty log.
func (l *Log) receiptKey() ed25519.PublicKey {
	if k := l.lastKey.Load(); k != nil {
		return *k
	}
	return nil
}

// A keyFile keeps receipt keys from one boot to the next.
type keyFile struct {
	path  string
	limit int // more bytes than it has
	seal  func(plain []byte) ([]byte, error)
	open  func(sealed []byte) ([]byte, error)
}

func newKeyFile(dir string, key [32]byte) keyFile {
	return sealedFile(filepath.Join(dir, keyFileName), key, keyFileContext)
}

// sealedFile is a file whose content is sealed under a key of its own.
func sealedFile(path string, key [32]byte, info string) keyFile {
	return keyFile{
		path:  path,
		limit: maxKeyFile,
		seal: func(plain []byte) ([]byte, error) {
			salt := make([]byte, 32)
			rand.Read(salt)
			aead, err := deriveAEAD(key[:], salt, info)
			if err != nil {
				return nil, err
			}
			return aead.Seal(salt, nil, plain, nil), nil
		},
		open: func(sealed []byte) ([]byte, error) {
			if len(sealed) < 32 {
				return nil, errors.New("too short")
			}
			aead, err := deriveAEAD(key[:], sealed[:32], info)
			if err != nil {
				return nil, err
			}
			return aead.Open(nil, nil, sealed[32:], nil)
		},
	}
}

// maxKeyFile is more than any file of keys or places has, in bytes.
const maxKeyFile = 512

// read reads what is sealed. Whoever has the disk may have put anything in its place: it is not read to its end, and not waited for.
func (k keyFile) read() ([]byte, error) {
	f, err := os.OpenFile(k.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(k.limit)+1))
	if err == nil && len(b) > k.limit {
		err = fmt.Errorf("%s is longer than %d bytes", filepath.Base(k.path), k.limit)
	}
	return b, err
}

// find returns the private key of pub, nil if pub is nil.
func (k keyFile) find(pub ed25519.PublicKey) (ed25519.PrivateKey, error) {
	if pub == nil {
		return nil, nil
	}
	sealed, err := k.read()
	if err != nil {
		return nil, fmt.Errorf("read the receipt key before: %w", err)
	}
	seeds, err := k.open(sealed)
	if err != nil {
		return nil, fmt.Errorf("read the receipt key before: %w", err)
	}
	defer clear(seeds)
	for ; len(seeds) >= ed25519.SeedSize; seeds = seeds[ed25519.SeedSize:] {
		key := ed25519.NewKeyFromSeed(seeds[:ed25519.SeedSize])
		if bytes.Equal(key.Public().(ed25519.PublicKey), pub) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("read the receipt key before: %s does not hold it", keyFileName)
}

// save replaces the file by the keys given; nil ones are left out.
func (k keyFile) save(keys ...ed25519.PrivateKey) error {
	var seeds []byte
	for _, key := range keys {
		if key != nil {
			seeds = append(seeds, key.Seed()...)
		}
	}
	defer clear(seeds)
	sealed, err := k.seal(seeds)
	if err != nil {
		return fmt.Errorf("save receipt key: %w", err)
	}
	if err := replaceFile(k.path, sealed); err != nil {
		return fmt.Errorf("save receipt key: %w", err)
	}
	return nil
}

// replaceFile makes data the durable content of path, or leaves the old one.
func replaceFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
