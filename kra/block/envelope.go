package block

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Format is a container of encrypted content. Zero is not a format.
type Format uint8

const (
	FormatAge Format = iota + 1 // age v1, with the header's MAC under the file key
	FormatCMS                   // RFC 5652, a ContentInfo without the encrypted content
	FormatJWE                   // RFC 7516, JSON without the ciphertext
)

// String is the format's name.
func (f Format) String() string {
	switch f {
	case FormatAge:
		return "age"
	case FormatCMS:
		return "cms"
	case FormatJWE:
		return "jwe"
	}
	return fmt.Sprintf("format %d", uint8(f))
}

var (
	errEnvelope  = errors.New("envelope is not of a format with these parts")
	errManyWraps = fmt.Errorf("more than %d recipients are of a kind that an agent releases", MaxWraps)
)

// An Envelope is the header portion of encrypted content in any format: what an agent is sent. Only EnvelopeOf and
// NewEnvelope make one; the zero Envelope has no wraps and no key fits it.
type Envelope struct {
	format Format
	raw    []byte
	hash   [sha256.Size]byte
	wraps  []Wrap
	header Header // of an age file
}

// EnvelopeOf returns an age header as an envelope.
func EnvelopeOf(h Header) Envelope {
	if len(h.raw) == 0 {
		return Envelope{}
	}
	return Envelope{format: FormatAge, raw: h.raw, hash: h.hash, wraps: h.wraps, header: h}
}

// Candidates collects the wraps of an envelope's recipients, and why the others have none.
type Candidates struct {
	wraps []Wrap
	why   []string
}

// Add takes one recipient: its wrap, or why an agent does not take it.
func (c *Candidates) Add(w Wrap, err error) {
	if err != nil {
		c.why = append(c.why, err.Error())
		return
	}
	c.wraps = append(c.wraps, w)
}

// Envelope returns the envelope of a format other than age with these wraps. Where none of the recipients can be a
// key-release key, the error gives each reason once.
func (c Candidates) Envelope(f Format, raw []byte) (Envelope, error) {
	if len(c.wraps) == 0 {
		why := slices.Compact(slices.Sorted(slices.Values(c.why)))
		return Envelope{}, fmt.Errorf("no recipient is of a kind that an agent releases: %s", strings.Join(why, "; "))
	}
	if len(c.wraps) > MaxWraps {
		return Envelope{}, errManyWraps
	}
	return NewEnvelope(f, raw, c.wraps)
}

// NewEnvelope returns the envelope of a format other than age, whose parser found these wraps in raw. It copies both.
func NewEnvelope(f Format, raw []byte, wraps []Wrap) (Envelope, error) {
	if f != FormatCMS && f != FormatJWE || len(raw) == 0 || len(raw) > MaxHeader || len(wraps) > MaxWraps {
		return Envelope{}, errEnvelope
	}
	for _, w := range wraps {
		if w.check() != nil || w.suite.stanza() {
			return Envelope{}, errEnvelope
		}
	}
	return Envelope{format: f, raw: bytes.Clone(raw), hash: sha256.Sum256(raw), wraps: slices.Clone(wraps)}, nil
}

// Format returns the format.
func (e Envelope) Format() Format { return e.format }

// Wraps returns the wraps of known suites, in their order.
func (e Envelope) Wraps() []Wrap { return slices.Clone(e.wraps) }

// Bytes returns the header portion as it stands.
func (e Envelope) Bytes() []byte { return bytes.Clone(e.raw) }

// Hash is the SHA-256 of Bytes.
func (e Envelope) Hash() [sha256.Size]byte { return e.hash }

// Bound reports whether Check ties every wrap to the key. Where it does not, a wrap that somebody added cannot be told
// from the others, and only the key that a wrap names may be released from it. An age header is bound unless its MAC is
// missing: see NewHeader.
func (e Envelope) Bound() bool { return e.format == FormatAge && !e.header.detached() }

// Check reports, as nil or an error, whether key can be the key of this envelope. For one that is bound that is proof: see
// Header.VerifyMAC. The others have nothing to check but its length.
func (e Envelope) Check(key []byte) error {
	switch e.format {
	case FormatAge:
		if e.header.detached() {
			return checkFileKey(key)
		}
		return e.header.VerifyMAC(key)
	case FormatCMS:
		if aesSize(len(key)) {
			return nil
		}
		return errKeySize
	case FormatJWE:
		if keySize(len(key)) {
			return nil
		}
		return errKeySize
	}
	return ErrMAC
}

func checkFileKey(key []byte) error {
	if len(key) != FileKeySize {
		return errFileKey
	}
	return nil
}
