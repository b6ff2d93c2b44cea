package nts

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"

	"github.com/keyrelease/krabox/appliance/nts/siv"
)

// A Reading is how far the truth is ahead of this machine's clock, as one server has it: Offset, give or take Uncertainty. The
// uncertainty is the root distance of RFC 5905: half of the whole way to the reference clock and back, and what the clocks on it
// may have drifted.
type Reading struct{ Offset, Uncertainty time.Duration }

// A Client asks one server. It is used by one goroutine at a time.
type Client struct {
	server Server
	s      *session // nil: keys have to be established
}

// NewClient returns a client of a server. It asks nobody yet.
func NewClient(s Server) *Client { return &Client{server: s} }

// queryWithin is how long an NTP answer may take: later it would be too uncertain.
const queryWithin = 3 * time.Second

// Ask reads the server's clock. After any failure keys are established anew.
func (c *Client) Ask(ctx context.Context) (Reading, error) {
	if c.s == nil || len(c.s.cookies) == 0 {
		s, err := c.server.establish(ctx)
		if err != nil {
			return Reading{}, err
		}
		c.s = s
	}
	r, err := c.query(ctx)
	if err != nil {
		c.s = nil
		return Reading{}, fmt.Errorf("ask for the time: %w", err)
	}
	return r, nil
}

func (c *Client) query(ctx context.Context) (Reading, error) {
	x := &exchange{s: c.s}
	r, err := ntp.QueryWithOptions(c.s.ntp, ntp.QueryOptions{
		Timeout:       queryWithin,
		Extensions:    []ntp.Extension{x},
		GetSystemTime: time.Now,
		Dialer: func(_, remote string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, queryWithin)
			defer cancel()
			return c.server.Dial(ctx, "udp", remote)
		},
	})
	if err != nil {
		return Reading{}, err
	}
	if !x.authentic {
		return Reading{}, siv.ErrForged
	}
	if err := r.Validate(); err != nil {
		return Reading{}, err
	}
	// The server's certificate has to be good at the time that it tells, not only at ours: who got hold of the key of an old one
	// can tell no later time.
	if at := time.Now().Add(r.ClockOffset); at.Before(c.s.from) || at.After(c.s.to) {
		return Reading{}, errors.New("the server tells a time at which its certificate is not valid")
	}
	return Reading{r.ClockOffset, r.RootDistance}, nil
}

// Extension fields (RFC 8915 section 5): type 2 bytes | length of the whole 2 bytes | body, to a multiple of 4.
const (
	fieldUnique = 0x0104
	fieldCookie = 0x0204
	fieldAuth   = 0x0404

	ntpHeader  = 48 // bytes
	nonceSize  = 16
	uniqueSize = 32
)

// An exchange is one question and its answer.
type exchange struct {
	s         *session
	unique    [uniqueSize]byte
	authentic bool
}

// ProcessQuery adds what makes a question NTS: each cookie is used once, so that nobody can tell two questions of the box by it.
func (x *exchange) ProcessQuery(b *bytes.Buffer) error {
	_, _ = rand.Read(x.unique[:]) // never fails
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce)
	cookie := x.s.cookies[0]
	x.s.cookies = x.s.cookies[1:]
	appendField(b, fieldUnique, x.unique[:])
	appendField(b, fieldCookie, cookie)
	sealed := x.s.out.Seal(nil, b.Bytes(), nonce)
	body := binary.BigEndian.AppendUint16(nil, uint16(len(nonce)))
	body = binary.BigEndian.AppendUint16(body, uint16(len(sealed)))
	appendField(b, fieldAuth, append(append(body, nonce...), sealed...))
	return nil
}

func appendField(b *bytes.Buffer, kind uint16, body []byte) {
	padding := -len(body) & 3
	b.Write(binary.BigEndian.AppendUint16(nil, kind))
	b.Write(binary.BigEndian.AppendUint16(nil, uint16(4+len(body)+padding)))
	b.Write(body)
	b.Write(make([]byte, padding))
}

// ProcessResponse accepts an answer to this question that the server has authenticated. What follows the authenticator is nobody's word.
func (x *exchange) ProcessResponse(m []byte) error {
	mine := false
	for at := ntpHeader; at < len(m); {
		kind, body, size, err := field(m[at:])
		if err != nil {
			return err
		}
		switch kind {
		case fieldUnique:
			mine = subtle.ConstantTimeCompare(body, x.unique[:]) == 1
		case fieldAuth:
			if !mine {
				return errors.New("the answer is to another question")
			}
			return x.authenticate(m[:at], body)
		}
		at += size
	}
	return siv.ErrForged
}

// authenticate checks the authenticator over all that is before it, and takes the new cookies in it.
func (x *exchange) authenticate(before, body []byte) error {
	if len(body) < 4 {
		return siv.ErrForged
	}
	nonce, sealed := int(binary.BigEndian.Uint16(body)), int(binary.BigEndian.Uint16(body[2:]))
	from := 4 + (nonce+3)&^3
	if nonce == 0 || from+sealed > len(body) {
		return siv.ErrForged
	}
	inside, err := x.s.in.Open(body[from:from+sealed], before, body[4:4+nonce])
	if err != nil {
		return err
	}
	x.authentic = true
	for len(inside) > 0 {
		kind, body, size, err := field(inside)
		if err != nil {
			return err
		}
		if kind == fieldCookie && len(body) <= maxCookie && len(x.s.cookies) < maxCookies {
			x.s.cookies = append(x.s.cookies, bytes.Clone(body))
		}
		inside = inside[size:]
	}
	return nil
}

// field reads the first extension field and its size.
func field(b []byte) (kind uint16, body []byte, size int, err error) {
	if len(b) >= 4 {
		size = int(binary.BigEndian.Uint16(b[2:]))
	}
	if size < 4 || size%4 != 0 || size > len(b) {
		return 0, nil, 0, errors.New("the answer has a malformed extension field")
	}
	return binary.BigEndian.Uint16(b), b[4:size], size, nil
}
