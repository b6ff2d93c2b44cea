package cms

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// chunk is how many bytes of content are read and decrypted at once. It is a multiple of the block size of AES.
const chunk = 64 << 10

// A Content is the encrypted content of a message, and behind it what stands at the message's end. It is an io.Reader of
// the ciphertext; its end is io.EOF only if the whole message was well formed.
type Content struct {
	in    *ber
	head  Head
	split bool  // the content is in segments, each an OCTET STRING
	left  int64 // bytes of the content, or of the segment that is being read
	size  int64 // of the content, openEnded where it is not said
	after int64 // bytes between the encrypted content and the end of the message, openEnded where it is not said
	attrs []byte
	mac   []byte
	tail  []byte // all that follows the encrypted content
	err   error
}

func newContent(in *ber, h Head) (*Content, error) {
	c := &Content{in: in, head: h, size: openEnded, after: openEnded}
	tag, err := in.next()
	if err != nil {
		return nil, err
	}
	switch tag {
	case tagPrim0:
		c.left, err = in.header(tagPrim0)
		c.size = c.left
	case tagCons0:
		c.split = true
		_, err = in.open(tagCons0)
	default:
		return nil, errors.New("message has no content: it is detached")
	}
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	c.after = in.after(c.size)
	return c, nil
}

// after returns how many bytes stand between the end of the encrypted content info and the end of the message's data,
// where all lengths are known and the content of the size given comes last in its info.
func (b *ber) after(size int64) int64 {
	for _, end := range b.ends {
		if end == openEnded {
			return openEnded
		}
	}
	if n := len(b.ends); size != openEnded && b.ends[n-1] == b.at+size {
		return b.ends[n-2] - b.ends[n-1]
	}
	return openEnded
}

// Read reads ciphertext.
func (c *Content) Read(p []byte) (int, error) {
	for c.err == nil && c.left == 0 {
		c.err = c.segment()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.in.at += int64(n)
	if err != nil {
		c.err = short(err)
		err = c.err
	}
	return n, err
}

// segment goes to the next segment of the content, or behind its end.
func (c *Content) segment() error {
	if !c.split {
		return c.end()
	}
	tag, err := c.in.next()
	if err != nil {
		return err
	}
	if tag != tagEnd {
		if c.left, err = c.in.header(tagOctets); err != nil {
			return fmt.Errorf("content: %w", err)
		}
		return nil
	}
	if err := c.in.close(); err != nil {
		return err
	}
	return c.end()
}

// end reads what follows the content. It returns io.EOF where that is well formed.
func (c *Content) end() error {
	err := c.in.close()
	if err == nil && c.head.auth {
		err = c.authenticated()
	} else if err == nil {
		_, err = c.attributes(tagCons1)
	}
	for range 3 {
		if err == nil {
			err = c.in.close()
		}
	}
	if err == nil {
		err = c.in.finish()
	}
	if err != nil {
		return fmt.Errorf("read end of message: %w", err)
	}
	return io.EOF
}

// authenticated reads the end of AuthEnvelopedData, RFC 5083 section 2.1.
func (c *Content) authenticated() (err error) {
	if c.attrs, err = c.attributes(tagCons1); err != nil {
		return err
	}
	mac, err := c.in.element(tagOctets, MaxTail)
	if err != nil {
		return fmt.Errorf("mac: %w", err)
	}
	c.tail = append(c.tail, mac...)
	s := cryptobyte.String(mac)
	if !s.ReadASN1((*cryptobyte.String)(&c.mac), asn1.OCTET_STRING) {
		return malformed("mac")
	}
	_, err = c.attributes(tagCons2)
	return err
}

// attributes reads a set of attributes if there is one. They are only kept.
func (c *Content) attributes(tag byte) ([]byte, error) {
	next, err := c.in.next()
	if err != nil || next != tag {
		return nil, err
	}
	attrs, err := c.in.element(tag, MaxTail-len(c.tail))
	if err != nil {
		return nil, fmt.Errorf("attributes: %w", err)
	}
	c.tail = append(c.tail, attrs...)
	return attrs, nil
}
