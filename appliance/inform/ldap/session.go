package ldap

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	goldap "github.com/go-ldap/ldap/v3"
)

// Active Directory then keeps to the domain of the base and names no other servers ([MS-ADTS] section 3.1.1.3.4.1.9). Others
// ignore it.
const domainScope = "1.2.840.113556.1.4.1339"

var (
	errReferral = errors.New("server refers to another one for a part: choose a base that it holds itself")
	errNoEnd    = errors.New("server did not say that the answer is complete (paged results, RFC 2696)")
	errPages    = fmt.Errorf("server has more than %d pages", maxPages)
)

// A session is a connection on which the configured name is bound.
type session struct {
	conn *goldap.Conn
	stop func() bool
}

func (s *Server) open(ctx context.Context) (session, error) {
	within, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	raw, err := s.connect(within)
	if err != nil {
		return session{}, err
	}
	c := session{conn: goldap.NewConn(&messages{Conn: raw, in: bufio.NewReader(raw), left: maxBytes}, true)}
	c.stop = context.AfterFunc(ctx, func() { raw.Close() }) // nobody waits on after that
	c.conn.SetTimeout(bindWithin)
	c.conn.Start()
	if s.bind == "" {
		return c, nil
	}
	password := s.password()
	err = c.conn.Bind(s.bind, string(password))
	clear(password)
	if err != nil {
		c.close()
		return session{}, cmp.Or(ctx.Err(), fmt.Errorf("bind as %s: %w", s.bind, err))
	}
	c.conn.SetTimeout(syncWithin) // of a whole page; ctx ends sooner
	return c, nil
}

func (c session) close() {
	c.stop()
	c.conn.SetTimeout(bindWithin)
	_ = c.conn.Close() // all that was asked has been answered
}

// connect returns a connection on which the server has shown its certificate.
func (s *Server) connect(ctx context.Context) (*tls.Conn, error) {
	raw, err := s.dial(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots, ServerName: s.host, Time: s.now})
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// A question is what to search for.
type question struct {
	base   string
	scope  int
	filter string
	fields []string
}

// search gives each entry to take, one at a time. It succeeds only if the server says that these were all: the client
// library ends a search that broke off in the same way as one that has no more to say.
func (c session) search(ctx context.Context, q question, take func(*goldap.Entry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	page := goldap.NewControlPaging(pageSize)
	for range maxPages {
		r := c.conn.SearchAsync(ctx, goldap.NewSearchRequest(q.base, q.scope, goldap.NeverDerefAliases, 0, 0, false, q.filter, q.fields,
			[]goldap.Control{page, goldap.NewControlString(domainScope, false, "")}), 0)
		end, err := entries(r, take)
		switch {
		case err != nil:
			return cmp.Or(ctx.Err(), err)
		case end == nil:
			return cmp.Or(ctx.Err(), c.conn.GetLastError(), errNoEnd)
		case len(end.Cookie) == 0:
			return nil
		}
		page.SetCookie(end.Cookie)
	}
	return errPages
}

// entries takes one page and returns how the server ended it, nil if it did not.
func entries(r goldap.Response, take func(*goldap.Entry) error) (end *goldap.ControlPaging, err error) {
	for r.Next() {
		switch {
		case r.Entry() != nil:
			if err := take(r.Entry()); err != nil {
				return nil, err
			}
		case r.Referral() != "" || len(r.Controls()) == 0:
			return nil, errReferral
		default:
			end, _ = goldap.FindControl(r.Controls(), goldap.ControlTypePaging).(*goldap.ControlPaging)
		}
	}
	return end, r.Err()
}

// messages reads LDAP messages and holds each, and all together, to a length before anything is made of it.
type messages struct {
	net.Conn
	in   *bufio.Reader
	head []byte // of the present message, still to be read
	body int    // of it, still to be read
	left int    // what may come
}

var errMessage = fmt.Errorf("server sends what is no message, one longer than %d bytes, or more than %d in all", maxMessage, maxBytes)

func (m *messages) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(m.head)+m.body == 0 {
		if err := m.next(); err != nil {
			return 0, err
		}
	}
	if len(m.head) > 0 {
		n = copy(p, m.head)
		m.head = m.head[n:]
		return n, nil
	}
	n, err = m.in.Read(p[:min(len(p), m.body)])
	m.body -= n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads tag and length of a message: a SEQUENCE of definite length (RFC 4511 section 5.1).
func (m *messages) next() error {
	tag, err := m.in.ReadByte()
	if err != nil {
		return err
	}
	first, err := m.in.ReadByte()
	if err != nil {
		return errMessage
	}
	m.head, m.body = []byte{tag, first}, int(first)
	if first >= 0x80 {
		m.body = 0
		for range first & 0x7f {
			c, err := m.in.ReadByte()
			if err != nil {
				return errMessage
			}
			if m.head = append(m.head, c); len(m.head) > 6 {
				return errMessage
			}
			m.body = m.body<<8 | int(c)
		}
	}
	m.left -= len(m.head) + m.body
	if tag != 0x30 || first == 0x80 || m.body > maxMessage || m.left < 0 {
		return errMessage
	}
	return nil
}
