package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/client"
)

// holdBack is how much plaintext is kept in memory where it must not be seen before its end, and no file can be taken back.
const holdBack = 64 << 20

// A sealed is an encryption block of any format whose header was read.
type sealed interface {
	// envelope is what the agent is sent.
	envelope() block.Envelope
	// plaintext uses up key. An error in reading it is a *client.Damaged or one of the file.
	plaintext(key block.FileKey) (io.Reader, error)
	// inParts reports whether each part of the plaintext is authenticated before it is read.
	inParts() bool
}

// readSealed tells the format by looking.
func readSealed(r io.Reader) (sealed, error) {
	b := bufio.NewReader(r)
	start, _ := b.Peek(32)
	switch {
	case cms.Begins(start):
		return readCMS(b)
	case jwe.Begins(start):
		return readJWE(b)
	}
	h, rest, err := client.ReadHeader(dearmor(b))
	if err != nil {
		return nil, err
	}
	return &ageBlock{h, rest}, nil
}

// damaged marks an error as the block's, unless it is the file's.
func damaged(err error) error {
	var file *fs.PathError
	if err == nil || err == io.EOF || errors.As(err, &file) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("block is cut short")
	}
	return &client.Damaged{Err: err}
}

type ageBlock struct {
	header block.Header
	rest   io.Reader
}

func (a *ageBlock) envelope() block.Envelope { return block.EnvelopeOf(a.header) }
func (a *ageBlock) inParts() bool            { return true }

func (a *ageBlock) plaintext(key block.FileKey) (io.Reader, error) {
	return client.Payload(a.header, a.rest, key)
}

type cmsBlock struct {
	head    cms.Head
	content *cms.Content
	env     block.Envelope
	none    error // why an agent releases nothing from it
}

func readCMS(r io.Reader) (*cmsBlock, error) {
	h, content, err := cms.ReadHead(cms.Binary(r))
	if err != nil {
		return nil, damaged(err)
	}
	b := &cmsBlock{head: h, content: content}
	b.env, b.none = h.Envelope()
	return b, nil
}

func (c *cmsBlock) envelope() block.Envelope { return c.env }
func (c *cmsBlock) inParts() bool            { return false }

func (c *cmsBlock) plaintext(key block.FileKey) (r io.Reader, err error) {
	err = key.Use(func(k []byte) error {
		r, err = c.content.Decrypt(k)
		return err
	})
	if errors.Is(err, cms.ErrContent) {
		err = damaged(err)
	}
	return judged{r}, err
}

// A judged reader says of its errors whose they are.
type judged struct{ r io.Reader }

func (j judged) Read(b []byte) (int, error) {
	n, err := j.r.Read(b)
	return n, damaged(err)
}

type jweBlock struct {
	message jwe.Message
	env     block.Envelope
	none    error
}

func readJWE(r io.Reader) (*jweBlock, error) {
	m, err := jwe.Read(r)
	if err != nil {
		return nil, damaged(err)
	}
	b := &jweBlock{message: m}
	b.env, b.none = m.Head().Envelope()
	return b, nil
}

func (j *jweBlock) envelope() block.Envelope { return j.env }
func (j *jweBlock) inParts() bool            { return true }

func (j *jweBlock) plaintext(key block.FileKey) (io.Reader, error) {
	var plain []byte
	err := key.Use(func(k []byte) (err error) {
		plain, err = j.message.Open(k)
		return err
	})
	return bytes.NewReader(plain), damaged(err)
}

// suits refuses, before anybody is asked, what nobody can release or what cannot be done with a block of its format.
func suits(in input, a decryptArgs) error {
	var none error
	switch b := in.sealed.(type) {
	case *cmsBlock:
		none = b.none
		if err := b.trusted(a); err != nil {
			return err
		}
	case *jweBlock:
		none = b.none
	}
	if _, isCMS := in.sealed.(*cmsBlock); a.splice != "" && !isCMS {
		return usagef("-splice is for CMS files")
	}
	if none != nil {
		return hint(&noKey{none}, "if one of the recipients is a key of your own, its client opens it, such as openssl cms -decrypt")
	}
	return nil
}

// trusted refuses content that is not authenticated, unless it was asked for. That it never was does not follow from how
// it looks: a carrier can relabel AES-GCM of AuthEnvelopedData as AES-CBC of EnvelopedData and learn from what becomes of
// its decryption (RFC 9709). A splice decrypts nothing.
func (c *cmsBlock) trusted(a decryptArgs) error {
	if c.head.Authenticated() || a.splice != "" || a.unauthenticated {
		return nil
	}
	return hint(damaged(fmt.Errorf("content in %s is not authenticated: whoever carried it could have changed it, or made it of a file that was", c.head.Cipher())),
		"ask the sender for AuthEnvelopedData (openssl cms -encrypt -aes-256-gcm ...), or give -splice and open it with openssl, or -unauthenticated to decrypt it all the same")
}

// A noKey is a client.ErrNoKey that says why.
type noKey struct{ why error }

func (n *noKey) Error() string        { return n.why.Error() }
func (n *noKey) Is(target error) bool { return target == client.ErrNoKey }

// held reads what must not be seen before its end.
func held(plain io.Reader) (io.Reader, error) {
	b, err := io.ReadAll(io.LimitReader(plain, holdBack+1))
	if err != nil {
		clear(b)
		return nil, err
	}
	if len(b) > holdBack {
		clear(b)
		return nil, hint(fmt.Errorf("content has more than %d MiB and is authenticated at its end only", holdBack>>20), "give -o FILE: it appears there once it is whole")
	}
	return bytes.NewReader(b), nil
}

// splice writes a CMS file again, with a recipient more.
func (t *tool) splice(in input, a decryptArgs, key block.FileKey) (err error) {
	cert, err := readCertificate(a.splice)
	if err != nil {
		return err
	}
	to, err := cms.ToCertificate(cert)
	if err != nil {
		return fmt.Errorf("%s: %w", a.splice, err)
	}
	out, err := t.create(in.to, modeBlock, a.over)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.discard()) }()
	err = key.Use(func(k []byte) error { return in.sealed.(*cmsBlock).content.Splice(out, k, to) })
	in.watched.end()
	if err != nil {
		return damaged(err)
	}
	return out.commit()
}

// readCertificate reads the first certificate of a PEM file.
func readCertificate(path string) (*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			return nil, fmt.Errorf("%s: no certificate in PEM", path)
		}
		if p.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return cert, nil
	}
}
