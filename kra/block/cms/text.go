package cms

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
)

// The text forms of a message, by how they begin: PEM as OpenSSL writes it, and S/MIME, RFC 8551, which is what it writes
// if nobody says otherwise.
var (
	pemStarts  = [][]byte{[]byte("-----BEGIN CMS-----"), []byte("-----BEGIN PKCS7-----")}
	mimeStarts = [][]byte{[]byte("MIME-Version:"), []byte("Content-Type:"), []byte("Content-Disposition:")}
)

// maxLine is how long a line of text form may be, and maxLines how many stand before the base64.
const (
	maxLine  = 1 << 10
	maxLines = 100
)

var errText = errors.New("text form of the message is malformed")

// Begins reports whether a file that starts with these bytes, of which 32 suffice, may be a message, in DER, BER or a
// text form.
func Begins(start []byte) bool {
	return len(start) > 0 && start[0] == tagSequence || begins(start, pemStarts) || begins(start, mimeStarts)
}

func begins(start []byte, with [][]byte) bool {
	for _, w := range with {
		if bytes.HasPrefix(start, w) {
			return true
		}
	}
	return false
}

// Binary takes the text form off where there is one. Of a mail only the message itself may be there: what follows it is
// an error.
func Binary(r io.Reader) io.Reader {
	b := bufio.NewReaderSize(r, chunk)
	start, _ := b.Peek(32)
	switch {
	case begins(start, pemStarts):
		return text(b, false)
	case begins(start, mimeStarts):
		return text(b, true)
	}
	return b
}

// text skips the lines before the base64: one in PEM, a MIME header up to its empty line.
func text(b *bufio.Reader, mime bool) io.Reader {
	for range maxLines {
		line, err := b.ReadSlice('\n')
		if err != nil || len(line) > maxLine {
			return broken{errors.Join(errText, short(err))}
		}
		if !mime || len(bytes.TrimSpace(line)) == 0 {
			return base64.NewDecoder(base64.StdEncoding, &untilDash{b})
		}
	}
	return broken{errText}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// An untilDash ends where PEM's last line begins.
type untilDash struct{ in *bufio.Reader }

func (u *untilDash) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := u.in.Peek(1); err != nil {
		return 0, err
	}
	have, _ := u.in.Peek(min(u.in.Buffered(), len(p)))
	if i := bytes.IndexByte(have, '-'); i >= 0 {
		have = have[:i]
	}
	if len(have) == 0 {
		return 0, io.EOF
	}
	n := copy(p, have)
	_, err := u.in.Discard(n)
	return n, err
}
