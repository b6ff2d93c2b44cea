package cms

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Tags of ASN.1 in their first byte.
const (
	tagInteger  = 0x02
	tagBits     = 0x03
	tagOctets   = 0x04
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
	tagPrim0    = 0x80 // [0], primitive
	tagCons0    = 0xa0 // [0], constructed
	tagCons1    = 0xa1
	tagCons2    = 0xa2

	tagEnd  = 0    // no element follows
	lenOpen = 0x80 // the length that says: up to two zero bytes
)

const openEnded = -1

var (
	errIndefinite = errors.New("indefinite length where DER is wanted")
	errLength     = errors.New("length is not in its shortest form, or too large")
	errInside     = errors.New("element is larger than the one around it")
)

// A ber reads the nested elements of a stream: those that stand around the content may have indefinite lengths, as a
// writer gives them that does not know how long the content is. All others are DER.
type ber struct {
	in   *bufio.Reader
	at   int64   // bytes read
	ends []int64 // of the elements that are open, openEnded where two zero bytes end one
}

// next returns the tag of the element that follows, tagEnd at the end of the one that is open.
func (b *ber) next() (byte, error) {
	if n := len(b.ends); n > 0 && b.ends[n-1] == b.at {
		return tagEnd, nil
	}
	c, err := b.in.Peek(1)
	if err != nil {
		return 0, short(err)
	}
	if c[0] != tagEnd && c[0]&0x1f == 0x1f {
		return 0, errors.New("tag is too large")
	}
	return c[0], nil
}

// header takes tag and length. The length is openEnded where it is not said.
func (b *ber) header(want byte) (length int64, err error) {
	tag, err := b.next()
	if err != nil {
		return 0, err
	}
	if tag != want || tag == tagEnd {
		return 0, fmt.Errorf("tag %#02x where %#02x is wanted", tag, want)
	}
	if _, err := b.byte(); err != nil {
		return 0, err
	}
	if length, err = b.length(); err != nil {
		return 0, err
	}
	end := b.end()
	switch {
	case length == openEnded && want&0x20 == 0:
		return 0, errIndefinite
	case end != openEnded && length > end-b.at:
		return 0, errInside
	}
	return length, nil
}

func (b *ber) length() (int64, error) {
	c, err := b.byte()
	switch {
	case err != nil:
		return 0, err
	case c == lenOpen:
		return openEnded, nil
	case c < lenOpen:
		return int64(c), nil
	}
	var n int64
	for range c &^ lenOpen {
		d, err := b.byte()
		if err != nil {
			return 0, err
		}
		if n == 0 && d == 0 || n > 1<<48 {
			return 0, errLength
		}
		n = n<<8 | int64(d)
	}
	if n < lenOpen {
		return 0, errLength
	}
	return n, nil
}

// end is where the innermost element ends whose end is known.
func (b *ber) end() int64 {
	for i := len(b.ends) - 1; i >= 0; i-- {
		if b.ends[i] != openEnded {
			return b.ends[i]
		}
	}
	return openEnded
}

// open goes into a constructed element and reports whether its length is known.
func (b *ber) open(tag byte) (known bool, err error) {
	n, err := b.header(tag)
	if err != nil {
		return false, err
	}
	if n == openEnded {
		b.ends = append(b.ends, openEnded)
		return false, nil
	}
	b.ends = append(b.ends, b.at+n)
	return true, nil
}

// close leaves the element that is open, at whose end the reader must be.
func (b *ber) close() error {
	tag, err := b.next()
	if err != nil {
		return err
	}
	last := len(b.ends) - 1
	if known := b.ends[last] != openEnded; tag != tagEnd || known && b.ends[last] != b.at {
		return errors.New("more elements than there should be")
	}
	if b.ends[last] == openEnded {
		for range 2 {
			if c, err := b.byte(); err != nil || c != 0 {
				return errors.Join(err, errors.New("end of contents is malformed"))
			}
		}
	}
	b.ends = b.ends[:last]
	return nil
}

// element takes a whole element of known length, at most limit bytes with its header, and returns it in DER.
func (b *ber) element(tag byte, limit int) ([]byte, error) {
	n, err := b.header(tag)
	if err != nil {
		return nil, err
	}
	if n == openEnded {
		return nil, errIndefinite
	}
	head := appendHeader(nil, tag, n)
	if n > int64(limit-len(head)) {
		return nil, errTooLarge
	}
	raw := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(b.in, raw[len(head):]); err != nil {
		return nil, short(err)
	}
	b.at += n
	return raw, nil
}

func (b *ber) byte() (byte, error) {
	c, err := b.in.ReadByte()
	if err != nil {
		return 0, short(err)
	}
	b.at++
	return c, nil
}

// finish refuses what follows the message.
func (b *ber) finish() error {
	switch _, err := b.in.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("bytes follow the message")
	default:
		return err
	}
}

func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendHeader writes a tag and a length, DER.
func appendHeader(b []byte, tag byte, length int64) []byte {
	b = append(b, tag)
	if length < lenOpen {
		return append(b, byte(length))
	}
	size := 1
	for length>>(8*size) != 0 {
		size++
	}
	b = append(b, lenOpen|byte(size))
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(length>>(8*i)))
	}
	return b
}

// headerSize is how many bytes appendHeader appends.
func headerSize(length int64) int64 { return int64(len(appendHeader(nil, 0, length))) }

// wrapped returns the content as an element.
func wrapped(tag byte, content ...[]byte) []byte {
	var n int64
	for _, c := range content {
		n += int64(len(c))
	}
	b := appendHeader(nil, tag, n)
	for _, c := range content {
		b = append(b, c...)
	}
	return b
}
