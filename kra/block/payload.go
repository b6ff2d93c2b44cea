package block

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// ChunkSize is how many bytes of plaintext are sealed at once; the last chunk may have fewer.
const ChunkSize = 64 << 10

const (
	payloadNonce = 16 // bytes before the first chunk
	sealedSize   = ChunkSize + chacha20poly1305.Overhead
	readAhead    = 4 // sealed chunks that are read at once
)

var (
	errChunk      = errors.New("chunk does not authenticate: the block may be corrupted or tampered with")
	errEmptyChunk = errors.New("last chunk is empty, and not the only one")
	errMoreChunks = errors.New("bytes follow the last chunk")
)

// OpenPayload returns the plaintext of the ciphertext portion of the block with header h,
// once it has seen that fileKey is h's: otherwise it returns ErrMAC and reads nothing. It
// keeps no reference to fileKey.
//
// Nothing of a chunk is read before it is authenticated. Into a buffer of ChunkSize or
// more, all of which is scratch space, chunks are opened without a copy. A block that is
// cut short ends in io.ErrUnexpectedEOF.
func (h Header) OpenPayload(ciphertext io.Reader, fileKey []byte) (io.Reader, error) {
	if err := h.VerifyMAC(fileKey); err != nil {
		return nil, err
	}
	var nonce [payloadNonce]byte
	if _, err := io.ReadFull(ciphertext, nonce[:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read payload nonce: %w", err)
	}
	key, err := hkdf.Key(sha256.New, fileKey, nonce[:], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive payload key: %w", err)
	}
	defer clear(key)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("derive payload key: %w", err)
	}
	return &payload{src: ciphertext, aead: aead, in: make([]byte, readAhead*sealedSize)}, nil
}

// A payload reads the ciphertext portion after its nonce, STREAM in C2SP age.md:
//
//	sealed chunk (64 KiB + 16)   ...   sealed chunk, the last (up to 64 KiB + 16)
//
// The nonce of a chunk is its number in 11 bytes, then 1 for the last and 0 for others.
type payload struct {
	src    io.Reader
	srcErr error // of src, to be met after what was read before it
	aead   cipher.AEAD

	// in[from:to] was read and not opened. Chunks begin at multiples of sealedSize, of
	// which len(in) is one, so that none goes past the end.
	in       []byte
	from, to int

	number uint64 // of the next chunk
	err    error  // what the reader meets after unread
	unread []byte // part of small
	small  []byte // a chunk for a reader whose buffer does not hold one
}

func (p *payload) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(p.unread) == 0 {
		if len(b) >= ChunkSize {
			return p.open(b)
		}
		if p.small == nil {
			p.small = make([]byte, ChunkSize)
		}
		n, err := p.open(p.small)
		if err != nil {
			return 0, err
		}
		p.unread = p.small[:n]
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

// open opens chunks into b: as many as fit and need no waiting, and at least one.
func (p *payload) open(b []byte) (n int, err error) {
	for p.err == nil && len(b)-n >= ChunkSize && (n == 0 || p.to-p.from >= sealedSize) {
		var m int
		m, p.err = p.next(b[n:])
		n += m
	}
	if n > 0 {
		return n, nil
	}
	return 0, p.err
}

// next opens one chunk into b. With the last, which may have no bytes, comes what follows
// it: io.EOF, or why the block is damaged.
func (p *payload) next(b []byte) (int, error) {
	if err := p.fill(); err != nil {
		return 0, err
	}
	sealed := p.in[p.from:min(p.to, p.from+sealedSize)]
	plain, last, err := p.authenticate(b, sealed)
	if err != nil {
		return 0, err
	}
	p.number++
	if p.from += len(sealed); p.from == len(p.in) {
		p.from, p.to = 0, 0
	}
	if !last {
		return len(plain), nil
	}
	return len(plain), p.end()
}

// fill reads until a whole chunk is at hand, or what there is before the end.
func (p *payload) fill() error {
	for p.to-p.from < sealedSize && p.srcErr == nil {
		var n int
		n, p.srcErr = p.src.Read(p.in[p.to:])
		p.to += n
	}
	switch {
	case p.to-p.from >= sealedSize:
		return nil
	case p.srcErr != io.EOF:
		return p.srcErr
	case p.from == p.to:
		return io.ErrUnexpectedEOF // the last chunk is marked, and was not there
	}
	return nil
}

// authenticate opens one chunk into b. A short one must be the last; of a whole one only
// the attempt tells. What fails is cleared by the cipher.
func (p *payload) authenticate(b, sealed []byte) (plain []byte, last bool, err error) {
	var nonce [chacha20poly1305.NonceSize]byte
	binary.BigEndian.PutUint64(nonce[3:], p.number)
	if len(sealed) == sealedSize {
		if plain, err = p.aead.Open(b[:0], nonce[:], sealed, nil); err == nil {
			return plain, false, nil
		}
	}
	if len(sealed) == chacha20poly1305.Overhead && p.number > 0 {
		return nil, false, errEmptyChunk
	}
	nonce[len(nonce)-1] = 1
	if plain, err = p.aead.Open(b[:0], nonce[:], sealed, nil); err != nil {
		return nil, false, errChunk
	}
	return plain, true, nil
}

// end is io.EOF if nothing follows the last chunk.
func (p *payload) end() error {
	for p.from == p.to && p.srcErr == nil {
		p.from, p.to = 0, 0
		p.to, p.srcErr = p.src.Read(p.in[:1])
	}
	if p.from != p.to {
		return errMoreChunks
	}
	return p.srcErr
}
