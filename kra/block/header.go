package block

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Header is the header portion of an encryption block, parsed and unchangeable.
// Only ParseHeader and ParseHeaderBytes make one; the zero Header has no wraps and
// no key fits it.
type Header struct {
	raw   []byte
	hash  [sha256.Size]byte
	types []string
	wraps []Wrap
	at    []int // of each wrap, the index in types
	mac   []byte
}

// ErrMAC is returned by VerifyMAC when the file key is not this header's.
var ErrMAC = errors.New("header MAC does not fit the file key")

// ParseHeaderBytes parses b, which must be a header of at most MaxHeader bytes and
// nothing more. It keeps no reference to b.
func ParseHeaderBytes(b []byte) (Header, error) {
	if len(b) > MaxHeader {
		return Header{}, fmt.Errorf("parse header: %w", errLine)
	}
	in := &byteLines{rest: b}
	p, err := parse(in)
	if err != nil {
		return Header{}, fmt.Errorf("parse header: %w", err)
	}
	if len(in.rest) != 0 {
		return Header{}, fmt.Errorf("parse header: %w", errTrailing)
	}
	return newHeader(b, p)
}

// ParseHeader reads a header of at most limit bytes from the start of a block. The
// reader it returns begins at the payload. Where r is a *bufio.Reader, that is r.
func ParseHeader(r io.Reader, limit int) (Header, io.Reader, error) {
	in := &streamLines{r: bufio.NewReader(r), limit: limit}
	p, err := parse(in)
	if err != nil {
		return Header{}, nil, fmt.Errorf("parse header: %w", err)
	}
	h, err := newHeader(in.seen.Bytes(), p)
	return h, in.r, err
}

func newHeader(raw []byte, p parsed) (Header, error) {
	h := Header{raw: p.marshal(), mac: p.mac}
	if !bytes.Equal(h.raw, raw) {
		return Header{}, fmt.Errorf("parse header: %w", errCanonical)
	}
	for i, s := range p.stanzas {
		h.types = append(h.types, s.args[0])
		if s.args[0] == "scrypt" && len(p.stanzas) > 1 {
			return Header{}, fmt.Errorf("parse header: %w", errScrypt)
		}
		w, ok, err := wrapOf(s)
		if err != nil {
			return Header{}, fmt.Errorf("parse header: stanza %d: %w", i+1, err)
		}
		if !ok {
			continue
		}
		h.at = append(h.at, i)
		if h.wraps = append(h.wraps, w); len(h.wraps) > MaxWraps {
			return Header{}, fmt.Errorf("parse header: %w", errTooWraps)
		}
	}
	h.hash = sha256.Sum256(h.raw)
	return h, nil
}

// Wraps returns the kra stanzas whose suite is known and the stanzas of tagged recipients, in their order.
func (h Header) Wraps() []Wrap { return slices.Clone(h.wraps) }

// StanzaTypes returns the types of all stanzas, in their order.
func (h Header) StanzaTypes() []string { return slices.Clone(h.types) }

// WrapOf returns the wrap that stanza i is, if it is one.
func (h Header) WrapOf(i int) (Wrap, bool) {
	if n := slices.Index(h.at, i); n >= 0 {
		return h.wraps[n], true
	}
	return Wrap{}, false
}

// Bytes returns the header as it stands in the file.
func (h Header) Bytes() []byte { return bytes.Clone(h.raw) }

// Hash is the SHA-256 of Bytes.
func (h Header) Hash() [sha256.Size]byte { return h.hash }

// VerifyMAC reports, as nil or ErrMAC, whether fileKey is the key of this header
// and no stanza was added, removed or changed since it was made.
func (h Header) VerifyMAC(fileKey []byte) error {
	if len(fileKey) != FileKeySize || len(h.mac) != macSize {
		return ErrMAC
	}
	key, err := hkdf.Key(sha256.New, fileKey, nil, "header", sha256.Size)
	if err != nil {
		return fmt.Errorf("derive header key: %w", err)
	}
	defer clear(key)
	m := hmac.New(sha256.New, key)
	m.Write(h.raw[:len(h.raw)-len(macPrefix)-b64.EncodedLen(macSize)-1])
	m.Write([]byte(strings.TrimSuffix(macPrefix, " ")))
	if !hmac.Equal(m.Sum(nil), h.mac) {
		return ErrMAC
	}
	return nil
}

type byteLines struct{ rest []byte }

func (l *byteLines) next() (string, error) {
	line, rest, ok := bytes.Cut(l.rest, []byte{'\n'})
	if !ok {
		return "", errShort
	}
	l.rest = rest
	return string(line), nil
}

type streamLines struct {
	r     *bufio.Reader
	limit int
	seen  bytes.Buffer
}

func (l *streamLines) next() (string, error) {
	start := l.seen.Len()
	for {
		part, err := l.r.ReadSlice('\n')
		if l.seen.Len()+len(part) > l.limit {
			return "", errLine
		}
		l.seen.Write(part)
		switch {
		case err == nil:
			line := l.seen.Bytes()[start:]
			return string(line[:len(line)-1]), nil
		case errors.Is(err, io.EOF):
			return "", errShort
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}
