// Package ldap reads a directory server as a whole, over TLS to a pinned authority, into an image that is asked without I/O.
package ldap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra/policy"
)

// Limits of one look at a directory. A server that goes beyond them is not believed at all: the last image serves until it
// is too old.
const (
	maxEntries = 100_000   // entries, groups included
	maxBytes   = 128 << 20 // what the server may send
	maxMessage = 512 << 10 // of that, in one entry; asn1-ber needs some 100 times as much for a while
	maxKept    = 64 << 20  // names and items of an image, about
	maxPages   = 2 * maxEntries / pageSize
	pageSize   = 500
	syncWithin = 5 * time.Minute
	dialWithin = 10 * time.Second
	bindWithin = 30 * time.Second // an answer to one question, a page of entries aside
	maxMapping = 64
)

// A Mapping says what a field of an entry is called in the box. From is
//
//	FIELD        the values as they are
//	FIELD:BASE   of those values that name an entry directly under BASE, the first part: for memberOf:ou=groups,dc=example,dc=com,
//	             "cn=legal,ou=groups,dc=example,dc=com" is legal
//	in:BASE      the same of the groups directly under BASE that have the entry as member or uniqueMember
//
// A name is never taken from a group elsewhere: who may make groups in some corner of a directory could call one legal.
type Mapping struct {
	Kind policy.Kind
	Name string // of an attribute, a device attribute or an alias; else empty
	From string
}

// A Config says where a directory is and what is to be read of it.
type Config struct {
	URL      string              // ldaps://HOST or ldaps://HOST:PORT
	Roots    []*x509.Certificate // authorities of the server; no others are believed
	Bind     string              // distinguished name; empty: nobody
	Password func() []byte       // returns a copy, which is cleared; nil if Bind is empty
	Base     string
	Filter   string // empty: all entries
	Name     string // whose an entry is, see match; empty: the entry's own name is the subject of the certificate
	Map      []Mapping
	Dial     inform.Dial      // to the server; nil: this host's
	Now      func() time.Time // by which the server's certificate is judged; nil: this host's
}

// A Server is a directory server. Sync is not for two goroutines at once.
type Server struct {
	host, address string
	roots         *x509.CertPool
	bind          string
	password      func() []byte
	base, filter  string
	match         match
	fields        []field
	dial          inform.Dial
	now           func() time.Time
}

// New checks a configuration. It asks nobody.
func New(c Config) (*Server, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("address %.100q: want ldaps://HOST", c.URL)
	}
	port := u.Port()
	if port == "" {
		port = goldap.DefaultLdapsPort
	}
	s := &Server{host: u.Hostname(), address: net.JoinHostPort(u.Hostname(), port), roots: x509.NewCertPool(),
		bind: c.Bind, password: c.Password, base: c.Base, filter: c.Filter, dial: c.Dial, now: c.Now}
	if s.dial == nil {
		s.dial = (&net.Dialer{}).DialContext
	}
	if len(c.Roots) == 0 {
		return nil, errors.New("certification authority of the server is missing")
	}
	for _, root := range c.Roots {
		s.roots.AddCert(root)
	}
	if s.filter == "" {
		s.filter = "(objectClass=*)"
	}
	if _, err := goldap.CompileFilter(s.filter); err != nil {
		return nil, fmt.Errorf("filter %.100q: %w", s.filter, err)
	}
	if _, err := parseName(c.Base); err != nil {
		return nil, fmt.Errorf("base %.100q: %w", c.Base, err)
	}
	if (c.Bind == "") != (c.Password == nil) {
		return nil, errors.New("a name to bind as and a password belong together")
	}
	if s.match, err = parseMatch(c.Name); err != nil {
		return nil, err
	}
	if len(c.Map) > maxMapping {
		return nil, fmt.Errorf("more than %d fields", maxMapping)
	}
	for _, m := range c.Map {
		f, err := parseField(m)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, f)
	}
	return s, nil
}

// Sync implements inform.Server. Entries that change while it reads are seen before or after their change.
func (s *Server) Sync(ctx context.Context) (inform.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	i, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read directory %s: %w", s.address, err)
	}
	return i, nil
}

func (s *Server) read(ctx context.Context) (*image, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	b := builder{server: s, of: map[string]*record{}, groups: map[string][]member{}}
	for _, f := range s.fields {
		if f.groups == nil || b.read[f.base] {
			continue
		}
		if err := c.search(ctx, question{f.base, goldap.ScopeSingleLevel, groupFilter, memberFields}, b.group(f)); err != nil {
			return nil, fmt.Errorf("groups under %s: %w", f.base, err)
		}
		b.done(f.base)
	}
	if err := c.search(ctx, question{s.base, goldap.ScopeWholeSubtree, s.filter, s.wanted()}, b.person); err != nil {
		return nil, fmt.Errorf("entries under %s: %w", s.base, err)
	}
	return &image{s.match, b.of}, nil
}

// wanted are the fields to ask for; "1.1" is none (RFC 4511 section 4.5.1.8).
func (s *Server) wanted() (names []string) {
	if s.match.field != "" {
		names = append(names, s.match.field)
	}
	for _, f := range s.fields {
		if f.groups == nil {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return []string{"1.1"}
	}
	return names
}
