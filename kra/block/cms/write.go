package cms

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A body writes a message around content whose end may not be known yet. Then the lengths are indefinite and the content
// is in segments, as "openssl cms -stream" writes it; else all is DER.
type body struct {
	dst   io.Writer
	split bool
	left  int64 // bytes that must still come, where that is known
}

var (
	indefinite = []byte{lenOpen}
	endOfBody  = []byte{0, 0}
)

// begin writes all that stands before the content. size and after are as in Content.
func begin(dst io.Writer, h Head, size, after int64) (*body, error) {
	b := &body{dst: dst, split: size == openEnded || after == openEnded, left: size}
	var out []byte
	if b.split {
		out = slices.Concat([]byte{tagSequence}, indefinite, []byte(h.kind()), []byte{tagCons0}, indefinite, []byte{tagSequence}, indefinite,
			h.preamble(), []byte{tagSequence}, indefinite, h.contentType, h.algorithm, []byte{tagCons0}, indefinite)
	} else {
		info := slices.Concat(h.contentType, h.algorithm, appendHeader(nil, tagPrim0, size))
		infoSize := int64(len(info)) + size
		data := slices.Concat(h.preamble(), appendHeader(nil, tagSequence, infoSize), info)
		dataSize := int64(len(data)) + size + after
		whole := dataSize + headerSize(dataSize)
		all := int64(len(h.kind())) + headerSize(whole) + whole
		out = slices.Concat(appendHeader(nil, tagSequence, all), []byte(h.kind()), appendHeader(nil, tagCons0, whole), appendHeader(nil, tagSequence, dataSize), data)
	}
	_, err := dst.Write(out)
	return b, err
}

// Write writes a segment of the content.
func (b *body) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.split {
		if _, err := b.dst.Write(appendHeader(nil, tagOctets, int64(len(p)))); err != nil {
			return 0, err
		}
	} else if b.left -= int64(len(p)); b.left < 0 {
		return 0, errSize
	}
	return b.dst.Write(p)
}

var errSize = errors.New("content is not as long as it was said to be")

// finish writes what follows the content.
func (b *body) finish(tail []byte) error {
	if !b.split {
		if b.left != 0 {
			return errSize
		}
		_, err := b.dst.Write(tail)
		return err
	}
	_, err := b.dst.Write(slices.Concat(endOfBody, endOfBody, tail, endOfBody, endOfBody, endOfBody))
	return err
}

// Unsized is the size of content that is not known beforehand.
const Unsized = openEnded

// Encrypt starts a message to all of to: AuthEnvelopedData of AES-256-GCM. What is written to the result is encrypted to
// dst; Close ends the message, and one that was not closed is not one. size is how many bytes will be written, and the
// message DER, or Unsized.
func Encrypt(dst io.Writer, size int64, to ...Target) (io.WriteCloser, error) {
	if size < 0 && size != Unsized || size > gcmMaxSize {
		return nil, fmt.Errorf("encrypt: no message of %d bytes", size)
	}
	key, nonce := make([]byte, 32), make([]byte, gcmNonceSize)
	_, _ = rand.Read(key) // does not fail: see crypto/rand
	_, _ = rand.Read(nonce)
	defer clear(key)
	h := Head{auth: true, contentType: []byte(oidData)}
	params := wrapped(tagSequence, wrapped(tagOctets, nonce), []byte{tagInteger, 1, gcmTagSize})
	h.algorithm = wrapped(tagSequence, []byte(oidGCM256), params)
	if err := h.add(key, to...); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	g, err := newGCM(key, nonce)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	b, err := begin(dst, h, size, int64(len(wrapped(tagOctets, make([]byte, gcmTagSize)))))
	if err != nil {
		return nil, err
	}
	return &encryptor{gcm: g, body: b, chunk: make([]byte, 0, chunk)}, nil
}

type encryptor struct {
	gcm   *gcm
	body  *body
	chunk []byte // plaintext that does not fill a chunk yet
}

func (e *encryptor) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		m := min(len(p), chunk-len(e.chunk))
		e.chunk = append(e.chunk, p[:m]...)
		n, p = n+m, p[m:]
		if len(e.chunk) == chunk {
			if err := e.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (e *encryptor) flush() error {
	if e.gcm.size+uint64(len(e.chunk)) > gcmMaxSize {
		return errors.New("content is longer than AES-GCM allows")
	}
	e.gcm.seal(e.chunk)
	_, err := e.body.Write(e.chunk)
	e.chunk = e.chunk[:0]
	return err
}

// Close implements io.Closer.
func (e *encryptor) Close() error {
	if err := e.flush(); err != nil {
		return err
	}
	return e.body.finish(wrapped(tagOctets, e.gcm.tag(nil)))
}
