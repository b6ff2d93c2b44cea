package cms

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Splice copies a message to dst with one recipient more, who has the key: any CMS client opens the copy with the
// target's private key, without asking anybody. A recipient of the same name is replaced. What follows the head is copied
// as it stands; whether key is the message's is not looked at.
func (c *Content) Splice(dst io.Writer, key []byte, to Target) error {
	h := c.head
	h.infos = slices.Clone(h.infos)
	if err := h.drop(to); err != nil {
		return fmt.Errorf("splice: %w", err)
	}
	if err := h.add(key, to); err != nil {
		return fmt.Errorf("splice: %w", err)
	}
	b, err := begin(dst, h, c.size, c.after)
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(c, buf)
		if _, err := b.Write(buf[:n]); err != nil {
			return err
		}
		if err == nil {
			continue
		}
		if c.err != io.EOF {
			return fmt.Errorf("splice: %w", errors.Join(c.err, err))
		}
		return b.finish(c.tail)
	}
}

// drop removes the recipients that are this target and nothing else.
func (h *Head) drop(t Target) error {
	var failed error
	h.infos = slices.DeleteFunc(h.infos, func(info []byte) bool {
		found, err := parseRecipient(cryptobyte.String(info))
		failed = errors.Join(failed, err)
		return len(found) == 1 && slices.Contains(t.refs, found[0].ref)
	})
	return failed
}

// add encrypts key to more recipients and brings all into DER's order of a set.
func (h *Head) add(key []byte, to ...Target) error {
	for _, t := range to {
		info, err := t.info(key)
		if err != nil {
			return err
		}
		h.infos = append(h.infos, info)
		// RFC 5652 section 6.1: a recipient of a version other than 0 asks for it. AuthEnvelopedData is always of version 0.
		if !h.auth && (t.issuerSerial == nil || info[0] == tagCons1) {
			h.version = max(h.version, 2)
		}
	}
	if len(h.infos) == 0 {
		return errors.New("nobody to encrypt to")
	}
	slices.SortFunc(h.infos, bytes.Compare)
	h.raw, h.recipients = h.marshal(), nil
	if len(h.raw) > MaxHead {
		return errTooLarge
	}
	return nil
}
