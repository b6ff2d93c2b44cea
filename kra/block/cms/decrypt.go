package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A cipherSuite is how content is encrypted.
type cipherSuite struct {
	name string
	key  int // bytes
	auth bool
}

// ciphers are NIST's, csor 2.16.840.1.101.3.4.1, by object identifier.
var ciphers = map[string]cipherSuite{
	oid(2, 16, 840, 1, 101, 3, 4, 1, 2):  {"aes-128-cbc", 16, false},
	oid(2, 16, 840, 1, 101, 3, 4, 1, 22): {"aes-192-cbc", 24, false},
	oid(2, 16, 840, 1, 101, 3, 4, 1, 42): {"aes-256-cbc", 32, false},
	oid(2, 16, 840, 1, 101, 3, 4, 1, 6):  {"aes-128-gcm", 16, true},
	oid(2, 16, 840, 1, 101, 3, 4, 1, 26): {"aes-192-gcm", 24, true},
	oidGCM256:                            {"aes-256-gcm", 32, true},
}

var oidGCM256 = oid(2, 16, 840, 1, 101, 3, 4, 1, 46)

// Cipher names how the content is encrypted as OpenSSL does, or by its object identifier.
func (h Head) Cipher() string {
	a, err := h.cipher()
	if err != nil {
		return "none"
	}
	if c, ok := ciphers[a.id]; ok {
		return c.name
	}
	return oidText(a.id)
}

func (h Head) cipher() (algorithm, error) {
	in := cryptobyte.String(h.algorithm)
	return readAlgorithm(&in)
}

// Decrypt returns the plaintext, which it decrypts as it is read. Nothing of it may be used before its end, io.EOF: only
// then is authenticated content authenticated, and other content never is. Decrypt keeps no reference to key.
func (c *Content) Decrypt(key []byte) (io.Reader, error) {
	a, err := c.head.cipher()
	if err != nil {
		return nil, err
	}
	s, ok := ciphers[a.id]
	switch {
	case !ok:
		return nil, fmt.Errorf("decrypt content: cipher %s is not AES in CBC or GCM; %s", oidText(a.id), adviceCipher)
	case s.auth != c.head.auth:
		return nil, fmt.Errorf("decrypt content: %s does not belong in this type of message", s.name)
	case s.key != len(key):
		return nil, fmt.Errorf("decrypt content: %w: %s takes %d bytes", ErrContent, s.name, s.key)
	case s.auth:
		return c.decryptGCM(a, key)
	}
	return c.decryptCBC(a, key)
}

func (c *Content) decryptGCM(a algorithm, key []byte) (io.Reader, error) {
	// GCMParameters, RFC 5084 section 3.2: the length of the tag is 12 where it is not said.
	var params, nonce cryptobyte.String
	size := gcmNonceSize
	if !a.params.ReadASN1(&params, asn1.SEQUENCE) || !a.params.Empty() || !params.ReadASN1(&nonce, asn1.OCTET_STRING) ||
		!params.Empty() && !params.ReadASN1Integer(&size) || !params.Empty() || size < 12 || size > gcmTagSize {
		return nil, malformed("parameters of AES-GCM")
	}
	if len(nonce) != gcmNonceSize {
		return nil, fmt.Errorf("nonce of AES-GCM has %d bytes, want %d", len(nonce), gcmNonceSize)
	}
	g, err := newGCM(key, nonce)
	if err != nil {
		return nil, err
	}
	return &plaintext{src: c, open: func(b []byte, last bool) ([]byte, error) {
		if g.size+uint64(len(b)) > gcmMaxSize {
			return nil, errors.New("content is longer than AES-GCM allows")
		}
		g.open(b)
		if !last {
			return b, nil
		}
		// RFC 5083 section 2.2: the attributes are authenticated with the tag of a set.
		additional := bytes.Clone(c.attrs)
		if len(additional) > 0 {
			additional[0] = tagSet
		}
		if len(c.mac) != size || subtle.ConstantTimeCompare(g.tag(additional)[:size], c.mac) != 1 {
			return nil, ErrContent
		}
		return b, nil
	}}, nil
}

func (c *Content) decryptCBC(a algorithm, key []byte) (io.Reader, error) {
	var iv cryptobyte.String
	if !a.params.ReadASN1(&iv, asn1.OCTET_STRING) || !a.params.Empty() || len(iv) != aes.BlockSize {
		return nil, malformed("parameters of AES-CBC")
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	mode := cipher.NewCBCDecrypter(b, iv)
	return &plaintext{src: c, open: func(b []byte, last bool) ([]byte, error) {
		if len(b)%aes.BlockSize != 0 || last && len(b) == 0 {
			return nil, ErrContent
		}
		mode.CryptBlocks(b, b)
		if !last {
			return b, nil
		}
		return unpad(b)
	}}, nil
}

// unpad takes PKCS#7's padding off, RFC 5652 section 6.3, which is all that tells a wrong key.
func unpad(b []byte) ([]byte, error) {
	n := int(b[len(b)-1])
	if n < 1 || n > aes.BlockSize || n > len(b) {
		return nil, ErrContent
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, ErrContent
		}
	}
	return b[:len(b)-n], nil
}

// A plaintext reads content chunk by chunk. It is one chunk ahead, since the last one is treated otherwise.
type plaintext struct {
	src  *Content
	open func(b []byte, last bool) ([]byte, error) // in place

	buffers [2][]byte // used in turns
	ahead   []byte    // ciphertext that was read
	unread  []byte
	begun   bool
	err     error
}

func (p *plaintext) Read(b []byte) (int, error) {
	for len(p.unread) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		p.unread, p.err = p.next()
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

// next opens the chunk that was read, once it is known whether another follows.
func (p *plaintext) next() ([]byte, error) {
	var err error
	if !p.begun {
		p.begun = true
		if p.ahead, err = p.fetch(); err != nil {
			return nil, err
		}
	}
	var following []byte
	if len(p.ahead) == chunk {
		if following, err = p.fetch(); err != nil {
			return nil, err
		}
	}
	last := len(following) == 0
	out, err := p.open(p.ahead, last)
	if err != nil {
		return nil, err
	}
	p.ahead = following
	if last {
		return out, io.EOF
	}
	return out, nil
}

// fetch reads a chunk, which is short only at the end.
func (p *plaintext) fetch() ([]byte, error) {
	p.buffers[0], p.buffers[1] = p.buffers[1], p.buffers[0]
	if p.buffers[0] == nil {
		p.buffers[0] = make([]byte, chunk)
	}
	b := p.buffers[0]
	n, err := io.ReadFull(p.src, b)
	if p.src.err != nil && p.src.err != io.EOF {
		return nil, fmt.Errorf("read content: %w", p.src.err)
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return b[:n], nil
}
