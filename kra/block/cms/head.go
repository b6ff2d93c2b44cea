package cms

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra/block"
)

// A Head is a message without its content, parsed and unchangeable: all that an agent is sent. Only ParseHead and
// ReadHead make one; the zero Head has no recipients.
//
//	ContentInfo
//	  contentType               enveloped or authenticated and enveloped
//	  content [0]
//	    version
//	    originatorInfo [0]      kept as it stands
//	    recipientInfos          kept as they stand, in the order of DER
//	    encryptedContentInfo    contentType, contentEncryptionAlgorithm, and no encryptedContent
//	    mac                     of authenticated content; empty in a head
type Head struct {
	auth        bool
	version     int
	originator  []byte // element, or nil
	infos       [][]byte
	contentType []byte // element
	algorithm   []byte // element
	raw         []byte // the one form
	recipients  []Recipient
}

const maxVersion = 4

// ParseHead parses b, which must be a head in its one form and nothing more. It keeps no reference to b.
func ParseHead(b []byte) (Head, error) {
	if len(b) > MaxHead {
		return Head{}, fmt.Errorf("parse head: %w", errTooLarge)
	}
	in := newBER(bytes.NewReader(b))
	h, err := in.head()
	if err == nil {
		err = in.endOfHead(h)
	}
	if err != nil {
		return Head{}, fmt.Errorf("parse head: %w", err)
	}
	if !bytes.Equal(h.raw, b) {
		return Head{}, fmt.Errorf("parse head: %w", errForm)
	}
	return h, nil
}

// ReadHead reads a message up to its content, which the second result reads. Elements around the content may have
// indefinite lengths.
func ReadHead(r io.Reader) (Head, *Content, error) {
	in := newBER(r)
	h, err := in.head()
	if err != nil {
		return Head{}, nil, fmt.Errorf("read head: %w", err)
	}
	c, err := newContent(in, h)
	if err != nil {
		return Head{}, nil, fmt.Errorf("read head: %w", err)
	}
	return h, c, nil
}

func newBER(r io.Reader) *ber { return &ber{in: bufio.NewReaderSize(r, chunk)} }

// head reads up to the encrypted content, and leaves open the elements that this is in.
func (b *ber) head() (Head, error) {
	var h Head
	if err := b.contentInfo(&h); err != nil {
		return Head{}, err
	}
	if err := b.fields(&h); err != nil {
		return Head{}, err
	}
	h.raw = h.marshal()
	if len(h.raw) > MaxHead {
		return Head{}, errTooLarge
	}
	return h, nil
}

// contentInfo reads what tells this format from others.
func (b *ber) contentInfo(h *Head) error {
	if _, err := b.open(tagSequence); err != nil {
		return errors.Join(ErrNotCMS, err)
	}
	kind, err := b.element(tagOID, MaxHead)
	switch {
	case err != nil:
		return errors.Join(ErrNotCMS, err)
	case string(kind) == oidAuthEnveloped:
		h.auth = true
	case string(kind) != oidEnveloped:
		return fmt.Errorf("%w, but content of type %s", ErrNotCMS, oidText(string(kind)))
	}
	if _, err := b.open(tagCons0); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	if _, err := b.open(tagSequence); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	return nil
}

func (b *ber) fields(h *Head) error {
	v, err := b.element(tagInteger, 3)
	if err != nil || len(v) != 3 || v[2] > maxVersion || h.auth && v[2] != 0 {
		return errors.Join(malformed("version"), err)
	}
	h.version = int(v[2])
	tag, err := b.next()
	if err != nil {
		return err
	}
	if tag == tagCons0 {
		if h.originator, err = b.element(tagCons0, MaxHead); err != nil {
			return fmt.Errorf("originator: %w", err)
		}
	}
	set, err := b.element(tagSet, MaxHead)
	if err != nil {
		return fmt.Errorf("recipients: %w", err)
	}
	if err := h.parseRecipients(set); err != nil {
		return err
	}
	if _, err := b.open(tagSequence); err != nil {
		return fmt.Errorf("encrypted content: %w", err)
	}
	if h.contentType, err = b.element(tagOID, MaxHead); err != nil {
		return fmt.Errorf("type of the content: %w", err)
	}
	if h.algorithm, err = b.element(tagSequence, MaxHead); err != nil {
		return fmt.Errorf("algorithm of the content: %w", err)
	}
	return nil
}

// parseRecipients brings the recipients into DER's order of a set.
func (h *Head) parseRecipients(set []byte) error {
	s := cryptobyte.String(set)
	var in cryptobyte.String
	if !s.ReadASN1(&in, asn1.SET) || !s.Empty() {
		return malformed("set of recipients")
	}
	for !in.Empty() {
		var info cryptobyte.String
		var tag asn1.Tag
		if !in.ReadAnyASN1Element(&info, &tag) {
			return malformed("recipient")
		}
		h.infos = append(h.infos, info)
	}
	if len(h.infos) == 0 {
		return errors.New("message has no recipient")
	}
	slices.SortFunc(h.infos, bytes.Compare)
	for i, info := range h.infos {
		found, err := parseRecipient(info)
		if err != nil {
			return fmt.Errorf("recipient %d: %w", i+1, err)
		}
		if h.recipients = append(h.recipients, found...); len(h.recipients) > MaxRecipients {
			return errTooMany
		}
	}
	return nil
}

// endOfHead reads what follows in a head.
func (b *ber) endOfHead(h Head) error {
	if err := b.close(); err != nil {
		return err
	}
	if h.auth {
		if mac, err := b.element(tagOctets, 2); err != nil || len(mac) != 2 {
			return errors.Join(malformed("mac"), err)
		}
	}
	for range 3 {
		if err := b.close(); err != nil {
			return err
		}
	}
	return b.finish()
}

// marshal writes the one form.
func (h Head) marshal() []byte {
	var mac []byte
	if h.auth {
		mac = wrapped(tagOctets)
	}
	data := wrapped(tagSequence, h.preamble(), wrapped(tagSequence, h.contentType, h.algorithm), mac)
	return wrapped(tagSequence, []byte(h.kind()), wrapped(tagCons0, data))
}

// preamble is what stands before the encrypted content, from the version on.
func (h Head) preamble() []byte {
	return slices.Concat([]byte{tagInteger, 1, byte(h.version)}, h.originator, wrapped(tagSet, h.infos...))
}

func (h Head) kind() string {
	if h.auth {
		return oidAuthEnveloped
	}
	return oidEnveloped
}

// Bytes returns the head in its one form, which ParseHead reads.
func (h Head) Bytes() []byte { return bytes.Clone(h.raw) }

// Recipients returns the encrypted keys in their order.
func (h Head) Recipients() []Recipient { return slices.Clone(h.recipients) }

// Authenticated reports whether a change of the content shows when it is decrypted. Content that is only enveloped can
// be changed by anybody on its way, and partly to what he likes.
func (h Head) Authenticated() bool { return h.auth }

// Envelope returns what a decision needs of the head. Where none of the recipients can be a key-release key, the error
// says why.
func (h Head) Envelope() (block.Envelope, error) {
	var found block.Candidates
	for _, r := range h.recipients {
		found.Add(r.wrap, r.err)
	}
	return found.Envelope(block.FormatCMS, h.raw)
}
