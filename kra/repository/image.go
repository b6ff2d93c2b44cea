package repository

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
)

// head is the first line of the file of all entries: none is missing and none is of another day.
type head struct {
	Entries int    `json:"entries"`
	Digest  string `json:"digest"` // lower-case hexadecimal of SHA-256 over all lines that follow
	span
}

type signedHead struct {
	Head      head   `json:"head"`
	Signature []byte `json:"signature"`
}

// An Image is a whole repository at one time, every signature verified. It does not change.
type Image struct {
	span
	access     []kra.PublicKey
	chains     map[string][][]*x509.Certificate
	attributes map[attrcert.HolderKey][]attrcert.Certificate
	size       int
}

// Parse reads the file of all entries. One entry that is not signed by the key, or malformed, refuses the whole.
func (k Key) Parse(b []byte) (*Image, error) {
	i, err := k.parse(b)
	if err != nil {
		return nil, fmt.Errorf("read repository: %w", err)
	}
	return i, nil
}

func (k Key) parse(b []byte) (*Image, error) {
	if len(b) > MaxImage {
		return nil, fmt.Errorf("longer than %d bytes", MaxImage)
	}
	all, err := lines(b, MaxEntries+1)
	if err != nil {
		return nil, err
	}
	h, err := k.parseHead(all[0], b[len(all[0])+1:])
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if h.Entries != len(all)-1 {
		return nil, fmt.Errorf("%d entries, and the head says %d", len(all)-1, h.Entries)
	}
	i := &Image{span: h.span, chains: map[string][][]*x509.Certificate{}, attributes: map[attrcert.HolderKey][]attrcert.Certificate{}, size: h.Entries}
	for n, line := range all[1:] {
		e, err := k.parseEntry(line)
		if err == nil && e.span != h.span {
			err = errors.New("is of another day than the head")
		}
		if err == nil && n > 0 && all[n] >= line {
			err = errors.New("is out of order, or stands twice")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+2, err)
		}
		i.add(e)
	}
	return i, nil
}

func (k Key) parseHead(line string, rest []byte) (head, error) {
	var s signedHead
	if err := decode(line, &s); err != nil {
		return head{}, err
	}
	text, err := encode(s.Head)
	if err == nil {
		err = k.verify(contextHead, text, s.Signature)
	}
	if err == nil {
		err = s.Head.span.check()
	}
	if err == nil && s.Head.Digest != digest(rest) {
		err = errors.New("entries are not those that the head is for")
	}
	return s.Head, err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (i *Image) add(e body) {
	switch {
	case e.Access != nil:
		i.access = append(i.access, *e.Access)
	case e.chain != nil:
		names := []string{e.Decryptor.Name}
		if cn, err := nameOf(e.chain[0], kra.CommonName); err == nil && cn != e.Decryptor.Name {
			names = append(names, cn)
		}
		for _, n := range names {
			i.chains[n] = append(i.chains[n], e.chain)
		}
	default:
		for _, key := range e.certificate.Keys() {
			i.attributes[key] = append(i.attributes[key], e.certificate)
		}
	}
}

// From returns when the repository was published: of two images the one with the later From is the newer.
func (i *Image) From() time.Time { return i.span.From }

// Until returns when it must have been published again.
func (i *Image) Until() time.Time { return i.span.Until }

// ValidAt returns ErrExpired or ErrNotYetValid outside that time.
func (i *Image) ValidAt(now time.Time) error { return i.span.validAt(now) }

// Len returns the number of entries.
func (i *Image) Len() int { return i.size }

// Access returns the keys of all access identifiers. The caller must not write to them, nor to what the methods below return.
func (i *Image) Access() []kra.PublicKey { return i.access }

// Chains returns the certificates of the decryptors that have a name, whole or only its CN, newest first. It says nothing
// about who vouches for them.
func (i *Image) Chains(name string) [][]*x509.Certificate {
	all := slices.Clone(i.chains[name])
	slices.SortStableFunc(all, func(a, b []*x509.Certificate) int { return b[0].NotBefore.Compare(a[0].NotBefore) })
	return all
}

// Attributes returns the attribute certificates that may speak of the owner of a certificate. Nothing in them is verified.
func (i *Image) Attributes(holder *x509.Certificate) []attrcert.Certificate {
	var all []attrcert.Certificate
	for _, key := range attrcert.HolderKeys(holder) {
		all = append(all, i.attributes[key]...)
	}
	return all
}

// ParseAccess reads the file of one access identifier and returns its keys, as of now.
func (k Key) ParseAccess(b []byte, id kra.AccessID, now time.Time) ([]kra.PublicKey, error) {
	keys, err := k.parseAccess(b, id, now)
	if err != nil {
		return nil, fmt.Errorf("read repository's keys of %s: %w", id, err)
	}
	return keys, nil
}

func (k Key) parseAccess(b []byte, id kra.AccessID, now time.Time) ([]kra.PublicKey, error) {
	if len(b) > MaxAccess {
		return nil, fmt.Errorf("longer than %d bytes", MaxAccess)
	}
	all, err := lines(b, MaxEntries)
	if err != nil {
		return nil, err
	}
	var keys []kra.PublicKey
	for n, line := range all {
		e, err := k.parseEntry(line)
		if err == nil {
			err = e.span.validAt(now)
		}
		if err == nil && (e.Access == nil || e.Access.Access != id) {
			err = errors.New("is about something else")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		keys = append(keys, *e.Access)
	}
	return keys, nil
}

// Publish signs entries, valid from from until until, and returns the repository's files by name.
func (s Signer) Publish(entries []Entry, from, until time.Time) (map[string][]byte, error) {
	files, err := s.publish(entries, newSpan(from, until))
	if err != nil {
		return nil, fmt.Errorf("publish repository: %w", err)
	}
	return files, nil
}

func (s Signer) publish(entries []Entry, when span) (map[string][]byte, error) {
	if err := when.check(); err != nil {
		return nil, err
	}
	if len(entries) > MaxEntries {
		return nil, fmt.Errorf("%d entries, at most %d", len(entries), MaxEntries)
	}
	files := map[string][]byte{}
	var all []string
	for _, e := range entries {
		line, err := s.entry(e, when)
		if err != nil {
			return nil, err
		}
		all = append(all, line)
		if a := e.body.Access; a != nil {
			files[AccessFile(a.Access)] = append(files[AccessFile(a.Access)], line...)
		}
	}
	slices.Sort(all)
	text := strings.Join(all, "")
	h := head{len(entries), digest([]byte(text)), when}
	b, err := encode(h)
	if err != nil {
		return nil, err
	}
	sig, err := s.sign(contextHead, b)
	if err != nil {
		return nil, err
	}
	if b, err = encode(signedHead{h, sig}); err != nil {
		return nil, err
	}
	files[AllFile] = append(append(b, '\n'), text...)
	_, err = s.Key().Parse(files[AllFile]) // what would not be read is not published
	return files, err
}
